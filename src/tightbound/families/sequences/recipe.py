"""Sequences with latent states: handwriting, music and images read row by row."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import tyro

from tightbound.errors import UserError
from tightbound.families.sequences import FAMILY
from tightbound.families.sequences.objective import StepObjective
from tightbound.train.settings import OptimiserSettings, RunSettings
from tightbound.unread import refuse_unread, replaced

if TYPE_CHECKING:  # a recipe is looked up without JAX; only `build` needs it
    import numpy as np
    from jaxtyping import PRNGKeyArray

    from tightbound.data.batch import Noise, Split
    from tightbound.data.strokes import OffsetScale
    from tightbound.models.stateful import AbstractStateful, AbstractStepwise
    from tightbound.models.twin import Twin
    from tightbound.nn.outputs import AbstractOutput
    from tightbound.train.setup import Setup


@dataclass(frozen=True)
class StrokeData:
    """Pen strokes: offsets and a pen bit."""

    source: Literal["omniglot", "handwriting"] = "omniglot"
    """Others, with settings of their own: strokes (a file of yours), toy-strokes; jsb, muse, nottingham,
    piano-midi, pianorolls, midi; seq-mnist, digits. For instance `--data.source midi --help`."""
    path: str | None = None
    """Your own file of the published one's format; None takes the published one."""
    max_length: int | None = None
    """Longer drawings and sentences are cut into windows; None is whole."""
    max_rows: int | None = None
    """Read only so many drawings or sentences of each split."""
    every: int = 1
    """Keep every so many-th point."""
    clip: float | None = None
    """Largest offset, in the file's units."""
    lengths: tuple[int, ...] = ()
    """Lengths that batches are cut to, ascending; none cuts nothing."""


@dataclass(frozen=True)
class StrokeFile:
    """Pen strokes of your own: a `.npz` of drawings, each dx, dy and pen lifted (stroke-3)."""

    source: Literal["strokes"] = "strokes"
    """Others, with settings of their own: omniglot, handwriting, toy-strokes; jsb, muse, nottingham,
    piano-midi, pianorolls, midi; seq-mnist, digits."""
    path: str | None = None
    """The file; docs/data.md says how the drawings may lie in it."""
    y_grows: Literal["down", "up"] = "down"
    """Which way y grows in the file."""
    max_length: int | None = None
    """Longer drawings are cut into windows; None is whole."""
    max_rows: int | None = None
    """Read only so many drawings of each split."""
    every: int = 1
    """Keep every so many-th point."""
    clip: float | None = None
    """Largest offset, in the file's units."""
    lengths: tuple[int, ...] = ()
    """Lengths that batches are cut to, ascending; none cuts nothing."""


@dataclass(frozen=True)
class MadeUpStrokes:
    """Words of a few made-up letters, without a download."""

    source: Literal["toy-strokes"] = "toy-strokes"
    """Others, with settings of their own: omniglot, handwriting, strokes; jsb, muse, nottingham,
    piano-midi, pianorolls, midi; seq-mnist, digits."""
    num_letters: int = 3
    """Of the longest words."""
    max_length: int | None = None
    """Longer words are cut into windows; None is whole."""
    max_rows: int | None = None
    """Draw only so many words of each split."""
    every: int = 1
    """Keep every so many-th point."""
    clip: float | None = None
    """Largest offset, in the file's units."""
    lengths: tuple[int, ...] = ()
    """Lengths that batches are cut to, ascending; none cuts nothing."""


@dataclass(frozen=True)
class PianorollData:
    """Music as pianorolls of 88 keys."""

    source: Literal["jsb", "muse", "nottingham", "piano-midi", "pianorolls"] = "jsb"
    """nottingham, piano-midi and pianorolls (your own) need a path. Others, with settings of their own:
    midi; omniglot, handwriting, strokes, toy-strokes; seq-mnist, digits."""
    path: str | None = None
    """A `.npz` of rolls; None takes the published one. docs/data.md says how rolls may lie in it."""
    max_length: int | None = None
    """Longest roll trained on; what is held out stays whole."""
    lengths: tuple[int, ...] = ()
    """Lengths that batches are cut to, ascending; none cuts nothing."""


@dataclass(frozen=True)
class MIDIData:
    """Music of your own: a folder of MIDI files."""

    source: Literal["midi"] = "midi"
    """Others, with settings of their own: jsb, muse, nottingham, piano-midi, pianorolls; omniglot,
    handwriting, strokes, toy-strokes; seq-mnist, digits."""
    path: str | None = None
    """The folder; its files are split by their names or folders, or shuffled."""
    quarters_per_step: float = 1.0
    """How many quarter notes a step lasts."""
    max_length: int | None = None
    """Longest roll trained on; what is held out stays whole."""
    lengths: tuple[int, ...] = ()
    """Lengths that batches are cut to, ascending; none cuts nothing."""


@dataclass(frozen=True)
class SequentialMNIST:
    """MNIST, row by row."""

    source: Literal["seq-mnist"] = "seq-mnist"
    """Others, with settings of their own: digits; omniglot, handwriting, strokes, toy-strokes; jsb, muse,
    nottingham, piano-midi, pianorolls, midi."""
    path: str | None = None
    """Your own files of the published ones' format; None takes those."""
    law: Literal["static", "thresholded", "dynamic"] = "static"
    """How grey levels become bits."""
    lengths: tuple[int, ...] = ()
    """Lengths that batches are cut to, ascending; none cuts nothing."""


@dataclass(frozen=True)
class SequentialDigits:
    """8 rows of 8 pixels, whose bits are drawn afresh at every visit; needs no download."""

    source: Literal["digits"] = "digits"
    """Others, with settings of their own: seq-mnist; omniglot, handwriting, strokes, toy-strokes; jsb,
    muse, nottingham, piano-midi, pianorolls, midi."""
    path: str | None = None
    """Your own file of the same format; None takes the one that ships with scikit-learn."""
    lengths: tuple[int, ...] = ()
    """Lengths that batches are cut to, ascending; none cuts nothing."""


AnyStrokes = StrokeData | StrokeFile | MadeUpStrokes
AnyMusic = PianorollData | MIDIData
SequenceData = (
    StrokeData
    | StrokeFile
    | MadeUpStrokes
    | PianorollData
    | MIDIData
    | SequentialMNIST
    | SequentialDigits
)


@dataclass(frozen=True)
class SequenceModel:
    """Sizes, and what is left out."""

    family: Literal["vrnn", "rnn", "dmm"] = "vrnn"
    """With a state and latents; with a state alone; with latents alone, a deep Markov model."""
    cell: Literal["gru", "lstm"] = "gru"
    learned_prior: bool = True
    """vrnn: False gives every latent a standard normal prior (VRNN-I)."""
    smoothing: bool = False
    """The proposal reads what follows, backwards, instead of the present step alone."""
    latent_size: int = 32
    hidden_size: int = 32
    network_size: int = 32
    """Of the hidden layers of every network, and of what is read of x and z."""
    depth: int = 1
    """Their number."""
    activation: Literal["relu", "tanh", "elu", "softplus", "gelu"] = "relu"
    min_scale: float = 0.01
    """Floor of the scales of prior and proposal."""
    output: Literal["bernoulli", "gaussian", "bivariate", "mixture"] = "bernoulli"
    """Strokes: the law of an offset; the pen is Bernoulli beside it."""
    num_components: int = 10
    """mixture: of bivariate Gaussians."""
    min_output_scale: float = 0.05
    """Floor of an offset's scale, in standard deviations of the training data; also the baselines'."""

    def __post_init__(self):
        if self.family == "dmm":
            refuse_unread(self, "family", "cell", "hidden_size", "learned_prior")
        if self.family == "rnn":
            refuse_unread(self, "family", "learned_prior", "smoothing", "latent_size", "min_scale")
        if self.output != "mixture":
            refuse_unread(self, "output", "num_components")
        if self.output == "bernoulli":
            refuse_unread(self, "output", "min_output_scale")


@dataclass(frozen=True)
class SequenceRecipe:
    """A variational recurrent network, or one of its relatives, on sequences."""

    name: tyro.conf.Suppress[str]
    summary: tyro.conf.Suppress[str]
    data: tyro.conf.AvoidSubcommands[SequenceData] = field(default_factory=PianorollData)
    model: SequenceModel = field(default_factory=SequenceModel)
    objective: StepObjective = field(default_factory=StepObjective)
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    run: RunSettings = field(default_factory=RunSettings)

    def build(self, seed: int) -> "Setup":
        """Load the sequences and make everything the run needs."""
        from functools import partial

        import jax

        from tightbound.data.baselines.sequences import baseline_estimates
        from tightbound.families.sequences.details import Details
        from tightbound.train.run import run_keys
        from tightbound.train.schedules import optimiser
        from tightbound.train.setup import Setup

        if isinstance(self.data, AnyStrokes) == (self.model.output == "bernoulli"):
            raise UserError(
                f"The output law {self.model.output!r} was combined with the data "
                f"{self.data.source!r}. Strokes are offsets, which take 'gaussian', 'bivariate' or "
                "'mixture'; music and images are bits, which take 'bernoulli'."
            )
        splits, noise, scale, notes = _load(self.data)
        init_key, _, _ = run_keys(seed)
        example = jax.tree.map(lambda leaf: leaf[0, 0], splits["train"].x.values)
        obs_size = sum(leaf.size for leaf in jax.tree.leaves(example))
        model, proposal = _pair(self.model, obs_size, _first_features(splits, self.model), init_key)
        objective = self.objective.build()
        rows = partial(_baseline_rows, self.data, self.model, splits["train"])
        return Setup(
            name=self.name,
            model=model,
            proposal=proposal,
            data=splits,
            noise=noise,
            objective=objective,
            claim=objective,
            optimiser=optimiser(self.optimiser, self.run.steps),
            run=self.run,
            filtering=self.objective.filtering(),
            baselines=baseline_estimates(rows(splits["valid"]), splits["valid"]),
            baseline_rows=rows,
            twin=lambda key: _twin(self.model, self.objective, key),
            family=FAMILY,
            details=Details(scale),
            notes=(*notes, *_references(splits, scale)),
            seed=seed,
        )


def _load(
    data: SequenceData,
) -> "tuple[dict[str, Split], Noise | None, OffsetScale | None, tuple[str, ...]]":
    """The splits, the noise that makes what the model sees, the scale of offsets, and notes."""
    from tightbound.data.sets.sequential_mnist import (
        BinariseRows,
        load_sequential_digits,
        load_sequential_mnist,
    )

    noise, scale, notes = None, None, ()
    match data:
        case StrokeData() | StrokeFile() | MadeUpStrokes():
            splits, scale, notes = _load_strokes(data)
        case PianorollData() | MIDIData():
            splits, notes = _load_music(data)
        case SequentialMNIST():
            splits = load_sequential_mnist(data.path, law=data.law)
            noise = BinariseRows() if data.law == "dynamic" else None
        case SequentialDigits():
            splits, noise = load_sequential_digits(data.path), BinariseRows()
    if data.lengths:
        splits = {
            name: dataclasses.replace(split, lengths=data.lengths) for name, split in splits.items()
        }
    return splits, noise, scale, notes


def _load_strokes(data: AnyStrokes) -> "tuple[dict[str, Split], OffsetScale, tuple[str, ...]]":
    from tightbound.data.formats.stroke_files import load_stroke_file
    from tightbound.data.sets.omniglot import load_omniglot
    from tightbound.data.sets.unipen import load_unipen
    from tightbound.data.toys.strokes import load_toy_strokes

    cut: Any = {
        "every": data.every,
        "max_length": data.max_length,
        "max_rows": data.max_rows,
        "clip": data.clip,
    }
    match data:
        case StrokeData(source="omniglot"):
            return load_omniglot(data.path, **cut)
        case StrokeData():
            return load_unipen(data.path, **cut)
        case StrokeFile():
            return load_stroke_file(_own(data), y_grows=data.y_grows, **cut)
        case MadeUpStrokes():
            return load_toy_strokes(num_letters=data.num_letters, **cut)


def _load_music(data: AnyMusic) -> "tuple[dict[str, Split], tuple[str, ...]]":
    from tightbound.data.formats.midi import load_midi
    from tightbound.data.sets.pianorolls import load_pianorolls

    if isinstance(data, PianorollData):
        return load_pianorolls(data.source, data.path, max_length=data.max_length), ()
    return load_midi(
        _own(data), quarters_per_step=data.quarters_per_step, max_length=data.max_length
    )


def _own(data: StrokeFile | MIDIData) -> str:
    """The path of a source that has no published files."""
    if data.path is None:
        what = {"strokes": "a file", "midi": "a folder"}[data.source]
        raise UserError(
            f"The data source {data.source!r} reads {what} of yours: give it as --data.path."
        )
    return data.path


def _baseline_rows(
    data: SequenceData, model: SequenceModel, train: "Split", held_out: "Split"
) -> "Mapping[str, np.ndarray]":
    """log p of every row of a split under laws without a state, fitted to the training split."""
    from tightbound.data.baselines import sequences as baselines

    if isinstance(data, AnyStrokes):
        return baselines.stroke_baselines(train, held_out, min_scale=model.min_output_scale)
    if isinstance(data, AnyMusic):
        return baselines.pianoroll_baselines(train, held_out)
    return baselines.pixel_row_baselines(train, held_out)


def _references(splits: "dict[str, Split]", scale: "OffsetScale | None") -> tuple[str, ...]:
    """Of strokes, what a pen that moves by the mean and lifts at its base rate gets wrong."""
    from tightbound.data.baselines.sequences import stroke_references

    if scale is None:
        return ()
    found = stroke_references(splits["train"], splits["valid"], scale)
    return tuple(
        f"{name}, for comparison with the model's own: {estimate}"
        for name, estimate in found.items()
    )


def _first_features(splits: "dict[str, Split]", model: SequenceModel) -> "np.ndarray | None":
    """Of bits, the logits of their smoothed training frequencies."""
    import numpy as np

    if model.output != "bernoulli":
        return None
    train = splits["train"]
    bits = train.x.values[train.mask]
    frequency = (1 + bits.sum(0)) / (2 + len(bits))
    return np.log(frequency / (1 - frequency)).astype(np.float32)


def _output(settings: SequenceModel) -> "AbstractOutput":
    """The law of one observation."""
    from tightbound.nn.gaussian_outputs import BivariateGaussianOutput, DiagonalGaussianOutput
    from tightbound.nn.mixture_output import MixtureOutput
    from tightbound.nn.pen_output import PenOutput

    floor = settings.min_output_scale
    match settings.output:
        case "gaussian":
            return PenOutput(DiagonalGaussianOutput(floor))
        case "bivariate":
            return PenOutput(BivariateGaussianOutput(floor))
        case "mixture":
            component = BivariateGaussianOutput(floor)
            return PenOutput(MixtureOutput(component, settings.num_components))
        case "bernoulli":
            from tightbound.nn.outputs import BernoulliOutput

            return BernoulliOutput()


def _pair(
    settings: SequenceModel,
    obs_size: int,
    first_features: "np.ndarray | None",
    key: "PRNGKeyArray",
    *,
    num_steps: int = 100,
) -> "tuple[AbstractStateful, AbstractStepwise]":
    """The model and its proposal."""
    import jax
    import jax.numpy as jnp

    from tightbound.families.sequences.model import VRNN, StepProposal
    from tightbound.families.sequences.model_markov import DeepMarkovModel
    from tightbound.models.stateful import FromPrior
    from tightbound.nn.activations import activation

    model_key, proposal_key = jax.random.split(key)
    output = _output(settings)
    offset_size = obs_size if settings.output == "bernoulli" else obs_size - 1
    networks: dict[str, Any] = {
        "network_size": settings.network_size,
        "depth": settings.depth,
        "activation": activation(settings.activation),
        "min_scale": settings.min_scale,
    }
    outputs: dict[str, Any] = {
        "num_features": output.num_features(offset_size),
        "first_features": None if first_features is None else jnp.asarray(first_features),
        "num_steps": num_steps,
    }
    latent_size = 0 if settings.family == "rnn" else settings.latent_size
    if settings.family == "dmm":
        model = DeepMarkovModel(latent_size, output, **networks, **outputs, key=model_key)
        reading_size, memory_size = obs_size, latent_size
    else:
        model = VRNN(
            obs_size,
            latent_size,
            output,
            hidden_size=settings.hidden_size,
            cell=settings.cell,
            learned_prior=settings.learned_prior,
            **networks,
            **outputs,
            key=model_key,
        )
        reading_size, memory_size = settings.network_size, settings.hidden_size
    if settings.family == "rnn":
        return model, FromPrior()
    proposal = StepProposal(
        reading_size,
        memory_size,
        latent_size,
        smoothing=settings.smoothing,
        **networks,
        key=proposal_key,
    )
    return model, proposal


def _twin(settings: SequenceModel, objective: StepObjective, key: "PRNGKeyArray") -> "Twin":
    """The same family with one latent and two steps of two keys, or one step of strokes on a grid."""
    import numpy as np

    from tightbound.data.sequences import Sequence
    from tightbound.data.strokes import Strokes
    from tightbound.models.twin import Twin

    small = replaced(settings, latent_size=1, hidden_size=3, network_size=4, depth=1, min_scale=0.3)
    if settings.output == "bernoulli":
        model, proposal = _pair(small, 2, None, key, num_steps=2)
        bits = np.unpackbits(np.arange(16, dtype=np.uint8)[:, None], axis=1)[:, 4:]
        values = bits.reshape(16, 2, 2).astype(np.float32)
        return Twin(model, proposal, Sequence(values, np.ones((16, 2), bool)))
    small = replaced(small, min_output_scale=0.5, num_components=2)
    model, proposal = _pair(small, 3, None, key, num_steps=1)
    line, width = np.linspace(-8.0, 8.0, 81, retstep=True)
    grid = np.stack(np.meshgrid(line, line, [0.0, 1.0], indexing="ij"), -1)
    flat = grid.reshape(-1, 1, 3).astype(np.float32)
    x = Sequence(Strokes(flat[..., :2], flat[..., 2]), np.ones((len(flat), 1), bool))
    return Twin(model, proposal, x, log_cell_volume=float(2 * np.log(width)))


# Few chorales: without a weight decay the held-out bound turns after some 1,500 steps.
_DECAYED = OptimiserSettings(
    "adamw", learning_rate=2e-3, decay="cosine", final_fraction=0.02, weight_decay=0.1
)
_MUSIC_RUN = RunSettings(
    steps=4000, batch_size=4, log_every=50, evaluate_every=500, checkpoint_every=500,
    evaluate_samples=1,
)  # fmt: skip
_STROKE_MODEL = SequenceModel(
    latent_size=8,
    hidden_size=128,
    network_size=64,
    output="mixture",
    num_components=10,
)
_STROKE_RUN = RunSettings(
    steps=3000, batch_size=64, log_every=20, evaluate_every=500, checkpoint_every=500,
    evaluate_samples=1,
)  # fmt: skip
_TOY_MODEL = SequenceModel(
    latent_size=4, hidden_size=24, network_size=24, output="mixture", num_components=3
)
_TOY_RUN = dataclasses.replace(_STROKE_RUN, steps=2000, batch_size=32)
_CLIPPED = OptimiserSettings(learning_rate=1e-3, clip_norm=10.0, warmup_steps=100)

# A state that is fed its own output explains strokes well without latents: let these settle first.
_WARMED_UP = StepObjective(kl_warmup_steps=1000)

RECIPES: Mapping[str, SequenceRecipe] = {
    recipe.name: recipe
    for recipe in [
        SequenceRecipe(
            "vrnn/omniglot",
            "pen strokes of characters in 50 alphabets: offsets from a mixture, pen from a coin",
            data=StrokeData("omniglot", max_length=128, lengths=(16, 32, 48, 64, 128)),
            model=_STROKE_MODEL,
            objective=_WARMED_UP,
            optimiser=_CLIPPED,
            run=_STROKE_RUN,
        ),
        SequenceRecipe(
            "vrnn/handwriting",
            "cursive sentences, test writers never seen: windows of 200 points at 20 Hz",
            data=StrokeData("handwriting", max_length=200, every=5, clip=2000.0),
            model=dataclasses.replace(_STROKE_MODEL, hidden_size=200, network_size=100),
            objective=StepObjective(kl_warmup_steps=500),
            optimiser=_CLIPPED,
            run=dataclasses.replace(_STROKE_RUN, batch_size=32, steps=1500, evaluate_every=250),
        ),
        SequenceRecipe(
            "vrnn/jsb",
            "Bach's chorales, quarter by quarter, trained and judged by a filter of 16 particles",
            data=PianorollData("jsb", lengths=(40, 64, 96, 160)),
            model=SequenceModel(latent_size=32, hidden_size=64, network_size=64),
            objective=StepObjective("fivo", num_samples=16),
            optimiser=_DECAYED,
            run=_MUSIC_RUN,
        ),
        SequenceRecipe(
            "vrnn/muse",
            "orchestral and piano music, longer and in more voices",
            data=PianorollData("muse", max_length=200, lengths=(50, 100, 200, 400, 800, 3200)),
            model=SequenceModel(latent_size=64, hidden_size=128, network_size=128),
            objective=StepObjective("fivo", num_samples=16),
            optimiser=_DECAYED,
            run=dataclasses.replace(_MUSIC_RUN, batch_size=8),
        ),
        SequenceRecipe(
            "vrnn/nottingham",
            "folk tunes with their chords; --data.path names a file made from Nottingham.mat",
            data=PianorollData(
                "nottingham", max_length=200, lengths=(50, 100, 200, 400, 800, 1800)
            ),
            model=SequenceModel(latent_size=64, hidden_size=64, network_size=64),
            objective=StepObjective("fivo", num_samples=16),
            optimiser=_DECAYED,
            run=dataclasses.replace(_MUSIC_RUN, batch_size=8),
        ),
        SequenceRecipe(
            "vrnn/piano-midi",
            "classical piano music; --data.path names a file made from Piano_midi.mat",
            data=PianorollData(
                "piano-midi", max_length=200, lengths=(50, 100, 200, 400, 800, 4000)
            ),
            model=SequenceModel(latent_size=64, hidden_size=64, network_size=64),
            objective=StepObjective("fivo", num_samples=16),
            optimiser=_DECAYED,
            run=dataclasses.replace(_MUSIC_RUN, batch_size=8),
        ),
        SequenceRecipe(
            "vrnn/seq-mnist",
            "images read row by row, in bits",
            data=SequentialMNIST(),
            model=SequenceModel(latent_size=16, hidden_size=128, network_size=128),
            optimiser=OptimiserSettings(learning_rate=1e-3),
            run=dataclasses.replace(_STROKE_RUN, batch_size=128),
        ),
        SequenceRecipe(
            "vrnn/toy-strokes",
            "made-up words of a few letters, in seconds and without a download",
            data=MadeUpStrokes(),
            model=_TOY_MODEL,
            optimiser=OptimiserSettings(learning_rate=3e-3, clip_norm=10.0),
            run=_TOY_RUN,
        ),
        SequenceRecipe(
            "vrnn/digits",
            "8x8 digits read row by row, in bits, without a download",
            data=SequentialDigits(),
            model=replaced(_TOY_MODEL, output="bernoulli"),
            optimiser=OptimiserSettings(learning_rate=3e-3),
            run=_TOY_RUN,
        ),
    ]
}

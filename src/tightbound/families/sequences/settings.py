"""Settings of sequences with latent states: where they come from, and the network."""

from dataclasses import dataclass
from typing import Literal

from tightbound.unread import refuse_unread
from tightbound.values import Count, Few, Name, Positive, Size, require_meant


@dataclass(frozen=True)
class _Sequences:
    """What all sources of sequences have in common; never made itself."""

    source: str = ""
    lengths: tuple[Count, ...] = ()
    """Lengths that batches are cut to, ascending; none cuts nothing."""

    def __post_init__(self):
        require_meant(self)


@dataclass(frozen=True)
class _Strokes(_Sequences):
    """What all sources of pen strokes have in common; never made itself."""

    max_length: Count | None = None
    """Longer drawings, sentences and words are cut into windows; None is whole."""
    max_rows: Count | None = None
    """Only so many drawings, sentences or words of each split."""
    every: Count = 1
    """Keep every so many-th point."""
    clip: Positive | None = None
    """Largest offset, in the file's units."""


@dataclass(frozen=True)
class StrokeData(_Strokes):
    """Pen strokes: offsets and a pen bit."""

    source: Literal["omniglot", "handwriting"] = "omniglot"
    """Others, with settings of their own: strokes (a file of yours), toy-strokes; jsb, muse, nottingham,
    piano-midi, pianorolls, midi; seq-mnist, digits. For instance `--data.source midi --help`."""
    path: Name | None = None
    """Your own file of the published one's format; None takes the published one."""


@dataclass(frozen=True)
class StrokeFile(_Strokes):
    """Pen strokes of your own: a `.npz` of drawings, each dx, dy and pen lifted (stroke-3)."""

    source: Literal["strokes"] = "strokes"
    """Others, with settings of their own: omniglot, handwriting, toy-strokes; jsb, muse, nottingham,
    piano-midi, pianorolls, midi; seq-mnist, digits."""
    path: Name | None = None
    """The file; docs/data.md says how the drawings may lie in it."""
    y_grows: Literal["down", "up"] = "down"
    """Which way y grows in the file."""


@dataclass(frozen=True)
class MadeUpStrokes(_Strokes):
    """Words of a few made-up letters, without a download."""

    source: Literal["toy-strokes"] = "toy-strokes"
    """Others, with settings of their own: omniglot, handwriting, strokes; jsb, muse, nottingham,
    piano-midi, pianorolls, midi; seq-mnist, digits."""
    num_letters: Few = 3
    """Of the longest words."""


@dataclass(frozen=True)
class PianorollData(_Sequences):
    """Music as pianorolls of 88 keys."""

    source: Literal["jsb", "muse", "nottingham", "piano-midi", "pianorolls"] = "jsb"
    """nottingham, piano-midi and pianorolls (your own) need a path. Others, with settings of their own:
    midi; omniglot, handwriting, strokes, toy-strokes; seq-mnist, digits."""
    path: Name | None = None
    """A `.npz` of rolls; None takes the published one. docs/data.md says how rolls may lie in it."""
    max_length: Count | None = None
    """Longest roll trained on; what is held out stays whole."""


@dataclass(frozen=True)
class MIDIData(_Sequences):
    """Music of your own: a folder of MIDI files."""

    source: Literal["midi"] = "midi"
    """Others, with settings of their own: jsb, muse, nottingham, piano-midi, pianorolls; omniglot,
    handwriting, strokes, toy-strokes; seq-mnist, digits."""
    path: Name | None = None
    """The folder; its files are split by their names or folders, or shuffled."""
    quarters_per_step: Positive = 1.0
    """How many quarter notes a step lasts."""
    max_length: Count | None = None
    """Longest roll trained on; what is held out stays whole."""


@dataclass(frozen=True)
class SequentialMNIST(_Sequences):
    """MNIST, row by row."""

    source: Literal["seq-mnist"] = "seq-mnist"
    """Others, with settings of their own: digits; omniglot, handwriting, strokes, toy-strokes; jsb, muse,
    nottingham, piano-midi, pianorolls, midi."""
    path: Name | None = None
    """Your own files of the published ones' format; None takes those."""
    law: Literal["static", "thresholded", "dynamic"] = "static"
    """How grey levels become bits."""


@dataclass(frozen=True)
class SequentialDigits(_Sequences):
    """8 rows of 8 pixels, whose bits are drawn afresh at every visit; needs no download."""

    source: Literal["digits"] = "digits"
    """Others, with settings of their own: seq-mnist; omniglot, handwriting, strokes, toy-strokes; jsb,
    muse, nottingham, piano-midi, pianorolls, midi."""
    path: Name | None = None
    """Your own file of the same format; None takes the one that ships with scikit-learn."""


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
    latent_size: Size = 32
    hidden_size: Size = 32
    network_size: Size = 32
    """Of the hidden layers of every network, and of what is read of x and z."""
    depth: Few = 1
    """Their number."""
    activation: Literal["relu", "tanh", "elu", "softplus", "gelu"] = "relu"
    min_scale: Positive = 0.01
    """Floor of the scales of prior and proposal."""
    output: Literal["bernoulli", "gaussian", "bivariate", "mixture"] = "bernoulli"
    """Strokes: the law of an offset; the pen is Bernoulli beside it."""
    num_components: Size = 10
    """mixture: of bivariate Gaussians."""
    min_output_scale: Positive = 0.05
    """Floor of an offset's scale, in standard deviations of the training data; also the baselines'."""

    def __post_init__(self):
        require_meant(self)
        if self.family == "dmm":
            refuse_unread(self, "family", "cell", "hidden_size", "learned_prior")
        if self.family == "rnn":
            refuse_unread(self, "family", "learned_prior", "smoothing", "latent_size", "min_scale")
        if self.output != "mixture":
            refuse_unread(self, "output", "num_components")
        if self.output == "bernoulli":
            refuse_unread(self, "output", "min_output_scale")

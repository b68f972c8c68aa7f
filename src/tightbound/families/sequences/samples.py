"""Samples of a run on sequences beside held-out ones: strokes, music, images by rows, series."""

import json
from collections.abc import Sequence as Listed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray, PyTree

from tightbound.data.batch import Batch, Split
from tightbound.data.sets.pianorolls import LOWEST_PITCH, NUM_KEYS
from tightbound.data.strokes import OffsetScale, Strokes, positions
from tightbound.errors import UserError
from tightbound.families.sampling import (
    Checkpoints,
    Drawn,
    at_least_one,
    refuse_spherical_alone,
)
from tightbound.families.sequences.details import offset_scale_of
from tightbound.families.sequences.draws import between, free, latents_of, primed
from tightbound.families.sequences.midi import write_midi
from tightbound.families.sequences.panels import write_profile
from tightbound.families.sequences.profile import profile
from tightbound.families.sequences.sheets import (
    SequencePicture,
    write_images,
    write_rolls,
    write_series,
)
from tightbound.families.sequences.stroke_drawings import (
    Line,
    LineKind,
    StrokePicture,
    lay_out,
    svg_file,
)
from tightbound.families.sequences.stroke_drawings import write_png as write_strokes
from tightbound.inference.stepwise import stepwise_pair
from tightbound.models.stateful import AbstractStateful, AbstractStepwise

if TYPE_CHECKING:
    from tightbound.train.loop import TrainState
    from tightbound.train.setup import Setup

Medium = Literal["strokes", "rolls", "images", "series"]

_COLUMNS = {"strokes": 4, "rolls": 2, "images": 8, "series": 2}


@dataclass(frozen=True)
class Shown:
    """One sequence of a contact sheet, in the units of the model. Its first `num_given` steps are
    held-out data."""

    name: str
    values: PyTree[np.ndarray]  # leaves begin with time; real steps only
    num_given: int

    @property
    def is_real(self) -> bool:
        return self.num_given == len(jax.tree.leaves(self.values)[0])


@dataclass(frozen=True)
class SequenceSamples:
    """Sequences (strokes, music, images by rows, series) drawn beside held-out ones. Without a prefix and
    without two rows to mix the model runs freely."""

    num: int = 16
    """Sequences drawn."""
    num_steps: int | None = None
    """Steps that are drawn; by default as many as the held-out row beside has (left)."""
    prefix: int | None = None
    """Steps of held-out rows that are given, after which the model goes on."""
    row: int | None = None
    """The first of the held-out rows shown; 0 by default."""
    between: tuple[int, int] | None = None
    """Two held-out rows: z of both is inferred and mixed step by step, and x is drawn along each mixture
    with the same noise."""
    spherical: bool = False
    """With `--between`: mix along the arc from one z to the other instead of the straight line."""
    columns: int | None = None
    """Pictures in a line of the sheet."""
    seed: int = 0

    @property
    def first_row(self) -> int:
        return self.row or 0

    def write(
        self, setup: "Setup", state: "TrainState", folder: Path, checkpoints: Checkpoints
    ) -> Drawn:
        """Write the sheet, beside it the files of the medium, and what the proposal and the output do at
        every step of a few held-out rows (`profile-step-N.json`, which the report draws)."""
        from tightbound.train.folder import write_whole

        self._refuse_what_cannot_be_meant()
        model, proposal = stepwise_pair(state.model, setup.evaluated(state.proposal))
        valid = setup.data["valid"]
        _refuse_what_is_not_there(self, valid)
        noise_key, draw_key, profile_key = jax.random.split(jax.random.key(self.seed), 3)
        batch = _as_seen(setup, valid.take(_rows(self, valid)), noise_key)
        if self.between is not None:
            name, shown = "between", mixed(model, proposal, batch, self, draw_key)
        elif self.prefix:
            name, shown = "primed", continued_rows(model, proposal, batch, self, draw_key)
        else:
            name, shown = "sampled", run_free(model, batch, self, draw_key)
        step = f"step-{int(state.step):08d}"
        document = {"schema": 1, "step": int(state.step), **profile(setup, state, profile_key)}
        profiles = [folder / f"profile-{step}.json", folder / f"profile-{step}.png"]
        write_whole(profiles[0], json.dumps(document) + "\n")
        write_profile(document, profiles[1])
        medium = medium_of(valid)
        columns = self.columns or _COLUMNS[medium]
        # Last: music needs one more package, and what is above should not wait for it.
        scale = offset_scale_of(setup)
        files = write_sheet(shown, medium, folder, f"{name}-{step}", columns, scale)
        return Drawn([*files, *profiles])

    def _refuse_what_cannot_be_meant(self) -> None:
        at_least_one(
            num=self.num, num_steps=self.num_steps, prefix=self.prefix, columns=self.columns
        )
        refuse_spherical_alone(self.spherical, self.between)
        alone = {"prefix": self.prefix, "num-steps": self.num_steps, "row": self.row}
        clashing = [name for name, value in alone.items() if value is not None]
        if self.between is not None and clashing:
            raise UserError(
                f"--{clashing[0]} was given with --between, which takes the first steps of two rows it "
                "names, as many as the shorter one has. Leave one out."
            )


def run_free(
    model: AbstractStateful, batch: Batch, request: SequenceSamples, key: PRNGKeyArray
) -> list[Shown]:
    """Draws from the model's beginning, each after a real row and as long as it."""
    real = real_rows(batch)
    lengths = [request.num_steps or _length(real[i % len(real)]) for i in range(request.num)]
    drawn = jax.tree.map(np.asarray, free(model, key, request.num, max(lengths)))
    samples = [Shown("drawn", _cut(drawn, i, n), 0) for i, n in enumerate(lengths)]
    return _in_turn(real, samples)


def continued_rows(
    model: AbstractStateful,
    proposal: AbstractStepwise,
    batch: Batch,
    request: SequenceSamples,
    key: PRNGKeyArray,
) -> list[Shown]:
    """Real rows, each with its first steps and what the model makes of them. Where there are fewer
    rows than samples, a row is continued more than once."""
    real = real_rows(batch)
    chosen = np.arange(request.num) % len(real)
    batch = jax.tree.map(lambda leaf: leaf[chosen], batch)
    batch = eqx.tree_at(lambda b: b.rows, batch, np.arange(request.num))  # noise of its own
    left = [request.num_steps or _length(real[i]) - (request.prefix or 0) for i in chosen]
    later = primed(model, proposal, batch, (request.prefix or 0), max(left), key)
    later = jax.tree.map(np.asarray, later)
    samples = []
    for i, num_steps in enumerate(left):
        begun = _cut(real[chosen[i]].values, slice(None), (request.prefix or 0))
        values = jax.tree.map(lambda *a: np.concatenate(a), begun, _cut(later, i, num_steps))
        samples.append(Shown(f"{(request.prefix or 0)} steps given", values, (request.prefix or 0)))
    return _in_turn(real, samples)


def mixed(
    model: AbstractStateful,
    proposal: AbstractStepwise,
    batch: Batch,
    request: SequenceSamples,
    key: PRNGKeyArray,
) -> list[Shown]:
    """The first row, draws along mixtures of both rows' latents (`between` says what that is), the
    second row; as long as the shorter of the two."""
    if "z" not in model.kinds:
        raise UserError(
            f"--between mixes latents, and this {type(model).__name__} has none. Leave it out."
        )
    infer_key, draw_key = jax.random.split(key)
    num_steps = int(batch.num_units.min())
    z = latents_of(model, proposal, batch, infer_key)
    first, last = (jax.tree.map(lambda leaf, i=i: leaf[i, :num_steps], z) for i in (0, 1))
    shares = np.linspace(0, 1, request.num) if request.num > 1 else np.array([0.5])
    dtype = jax.tree.leaves(z)[0].dtype
    drawn = between(
        model, first, last, jnp.asarray(shares, dtype), draw_key, spherical=request.spherical
    )
    drawn = jax.tree.map(np.asarray, drawn)
    samples = [
        Shown(f"{share:.0%} of the way", _cut(drawn, i, num_steps), 0)
        for i, share in enumerate(shares)
    ]
    begin, end = real_rows(batch)
    return [begin, *samples, end]


def real_rows(batch: Batch) -> list[Shown]:
    """The rows of a batch, without their padding."""
    values = jax.tree.map(np.asarray, batch.x.values)
    rows, lengths = np.asarray(batch.rows).tolist(), np.asarray(batch.num_units).tolist()
    return [
        Shown(f"held-out row {row}", _cut(values, i, length), length)
        for i, (row, length) in enumerate(zip(rows, lengths, strict=True))
    ]


def medium_of(split: Split) -> Medium:
    """What sequences of this kind are drawn as. Rolls have 88 bits a step; an image has as many
    steps, in every row, as each has pixels in [0, 1]."""
    values = split.x.values
    if isinstance(values, Strokes):
        return "strokes"
    size = values.shape[-1]
    if size == NUM_KEYS and np.isin(values, (0, 1)).all():
        return "rolls"
    is_square = values.shape[1] == size > 1 and bool(np.all(split.mask))
    return "images" if is_square and values.min() >= 0 and values.max() <= 1 else "series"


def write_sheet(
    shown: Listed[Shown],
    medium: Medium,
    folder: Path,
    name: str,
    columns: int,
    scale: OffsetScale | None,
) -> list[Path]:
    """The sheet as `name.png`; of strokes also as SVG, and of music every drawn roll as MIDI."""
    from tightbound.train.folder import write_whole

    png = folder / f"{name}.png"
    if medium == "strokes":
        sheet = lay_out([stroke_picture(one, scale) for one in shown], columns)
        svg = png.with_suffix(".svg")
        write_whole(svg, svg_file(sheet, name))
        write_strokes(sheet, png)
        return [png, svg]
    pictures = [SequencePicture(one.name, one.values, one.num_given) for one in shown]
    if medium in ("images", "series"):
        write = write_images if medium == "images" else write_series
        write(pictures, png, columns)
        return [png]
    write_rolls(pictures, png, columns, lowest_pitch=LOWEST_PITCH)
    drawn = [one.values for one in shown if not one.is_real]
    tunes = [folder / f"{name}-{i:03d}.mid" for i in range(len(drawn))]
    for values, tune in zip(drawn, tunes, strict=True):
        write_midi(values, tune, lowest_pitch=LOWEST_PITCH)
    return [png, *tunes]


def stroke_picture(shown: Shown, scale: OffsetScale | None) -> StrokePicture:
    """Its polylines in the file's units: the sums of de-normalised offsets, broken where the pen was
    drawn as lifted. ValueError where the pen is no draw but a probability."""
    strokes = shown.values
    if not np.isin(strokes.pen, (0, 1)).all():
        raise ValueError(
            "A pen is drawn where it is 0 and lifted where it is 1, but some step has neither. A "
            "model that gives probabilities must draw from them: `sample`, not `mean`."
        )
    offset = strokes.offset if scale is None else scale.undo(strokes.offset)
    kind: LineKind = "real" if shown.is_real else "drawn"
    lines, start = [], 0
    for points in positions(Strokes(offset, strokes.pen)):
        given = 0 if shown.is_real else min(max(shown.num_given - start, 0), len(points))
        if given:
            lines.append(Line(points[:given], "given"))
        if given < len(points):
            lines.append(Line(points[max(given - 1, 0) :], kind))  # from the last given point on
        start += len(points)
    return StrokePicture(shown.name, tuple(lines))


def _rows(request: SequenceSamples, valid: Split) -> np.ndarray:
    """The held-out rows that are needed: from `row` on, those longer than the prefix."""
    if request.between is not None:
        return np.array(request.between)
    long = np.flatnonzero(valid.num_units > (request.prefix or 0))
    return long[long >= request.first_row][: request.num]


def _refuse_what_is_not_there(request: SequenceSamples, valid: Split) -> None:
    last = len(valid) - 1
    asked = request.between if request.between is not None else (request.first_row,)
    option = "row" if request.between is None else "between"
    for row in asked:
        if not 0 <= row <= last:
            raise UserError(
                f"--{option} {row} was asked for, but the held-out split has the rows 0 to {last}."
            )
    longest = int(valid.num_units[request.first_row :].max())
    if request.between is None and (request.prefix or 0) >= longest:
        raise UserError(
            f"--prefix {(request.prefix or 0)} was asked for, but from row {request.first_row} on no held-out row "
            f"has more than {longest} steps. Give at most {longest - 1}."
        )


def _as_seen(setup: "Setup", batch: Batch, key: PRNGKeyArray) -> Batch:
    """The batch as the model sees it, cut to its longest row."""
    if setup.noise is not None:
        batch = setup.noise(batch, key)
    width = int(batch.num_units.max())
    return Batch(
        x=jax.tree.map(lambda leaf: leaf[:, :width], batch.x),
        mask=batch.mask[:, :width],
        num_units=batch.num_units,
        rows=batch.rows,
    )


def _cut(values: PyTree[np.ndarray], row: int | slice, num_steps: int) -> PyTree[np.ndarray]:
    """The first steps of a row; of values without rows where it is `slice(None)`."""
    return jax.tree.map(lambda leaf: leaf[row][:num_steps], values)


def _length(shown: Shown) -> int:
    return len(jax.tree.leaves(shown.values)[0])


def _in_turn(real: Listed[Shown], samples: Listed[Shown]) -> list[Shown]:
    """A real one, a sample, a real one, ...; the samples that are left at the end."""
    pairs = [one for pair in zip(real, samples, strict=False) for one in pair]
    return [*pairs, *samples[len(real) :]]

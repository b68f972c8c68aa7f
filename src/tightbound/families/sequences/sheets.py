"""Contact sheets of pianorolls, of images read by rows and of series, as PNG files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK, _SOFT, _BLUE, _RULE = "#1d2126", "#5c6570", "#1f5fa8", "#dfe2e6"
_WIDTH = 10.8  # inches of 100 pixels: the width of a report's column
_HEIGHT = 1.7  # of a picture with its caption and axis


@dataclass(frozen=True)
class SequencePicture:
    """One sequence of a sheet. Its first `num_given` steps are data: all of a real one, the prefix of
    a primed one, none of a free one."""

    name: str
    values: Float[np.ndarray, "time size"]
    num_given: int

    @property
    def is_real(self) -> bool:
        return self.num_given == len(self.values)


def write_rolls(
    pictures: Sequence[SequencePicture], path: Path, columns: int, *, lowest_pitch: int
) -> None:
    """Steps to the right, pitch upwards, over the pitches that sound anywhere on the sheet; black
    is data, blue is drawn. Column j of a roll is the pitch `lowest_pitch` + j."""
    # Not at the top: matplotlib is an extra.
    from matplotlib.colors import to_rgba_array

    sounding = np.flatnonzero(np.any([p.values.any(0) for p in pictures], axis=0))
    low, high = (sounding[0], sounding[-1]) if len(sounding) else (0, 11)
    lowest, highest = low + lowest_pitch - 1.5, high + lowest_pitch + 1.5
    longest = max(len(picture.values) for picture in pictures)

    def draw(axes: "Axes", picture: SequencePicture) -> None:
        sounds = (picture.values[:, low : high + 1] > 0.5).T
        colours = np.where(np.arange(sounds.shape[1]) < picture.num_given, _INK, _BLUE)
        edges = (0, sounds.shape[1], lowest + 1, highest - 1)  # of the picture, not its middles
        image = np.where(sounds[..., None], to_rgba_array(colours.tolist()), 0.0)
        axes.imshow(image, extent=edges, aspect="auto", origin="lower", interpolation="nearest")
        axes.set(xlim=(0, longest), ylim=(lowest, highest))

    _write(pictures, path, columns, draw, x_label="step", y_label="MIDI pitch")


def write_images(pictures: Sequence[SequencePicture], path: Path, columns: int) -> None:
    """Every step is a row of pixels, the first one on top: 0 is black, 1 is white. A line below the
    rows that are given."""

    def draw(axes: "Axes", picture: SequencePicture) -> None:
        axes.imshow(picture.values, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        if 0 < picture.num_given < len(picture.values):
            axes.axhline(picture.num_given - 0.5, color="#c4570a", linewidth=1.2)
        axes.set(xticks=[], yticks=[])

    _write(pictures, path, columns, draw, x_label="", y_label="")


def write_series(pictures: Sequence[SequencePicture], path: Path, columns: int) -> None:
    """All dimensions of a series in one picture, all pictures to one scale: see `common_range`."""
    low, high = common_range(pictures)
    longest = max(len(picture.values) for picture in pictures)

    def draw(axes: "Axes", picture: SequencePicture) -> None:
        steps = np.arange(len(picture.values))
        lines = axes.plot(steps, picture.values, linewidth=0.9)
        if len(lines) == 1:
            lines[0].set_color(_INK if picture.is_real else _BLUE)
        if 0 < picture.num_given < len(steps):
            axes.axvline(picture.num_given - 0.5, color=_SOFT, linestyle="--", linewidth=0.8)
        axes.set(xlim=(-0.5, longest - 0.5), ylim=(low, high))

    _write(pictures, path, columns, draw, x_label="step", y_label="")


def common_range(pictures: Sequence[SequencePicture]) -> tuple[float, float]:
    """From the lowest to the highest finite value and a margin; but at most twice the range of the
    real ones beyond it, so that a path that explodes does not flatten the others: it is cut off."""
    every = np.concatenate([p.values.ravel() for p in pictures])
    every = every[np.isfinite(every)]
    real = np.concatenate([np.zeros(0), *(p.values.ravel() for p in pictures if p.is_real)])
    low, high = (float(every.min()), float(every.max())) if len(every) else (0.0, 1.0)
    if np.isfinite(real).any():
        bottom, top = float(np.nanmin(real)), float(np.nanmax(real))
        low, high = max(low, 3 * bottom - 2 * top), min(high, 3 * top - 2 * bottom)
    margin = 0.06 * (high - low) or 1.0
    return low - margin, high + margin


def _write(pictures, path, columns, draw, *, x_label, y_label) -> None:
    # Not at the top: matplotlib is an extra. A Figure of its own needs no display and no state.
    from matplotlib.figure import Figure

    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    figure = Figure(figsize=(_WIDTH, _HEIGHT * rows + 0.3), dpi=100, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes in grid.flat[len(pictures) :]:
        axes.set_axis_off()
    for axes, picture in zip(grid.flat, pictures, strict=False):
        draw(axes, picture)
        colour = _INK if picture.is_real else _BLUE
        axes.set_title(picture.name, fontsize=8, color=colour, loc="left", pad=3)
        axes.tick_params(labelsize=7, colors=_SOFT, length=2)
        axes.grid(color=_RULE, linewidth=0.5)
        axes.set_axisbelow(True)
        axes.spines[:].set_color(_RULE)
    figure.supxlabel(x_label, fontsize=8, color=_SOFT)
    figure.supylabel(y_label, fontsize=8, color=_SOFT)
    figure.savefig(path)

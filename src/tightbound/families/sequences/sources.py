"""From settings to sequences, and to what a model without a state gives them."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tightbound.errors import UserError
from tightbound.families.sequences.settings import (
    AnyMusic,
    AnyStrokes,
    MadeUpStrokes,
    MIDIData,
    PianorollData,
    SequenceData,
    SequenceModel,
    SequentialDigits,
    SequentialMNIST,
    StrokeData,
    StrokeFile,
)

if TYPE_CHECKING:  # a recipe is looked up without JAX; only `build` needs it
    import numpy as np

    from tightbound.data.batch import Noise, Split
    from tightbound.data.strokes import OffsetScale


def load(
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


def baseline_rows(
    data: SequenceData, model: SequenceModel, train: "Split", held_out: "Split"
) -> "Mapping[str, np.ndarray]":
    """log p of every row of a split under laws without a state, fitted to the training split."""
    from tightbound.data.baselines import sequences as baselines

    if isinstance(data, AnyStrokes):
        return baselines.stroke_baselines(train, held_out, min_scale=model.min_output_scale)
    if isinstance(data, AnyMusic):
        return baselines.pianoroll_baselines(train, held_out)
    return baselines.pixel_row_baselines(train, held_out)


def references(splits: "dict[str, Split]", scale: "OffsetScale | None") -> tuple[str, ...]:
    """Of strokes, what a pen that moves by the mean and lifts at its base rate gets wrong."""
    from tightbound.data.baselines.sequences import stroke_references

    if scale is None:
        return ()
    found = stroke_references(splits["train"], splits["valid"], scale)
    return tuple(
        f"{name}, for comparison with the model's own: {estimate}"
        for name, estimate in found.items()
    )


def first_features(splits: "dict[str, Split]", model: SequenceModel) -> "np.ndarray | None":
    """Of bits, the logits of their smoothed training frequencies."""
    import numpy as np

    if model.output != "bernoulli":
        return None
    train = splits["train"]
    bits = train.x.values[train.mask]
    frequency = (1 + bits.sum(0)) / (2 + len(bits))
    return np.log(frequency / (1 - frequency)).astype(np.float32)

"""Evidence about normalised offsets: their moments over real steps, and whether drawing undoes it. NumPy."""

import numpy as np
from jaxtyping import Float

from tightbound.data.batch import Split
from tightbound.data.strokes import Strokes
from tightbound.diagnose import evidence as ev
from tightbound.diagnose.laws.asked import Asked
from tightbound.families.sequences.details import offset_scale_of
from tightbound.train.setup import Setup


def laws(asked: Asked) -> dict[str, ev.Transform | None]:
    """Of strokes, how their offsets were normalised, before training alone."""
    return {"transform": transform(asked.setup)} if asked.before_training else {}


def transform(setup: Setup) -> ev.Transform | None:
    """The splits' offsets against the scale the setup states; None where it states none."""
    scale = offset_scale_of(setup)
    if scale is None or not isinstance(setup.data["train"].x.values, Strokes):
        return None
    names = [name for name in ("train", "valid", "test") if name in setup.data]
    moments = [_moments(setup.data[name]) for name in names]
    mean, spread, mean_error, spread_error = (np.stack(each) for each in zip(*moments, strict=True))
    # offsets on a grid around the mean, within any clip
    made = scale.mean + scale.scale * np.linspace(-2.0, 2.0, 9)[:, None]
    if scale.clip is not None:
        made = np.clip(made, -scale.clip, scale.clip)
    back = np.abs(scale.undo(scale.apply(made)) - made) / scale.scale
    return ev.Transform(
        split_names=np.array(names),
        mean=mean,
        scale=spread,
        mean_error=mean_error,
        scale_error=spread_error,
        stated_mean=np.asarray(scale.mean, float),
        stated_scale=np.asarray(scale.scale, float),
        round_trip=float(back.max()),
    )


def _moments(split: Split) -> tuple[Float[np.ndarray, " coordinate"], ...]:
    """Mean and scale over the real steps of all rows, and their standard errors with rows as clusters
    (steps of one row are alike): the delta method on sums per row."""
    offsets = np.asarray(split.x.values.offset, float)
    real = np.asarray(split.mask)[..., None]
    count = real.sum()
    mean = np.where(real, offsets, 0.0).sum((0, 1)) / count
    centred = np.where(real, offsets - mean, 0.0)
    variance = (centred**2).sum((0, 1)) / count
    scale = np.sqrt(variance)
    of_mean = centred.sum(1) / count
    of_variance = np.where(real, centred**2 - variance, 0.0).sum(1) / count
    error = np.sqrt((of_mean**2).sum(0))
    return mean, scale, error, np.sqrt((of_variance**2).sum(0)) / (2 * np.maximum(scale, 1e-12))

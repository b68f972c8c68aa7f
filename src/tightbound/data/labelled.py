"""Images with their labels, for models that condition on them."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Integer, Real

from tightbound.data.batch import Split
from tightbound.data.catalogue import DataError


class Labelled(eqx.Module):
    """What a conditional model sees: the image it models and the label it is given."""

    image: Real[Array | np.ndarray, "*batch pixels"]
    label: Integer[Array | np.ndarray, "*batch"]


def labelled(split: Split) -> Split:
    """The same split with its `groups` given to the model as labels."""
    if split.groups is None:
        raise DataError(
            f"A conditional model was asked for, but the {split.name} split has no labels. Give "
            "the label files too, or train a model that does not condition."
        )
    return replace(split, x=Labelled(image=split.x, label=split.groups.astype(np.int32)))


def image_of(x: Any) -> Any:
    """The image, whether or not something comes with it."""
    return getattr(x, "image", x)

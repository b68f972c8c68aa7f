"""Images for auto-encoders: which ones, and how what a model sees is made from stored grey levels."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tightbound.errors import UserError

if TYPE_CHECKING:  # settings are looked up without JAX
    from tightbound.data.batch import Noise, Split

NUM_LABELS = 10  # what a conditional model is given: digits


@dataclass(frozen=True)
class ImageData:
    """Which images, and how what the model sees is made from the stored grey levels."""

    source: Literal["digits", "mnist", "mnist-static"] = "digits"
    path: str | None = None
    """Your own files of the same format; None takes the published ones."""
    law: Literal["dynamic", "static", "grey", "dequantised"] = "dynamic"
    """Bits drawn afresh at every visit, stored bits, grey levels in [0, 1], or those spread evenly."""
    num_valid: int | None = None
    """Rows held out of the training split; None takes the format's own number."""


def load_images(data: ImageData, *, conditional: bool) -> "tuple[dict[str, Split], Noise, int]":
    """The splits, the noising that makes what the model sees, and the largest stored value."""
    from tightbound.data.formats.idx import MNIST_LEVELS, load_mnist
    from tightbound.data.labelled import labelled
    from tightbound.data.noising import AsFloat, Binarise, Dequantise, Rescale
    from tightbound.data.sets.digits import DIGITS_LEVELS, load_digits
    from tightbound.data.sets.static_mnist import load_static_mnist

    levels = {"digits": DIGITS_LEVELS, "mnist": MNIST_LEVELS, "mnist-static": 1}[data.source]
    if (data.source == "mnist-static") != (data.law == "static"):
        raise UserError(
            f"The data source '{data.source}' was combined with the law '{data.law}'. "
            "'mnist-static' holds bits and takes 'static'; 'digits' and 'mnist' hold grey levels and "
            "take 'dynamic', 'grey' or 'dequantised'."
        )
    noising = {
        "dynamic": Binarise(levels),
        "static": AsFloat(),
        "grey": Rescale(levels),
        "dequantised": Dequantise(levels),
    }[data.law]
    if data.source == "mnist-static" and data.num_valid is not None:
        raise UserError(
            f"`data.num_valid` is {data.num_valid}, but 'mnist-static' comes with its own validation "
            "split. Leave it out."
        )
    held_out = {} if data.num_valid is None else {"num_valid": data.num_valid}
    if data.source == "digits":
        splits = load_digits(data.path, law=noising.law, **held_out)
    elif data.source == "mnist":
        splits = load_mnist(data.path, law=noising.law, **held_out)
    else:
        splits = load_static_mnist(data.path)
    if conditional:
        splits = {name: labelled(split) for name, split in splits.items()}
        largest = max(int(split.x.label.max()) for split in splits.values())
        if largest >= NUM_LABELS:
            raise UserError(
                f"The data have the label {largest}, but the conditional model knows the labels 0 to "
                f"{NUM_LABELS - 1}. Leave out the other classes."
            )
    return splits, noising, levels

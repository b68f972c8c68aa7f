"""What any framework has saved of its draws, as arrays: read and looked over. NumPy only.

Arrays may be lists, NumPy arrays or tensors of another library. Names and axes are those of
`docs/file-formats.md`.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from tightbound.errors import UserError

PARTS = ("log_p_x", "log_p_z", "log_q")


@dataclass(frozen=True)
class SavedWeights:
    """Log-weights, and beside them what they are made of, where it was saved too; in nats per sequence."""

    log_weights: Float[np.ndarray, "samples sequences"]  # log p(x, z) - log q(z | x)
    log_p_x: Float[np.ndarray, "samples sequences"] | None = None  # log p(x | z)
    log_p_z: Float[np.ndarray, "samples sequences"] | None = None
    log_q: Float[np.ndarray, "samples sequences"] | None = None  # log q(z | x)
    num_units: Int[np.ndarray, " sequences"] | None = None  # tokens, frames or pixels of each
    levels: int | None = None  # values that an entry of discrete data can have
    has_latents: bool = True  # whether anything was drawn
    kl_is_known: bool = True  # False where log p(z) holds what a filter has estimated
    is_summed: bool = False  # the log-weights were not saved, but summed of the three parts

    @property
    def summed(self) -> Float[np.ndarray, "samples sequences"] | None:
        """log p(x | z) + log p(z) - log q(z | x), where all three were saved."""
        if self.log_p_x is None or self.log_p_z is None or self.log_q is None:
            return None
        with np.errstate(invalid="ignore"):  # inf - inf
            return self.log_p_x + self.log_p_z - self.log_q

    @property
    def log_ratio(self) -> Float[np.ndarray, "samples sequences"] | None:
        """log q(z | x) - log p(z), whose mean over draws is the KL: from both, or log p(x | z) less the
        weight."""
        if not self.kl_is_known or not self.has_latents:
            return None
        with np.errstate(invalid="ignore"):  # inf - inf
            if self.log_p_z is not None and self.log_q is not None:
                return self.log_q - self.log_p_z
            return None if self.log_p_x is None else self.log_p_x - self.log_weights

    @property
    def reconstruction(self) -> Float[np.ndarray, "samples sequences"] | None:
        """log p(x | z): as it was saved, or the weight and log q(z | x) less log p(z)."""
        if self.log_p_x is not None or self.log_ratio is None:
            return self.log_p_x
        with np.errstate(invalid="ignore"):  # inf - inf
            return self.log_weights + self.log_ratio


@dataclass(frozen=True)
class SavedSteps:
    """What a filter has saved, step by step: the arrays of `StepTerms`, in nats."""

    log_increments: Float[np.ndarray, "time particles sequences"]
    ancestors: Int[np.ndarray, "time particles sequences"]
    resampled: Bool[np.ndarray, "time sequences"]
    mask: Bool[np.ndarray, "time sequences"]
    ess: Float[np.ndarray, "time sequences"] | None = None
    num_units: Int[np.ndarray, " sequences"] | None = None
    log_marginal: Float[np.ndarray, " sequences"] | None = None  # log p(x), where it is known


WEIGHT_NAMES = ("log_weights", *PARTS, "num_units", "levels", "has_latents")
STEP_NAMES = (
    *("log_increments", "ancestors", "resampled", "mask", "ess", "num_units", "log_marginal"),
)


def unread(arrays: Mapping[str, Any]) -> list[str]:
    """A sentence for each array that nothing reads, with the name that may have been meant."""
    known = STEP_NAMES if "log_increments" in arrays else WEIGHT_NAMES
    of_terms = ("format", "site_names", "site_kinds")
    others = [n for n in arrays if n not in (*known, *of_terms) and not n.startswith("site.")]
    return [f"`{name}` was not read: nothing asks for it.{_meant(name, known)}" for name in others]


def _meant(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean `{close[0]}`?" if close else ""


def _known(arrays: Mapping[str, Any], known: Sequence[str]) -> dict[str, Any]:
    """Those that are not None. UserError where one has another name than these."""
    others = [name for name in arrays if name not in known]
    if others:
        raise UserError(
            f"There is nothing called `{others[0]}`.{_meant(others[0], known)} These are read: "
            f"{', '.join(known)}."
        )
    return {name: value for name, value in arrays.items() if value is not None}


def weights_from(arrays: Mapping[str, Any], place: str = "") -> SavedWeights:
    """The record of arrays by name, those that are None left out; `place` says where they are, for
    sentences. UserError where they are not what their names say."""
    given = _known(arrays, WEIGHT_NAMES)
    drawn = {
        name: _numbers(given[name], name, place, "samples, sequences")
        for name in ("log_weights", *PARTS)
        if name in given
    }
    is_summed = "log_weights" not in drawn
    if is_summed and set(PARTS) <= set(drawn):
        _refuse_other_shapes(drawn, "log_p_x", place)
        with np.errstate(invalid="ignore"):  # inf - inf
            total = drawn["log_p_x"] + drawn["log_p_z"] - drawn["log_q"]
        drawn["log_weights"] = total
    if "log_weights" not in drawn:
        raise UserError(
            f"There is no array `log_weights`{place} (there is: {', '.join(given) or 'nothing'}). Save "
            "log p(x, z) - log q(z | x) with shape (samples, sequences) under that name, or `log_p_x`, "
            "`log_p_z` and `log_q`, which sum to it."
        )
    _refuse_other_shapes(drawn, "log_weights", place)
    return SavedWeights(
        log_weights=drawn["log_weights"],
        log_p_x=drawn.get("log_p_x"),
        log_p_z=drawn.get("log_p_z"),
        log_q=drawn.get("log_q"),
        num_units=_counts(given, drawn["log_weights"].shape[1], drawn["log_weights"].shape, place),
        levels=_levels(given.get("levels"), place),
        has_latents=bool(given.get("has_latents", True)),
        is_summed=is_summed,
    )


def weights_of_terms(arrays: Mapping[str, Any], place: str = "") -> SavedWeights:
    """The record of a file that `LogTerms.save` has written. UserError where an entry is missing."""
    names = [str(name) for name in arrays.get("site_names", ())]
    entries = [f"site.{name}.{part}" for name in names for part in ("log_p", "mask")]
    wanted = ("site_names", "site_kinds", "log_weights", "num_units", *entries)
    missing = [entry for entry in wanted if entry not in arrays]
    if missing:
        raise UserError(
            f"The scored sites{place} have no entry `{missing[0]}`, which `LogTerms.save` writes. Save them "
            "again, or give `log_weights` alone, without `format`."
        )
    kinds = dict(zip(map(str, arrays["site_names"]), map(str, arrays["site_kinds"]), strict=True))
    total = np.zeros_like(np.asarray(arrays["log_weights"], np.float64))
    parts = {"observed": total, "latent": total, "auxiliary": total, "q": total}
    for name, kind in kinds.items():
        mask = np.asarray(arrays[f"site.{name}.mask"], bool)
        parts[kind] = parts[kind] + _masked_sum(arrays[f"site.{name}.log_p"], mask)
        if f"site.{name}.log_q" in arrays:
            parts["q"] = parts["q"] + _masked_sum(arrays[f"site.{name}.log_q"], mask)
    has_q = any(f"site.{name}.log_q" in arrays for name in kinds)
    return SavedWeights(
        log_weights=total + np.asarray(arrays["log_weights"], np.float64),
        log_p_x=parts["observed"] if "observed" in kinds.values() else None,
        log_p_z=parts["latent"] + parts["auxiliary"],
        log_q=parts["q"],
        num_units=np.asarray(arrays["num_units"], np.int64),
        has_latents=has_q or set(kinds.values()) != {"observed"},
        kl_is_known=has_q and "observed" in kinds.values() and "auxiliary" not in kinds.values(),
    )


def _masked_sum(
    score: Float[np.ndarray, "samples batch positions"],
    mask: Bool[np.ndarray, "samples batch time"],
) -> Float[np.ndarray, "samples batch"]:
    """Over real positions; what has one value beside a mask with several counts once, as in `Site`."""
    counted = mask if score.shape[-1] == mask.shape[-1] else mask.any(-1, keepdims=True)
    return np.where(counted, np.asarray(score, np.float64), 0.0).sum(-1)


def steps_from(arrays: Mapping[str, Any], place: str = "") -> SavedSteps:
    """The record of a filter's arrays by name. UserError where they are not what their names say."""
    given = _known(arrays, STEP_NAMES)
    axes = "time, particles, sequences"
    missing = [n for n in ("log_increments", "ancestors", "resampled") if n not in given]
    if missing:
        raise UserError(
            f"There is no array `{missing[0]}`{place}. Of a filter these are read: `log_increments` and "
            "`ancestors`, of shape (time, particles, sequences), and `resampled`, (time, sequences)."
        )
    increments = _numbers(given["log_increments"], "log_increments", place, axes)
    num_steps, num_particles, num_sequences = increments.shape
    flat = (num_steps, num_sequences)
    resampled = _shaped(given["resampled"], "resampled", flat, increments.shape, place)
    mask = _shaped(given.get("mask", np.ones(flat, bool)), "mask", flat, increments.shape, place)
    ancestors = _shaped(given["ancestors"], "ancestors", increments.shape, increments.shape, place)
    if not np.issubdtype(ancestors.dtype, np.integer):
        raise UserError(
            f"`ancestors`{place} is {ancestors.dtype}, but whole numbers from 0 to {num_particles - 1} "
            "were meant: the particle of the step before that each one continues."
        )
    if not mask.astype(bool).any():
        raise UserError(f"`mask`{place} has no real step, so there is nothing to judge.")
    ess = given.get("ess")
    if ess is not None:
        ess = np.asarray(_shaped(ess, "ess", flat, increments.shape, place), np.float64)
    log_marginal = given.get("log_marginal")
    if log_marginal is not None:
        log_marginal = _shaped(
            log_marginal, "log_marginal", (num_sequences,), increments.shape, place
        ).astype(np.float64)
    return SavedSteps(
        log_increments=increments,
        ancestors=ancestors.astype(np.int64),
        resampled=resampled.astype(bool),
        mask=mask.astype(bool),
        ess=ess,
        num_units=_counts(given, num_sequences, increments.shape, place),
        log_marginal=log_marginal,
    )


def as_array(value: Any, name: str, place: str = "") -> np.ndarray:
    """A list, an array, or a tensor of another library (which has `detach`), as a NumPy array of numbers."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        try:
            value = value.numpy()
        except TypeError:  # a type that NumPy has not, such as bfloat16
            value = value.float().numpy()
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise UserError(
            f"`{name}`{place} is no array: {error}. Its rows must be equally long."
        ) from None
    if array.dtype.kind not in "fiub":
        raise UserError(
            f"`{name}`{place} is {array.dtype} of shape {array.shape}, but numbers were meant."
        )
    return array


def _numbers(value: Any, name: str, place: str, axes: str) -> Float[np.ndarray, "*shape"]:
    array = as_array(value, name, place)
    if array.ndim != len(axes.split(", ")) or (array.dtype.kind == "b" and array.size):
        raise UserError(
            f"`{name}`{place} is {array.dtype} of shape {array.shape}, but numbers of shape "
            f"({axes}) were meant."
        )
    if array.size == 0:
        raise UserError(f"`{name}`{place} is empty: {array.shape}.")
    return array.astype(np.float64)


def _refuse_other_shapes(drawn: Mapping[str, np.ndarray], first: str, place: str) -> None:
    """UserError where an array has not the shape of the first; it says where one looks transposed."""
    shape = drawn[first].shape
    for name, array in drawn.items():
        if array.shape != shape:
            turned = (
                " Its axes look swapped: give samples first." if array.shape == shape[::-1] else ""
            )
            raise UserError(
                f"`{name}`{place} has shape {array.shape} and `{first}` {shape}: both are "
                f"(samples, sequences) of the same draws.{turned}"
            )


def _shaped(
    value: Any, name: str, wanted: tuple[int, ...], beside: tuple[int, ...], place: str
) -> np.ndarray:
    array = as_array(value, name, place)
    if array.shape != wanted:
        turned = ""
        if len(array.shape) == len(wanted) and sorted(array.shape) == sorted(wanted):
            turned = " The axes of one of them look swapped."
        raise UserError(
            f"`{name}`{place} has shape {array.shape}, but {wanted} was meant beside `log_increments` of "
            f"shape {beside}, (time, particles, sequences).{turned}"
        )
    return array


def _counts(
    given: Mapping[str, Any], num_sequences: int, shape: tuple[int, ...], place: str
) -> Int[np.ndarray, " sequences"] | None:
    """`num_units`, one for each sequence; a single number is that of all."""
    if "num_units" not in given:
        return None
    counts = as_array(given["num_units"], "num_units", place)
    if counts.ndim == 0:
        counts = np.full(num_sequences, counts)
    if counts.shape != (num_sequences,):
        turned = ""
        if len(shape) == 2 and counts.shape == shape[:1]:
            turned = " There are as many as samples: the axes of the log-weights look swapped."
        raise UserError(
            f"`num_units`{place} has shape {counts.shape}, but there are {num_sequences} sequences, each "
            f"with a number of its own.{turned}"
        )
    if (
        not (np.isfinite(counts) & (counts >= 0) & (counts == np.floor(counts))).all()
        or not counts.any()
    ):
        raise UserError(
            f"`num_units`{place} must count the tokens, frames or pixels of each sequence: whole numbers, "
            "none below 0, and not all 0."
        )
    return counts.astype(np.int64)


def _levels(value: Any, place: str) -> int | None:
    """How many values an entry of discrete data can have."""
    if value is None:
        return None
    levels = as_array(value, "levels", place)
    if levels.size != 1 or not levels.item() >= 2 or levels.item() != int(levels.item()):
        raise UserError(
            f"`levels`{place} is {levels.tolist()}, but one whole number from 2 on was meant: how many values "
            "an entry of the data can have, as 256 of bytes, 2 of bits, or the size of a vocabulary."
        )
    return int(levels.item())

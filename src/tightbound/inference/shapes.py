"""What a model and a proposal return, checked while it is traced: before anything is compiled, and at no
cost to the step."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
from jaxtyping import Array, Float

_RULE = "Return one number for each position, or an array of shape (1,) for the whole sequence"


def checked_scores(model: Any, scores: Any, positions: int) -> dict[str, Float[Array, " time"]]:
    """What `model.score` has returned, of one sequence with so many positions in its mask.

    ValueError, with what came and what to do, where it is no dictionary of the model's own sites, or
    where a site has neither a number for each position nor one for the sequence. A number that is
    counted in the wrong place makes a bound that is none.
    """
    name = f"{type(model).__name__}.score"
    if not isinstance(scores, Mapping):
        raise ValueError(
            f"{name} returned a {type(scores).__name__}, but a dictionary of sites was meant. "
            f"Return log p of each of {list(model.kinds)} under its name."
        )
    missing = [site for site in model.kinds if site not in scores]
    unknown = [site for site in scores if site not in model.kinds]
    if missing or unknown:
        raise ValueError(
            f"{name} returned the sites {sorted(scores)}, but `kinds` names {list(model.kinds)}: "
            f"{(missing or unknown)[0]!r} is {'not scored' if missing else 'unknown'}. "
            "Score every site that `kinds` names, and no other."
        )
    return _of_positions(f"{name} returned log p", scores, positions)


def checked_log_q(q: Any, scores: Mapping[str, Any], positions: int) -> dict[str, Array]:
    """What the proposal's `log_prob` has returned, site by site: the same for log q."""
    return _of_positions(f"{type(q).__name__}.log_prob returned log q", scores, positions)


def _of_positions(what: str, scores: Mapping[str, Any], positions: int) -> dict[str, Array]:
    for site, score in scores.items():
        if not hasattr(score, "shape"):
            raise ValueError(
                f"{what} of {site!r} as a {type(score).__name__}, but an array was meant. {_RULE}."
            )
        if score.ndim != 1 or score.shape[0] not in (1, positions):
            advice = (
                "use `[None]` on a single number"
                if score.ndim == 0
                else "sum over pixels, latents and other entries, and leave samples and batch to `weigh`"
            )
            raise ValueError(
                f"{what} of {site!r} with shape {tuple(score.shape)}, but the mask of one sequence has "
                f"shape ({positions},). {_RULE}: {advice}."
            )
    return dict(scores)


@contextmanager
def numpy_is_named(model: Any, proposal: Any) -> Iterator[None]:
    """A NumPy function that was handed a traced array is the cause of JAX's error, in one sentence."""
    try:
        yield
    except jax.errors.TracerArrayConversionError as error:
        raise ValueError(
            f"{type(model).__name__} or {type(proposal).__name__} uses a NumPy function on an array that "
            "JAX traces. Use `jax.numpy` in `score`, `proposal`, `sample` and `log_prob`."
        ) from error

"""What `fit`, `evaluate` and a `Setup` are given, looked at before anything is compiled.

Each function raises UserError with one sentence: what came, what was meant, what to do.
"""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from tightbound.data.batch import Batch, Split
from tightbound.errors import UserError
from tightbound.models.base import AbstractModel, AbstractProposal


def require_pair(model: Any, proposal: Any) -> None:
    """A model and a proposal that `weigh` can call."""
    for name, value, kind in (
        ("model", model, AbstractModel),
        ("proposal", proposal, AbstractProposal),
    ):
        if isinstance(value, kind):
            continue
        if isinstance(value, type) and issubclass(value, kind):
            raise UserError(
                f"The {name} is the class {value.__name__} itself; make one: {value.__name__}(...)."
            )
        raise UserError(
            f"The {name} is {_named(value)}, which is no `tb.{kind.__name__}`. Write "
            f"`class {type(value).__name__}(tb.{kind.__name__})`, with the methods that it asks for."
        )


def require_objective(objective: Any) -> None:
    """Something that can be raised: called with a model, a proposal and a batch."""
    if isinstance(objective, str):
        raise UserError(
            f"The objective is the text {objective!r}; an objective was meant: "
            f"tb.Objective({objective.lower()!r})."
        )
    if not callable(objective) or isinstance(objective, type):
        raise UserError(
            f"The objective is {_named(objective)}; one was meant as tb.Objective('elbo'), or a function "
            "(model, proposal, batch, *, key, step) -> (value, terms)."
        )


def require_optimiser(optimiser: Any) -> None:
    """A transformation of gradients, as Optax makes them."""
    if isinstance(optimiser, int | float):
        raise UserError(
            f"The optimiser is the number {optimiser}; an Optax optimiser was meant: "
            f"optax.adam({optimiser})."
        )
    if not (hasattr(optimiser, "init") and hasattr(optimiser, "update")):
        raise UserError(
            f"The optimiser is {_named(optimiser)}; one that has `init` and `update` was meant, as "
            "optax.adam(1e-3)."
        )


def require_splits(data: Any) -> None:
    """Splits by name."""
    if not isinstance(data, Mapping):
        raise UserError(
            f"The data are {_named(data)}; splits by name were meant: {{'train': split, 'valid': split}}."
        )
    for name, split in data.items():
        require_split(split, name)


def require_split(split: Any, name: str) -> None:
    """A split, and not the array that one is made of."""
    if isinstance(split, Split):
        return
    raise UserError(
        f"The split {name!r} is {_named(split)}; a `tb.Split` was meant: tb.rows({name!r}, array) makes "
        "one of a table with a row for every datum, tb.sequence_split of sequences."
    )


def require_alive(tree: Any) -> None:
    """Arrays that have not been given away: `fit` takes over those of its first state."""
    for leaf in jax.tree.leaves(eqx.filter(tree, eqx.is_array)):
        if isinstance(leaf, jax.Array) and leaf.is_deleted():
            raise UserError(
                "The state's arrays were used up by an earlier `fit`, which takes over those of the state "
                "that it is given. Go on from `record.state`, or make another with `tb.init_state`."
            )


def explained(error: Exception, objective: Any, model: Any, batch: Batch) -> Exception:
    """Why the objective could not be traced, as a sentence where a reason is known; else the error."""
    if isinstance(error, UserError):
        return error
    name = type(objective).__name__ if not hasattr(objective, "__name__") else objective.__name__
    text = str(error).strip().split("\n")[0]
    if "scalar-output" in text:
        return UserError(
            f"The objective {name} returns an array, but one number was meant: the mean over the batch."
        )
    if isinstance(error, TypeError | ValueError) and _returns_no_pair(text):
        return UserError(
            f"The objective {name} must return two things, the number that is raised and the terms that "
            "`tb.weigh` gave. It does not: return value, terms."
        )
    if isinstance(error, TypeError) and ("dot_general" in text or "incompatible shapes" in text):
        shapes = [jnp.shape(leaf)[1:] for leaf in jax.tree.leaves(batch.x)]
        return UserError(
            f"{type(model).__name__} cannot score a row of these data, whose arrays have the shapes "
            f"{shapes}: {text}"
        )
    return error


def _returns_no_pair(text: str) -> bool:
    return "unpack" in text or "not iterable" in text or "iteration over a 0-d array" in text


def _named(value: Any) -> str:
    """A value as one would say what it is."""
    shape = getattr(value, "shape", None)
    kind = type(value).__name__
    return f"an array of shape {tuple(shape)}" if shape is not None else f"a {kind}"

"""The model and the proposal made wrong, in the run and in its twin."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray, PyTree

from tightbound.data.labelled import image_of
from tightbound.models.base import AbstractModel, AbstractProposal
from tightbound.models.twin import Twin
from tightbound.terms import Kind
from tightbound.train.setup import Setup


def _as_it_is(value: Any) -> Any:
    return value


class Changed(AbstractModel):
    """A model of which one part is changed: its scores, the draws of its prior, or what its
    likelihood sees of z."""

    inner: Any
    change_score: Callable[[dict[str, Array]], dict[str, Array]] = eqx.field(
        static=True, default=_as_it_is
    )
    change_draw: Callable[[PyTree[Array]], PyTree[Array]] = eqx.field(
        static=True, default=_as_it_is
    )
    see: Callable[[PyTree[Array]], PyTree[Array]] = eqx.field(static=True, default=_as_it_is)

    @property
    def kinds(self):  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.kinds

    def sample_prior(self, key: PRNGKeyArray) -> PyTree[Array]:
        return self.change_draw(self.inner.sample_prior(key))

    def score(self, x: PyTree[Array], z: PyTree[Array]) -> dict[str, Array]:
        scores = self.inner.score(x, self.see(z))
        observed = {name: scores[name] for name in scores if self.kinds[name] is Kind.OBSERVED}
        return self.change_score(self.inner.score(x, z) | observed)

    def sample_likelihood(self, z: PyTree[Array], key: PRNGKeyArray) -> PyTree[Array]:
        return self.inner.sample_likelihood(self.see(z), key)


def blind(model: AbstractModel) -> AbstractModel:
    """The decoder is given zeros for z."""
    return Changed(model, see=lambda z: jax.tree.map(jnp.zeros_like, z))


def wide_prior(model: AbstractModel) -> AbstractModel:
    """The prior is drawn twice as wide as it is scored."""
    return Changed(model, change_draw=lambda z: jax.tree.map(lambda leaf: 2.0 * leaf, z))


class VarianceForScale(AbstractProposal):
    """A proposal that takes its variance for its scale when drawing."""

    inner: Any

    def proposal(self, x: PyTree[Array]) -> Any:
        return _DrawnWithVariance(self.inner.proposal(x))


class _DrawnWithVariance:
    def __init__(self, inner: Any):
        self.inner = inner

    def sample(self, key: PRNGKeyArray) -> Array:
        noise = jax.random.normal(key, self.inner.mean.shape)
        return self.inner.mean + self.inner.variance * noise

    def log_prob(self, value: Array) -> Array:
        return self.inner.log_prob(value)


class NarrowProposal(AbstractProposal):
    """A proposal with a scale of 1e-4 whatever x is."""

    inner: Any

    def proposal(self, x: PyTree[Array]) -> Any:
        q = self.inner.proposal(x)
        return type(q.base_dist)(q.mean, jnp.full_like(q.mean, 1e-4)).to_event(1)


def with_model(change: Callable[[AbstractModel], AbstractModel]) -> Callable[[Setup], Setup]:
    """The model replaced, in the run and in its twin."""

    def plant(setup: Setup) -> Setup:
        return replace(
            setup,
            model=change(setup.model),
            twin=_twin(setup, lambda twin: replace(twin, model=change(twin.model))),
        )

    return plant


def with_proposal(
    change: Callable[[AbstractProposal], AbstractProposal],
) -> Callable[[Setup], Setup]:
    """The proposal replaced, in the run and in its twin."""

    def plant(setup: Setup) -> Setup:
        return replace(
            setup,
            proposal=change(setup.proposal),
            twin=_twin(setup, lambda twin: replace(twin, proposal=change(twin.proposal))),
        )

    return plant


def _twin(setup: Setup, change: Callable[[Twin], Twin]):
    original = setup.twin
    return None if original is None else lambda key: change(original(key))


def with_score(change: Callable[[dict[str, Array]], dict[str, Array]]) -> Callable[[Setup], Setup]:
    return with_model(lambda model: Changed(model, change))


def density_averaged(setup: Setup) -> Setup:
    """The mean over pixels for the sum, in the run and in its twin, each by its own size."""

    def averaged(model, x):
        size = image_of(x).shape[-1]
        return Changed(model, lambda score: score | {"x": score["x"] / size})

    return replace(
        setup,
        model=averaged(setup.model, setup.data["train"].x),
        twin=_twin(setup, lambda t: replace(t, model=averaged(t.model, t.observations))),
    )


def large_heads(setup: Setup) -> Setup:
    """Output weights fifty times too large."""
    where = lambda model: model.decoder.layers[-1].weight  # noqa: E731
    model: Any = setup.model
    return replace(setup, model=eqx.tree_at(where, model, 50.0 * where(model)))

"""The ways faults are planted in Stein mixtures: in their density, their force, and what they report."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key, PRNGKeyArray, PyTree

from tightbound.diagnose.laws.mixtures import interaction_of, norms
from tightbound.drill.planting import with_proposal
from tightbound.inference.stein import stein_force, transported
from tightbound.inference.weigh import draws
from tightbound.models.base import AbstractProposal
from tightbound.models.mixture import Mixture, mixtures
from tightbound.train.guard import guarded
from tightbound.train.objective import Objective
from tightbound.train.setup import Setup

# --- the density ---------------------------------------------------------------------------------


class ConstrainedAgain(AbstractProposal):
    """A component whose scale has its constraint applied once more when it is scored."""

    inner: Any

    def proposal(self, x: PyTree[Array]) -> Any:
        return _ScoredWithAnotherScale(self.inner.proposal(x))


class _ScoredWithAnotherScale(eqx.Module):
    """Draws of one law, scored at the scale softplus(scale)."""

    inner: Any

    def sample(self, key: PRNGKeyArray) -> PyTree[Array]:
        return self.inner.sample(key)

    def log_prob(self, value: PyTree[Array]) -> Array:
        scale = jax.tree.map(jax.nn.softplus, self.inner.scale)
        return eqx.tree_at(lambda q: q.scale, self.inner, scale).log_prob(value)


def constrained_again(proposal: AbstractProposal) -> AbstractProposal:
    """Every component of a mixture scored at softplus of the scale that it is drawn with."""
    parts: Any = proposal
    wrapped = ConstrainedAgain(parts.components), ConstrainedAgain(parts.shared)
    return Mixture(*wrapped)


class WithoutLogM(AbstractProposal):
    """A mixture that adds its components' densities and does not divide by their number."""

    inner: Any

    def proposal(self, x: PyTree[Array]) -> Any:
        return _Summed(self.inner.proposal(x), self.inner.num_components)


class _Summed(eqx.Module):
    inner: Any
    num_components: int = eqx.field(static=True)

    def sample(self, key: PRNGKeyArray) -> PyTree[Array]:
        return self.inner.sample(key)

    def sample_strata(self, keys: Key[Array, " draws"]) -> PyTree[Array]:
        return self.inner.sample_strata(keys)

    def log_prob(self, value: PyTree[Array]) -> Array:
        return self.inner.log_prob(value) + jnp.log(self.num_components)


def with_another_log_q(
    log_q: Callable[[Float[Array, "rows samples components"]], Float[Array, ""]],
) -> Callable[[Setup], Setup]:
    """The objective with its mean log q replaced by a function of every component's."""

    def plant(setup: Setup) -> Setup:
        claim = setup.claim
        assert isinstance(claim, Objective)

        def wrong(model, proposal, batch, *, key, step):
            value, terms = claim(model, proposal, batch, key=key, step=step)
            mixture = mixtures(proposal)[0]

            def one_row(x, row):
                keys = jax.random.split(jax.random.fold_in(key, row), claim.num_samples)
                z = draws(proposal.proposal(x), keys)
                each = mixture.proposal(x).component_log_probs
                return jax.vmap(each)(z), jax.vmap(proposal.proposal(x).log_prob)(z)

            each, right = jax.vmap(one_row)(batch.x, jnp.asarray(batch.rows))
            return value + right.mean() - log_q(each), terms

        return replace(setup, objective=wrong)

    return plant


def mixed_over_batch(each: Float[Array, "rows samples components"]) -> Float[Array, ""]:
    """The log-mean over components of their log q of a whole minibatch, per row."""
    num_rows, _, num_components = each.shape
    whole = jax.nn.logsumexp(each.sum(0), axis=1) - jnp.log(num_components)
    return whole.mean() / num_rows


def own_component_only(each: Float[Array, "rows samples components"]) -> Float[Array, ""]:
    """log q of the component that has drawn: draw s is of component s mod m."""
    num_samples, num_components = each.shape[1:]
    which = jnp.arange(num_samples) % num_components
    return each[:, jnp.arange(num_samples), which].mean()


# --- what is differentiated, and what is reported ------------------------------------------------


def nothing_held_constant(setup: Setup) -> Setup:
    """The gradient also passes through the parameters in log q."""
    claim = setup.claim
    assert isinstance(claim, Objective)
    return replace(setup, objective=_Another(replace(claim, path="full")))


class _Another:
    """An objective that says nothing of itself."""

    def __init__(self, inner: Objective):
        self.inner = inner

    def __call__(self, model, proposal, batch, *, key, step):
        return self.inner(model, proposal, batch, key=key, step=step)


def force_norm_as_loss(setup: Setup) -> Setup:
    """The value is minus the norm of the Stein force; the gradient is the right one."""
    claim = setup.claim
    assert isinstance(claim, Objective)
    acting = interaction_of(setup)
    assert acting is not None

    def wrong(model, proposal, batch, *, key, step):
        parameters, static = eqx.partition((model, proposal), eqx.is_inexact_array)

        def value(parameters):
            model, proposal = eqx.combine(parameters, static)
            return claim(model, proposal, batch, key=key, step=step)

        slope, terms = jax.grad(value, has_aux=True)(parameters)
        own = eqx.filter(mixtures(proposal)[0].components, eqx.is_inexact_array)
        force = stein_force(
            own,
            mixtures(slope)[0].components,
            acting.kernel,
            repulsion=acting.repulsion,
            num_rows=acting.num_rows,
        )
        size = jnp.linalg.norm(norms(jax.tree.map(jnp.add, force.attraction, force.repulsion)))
        right = claim(model, proposal, batch, key=key, step=step)[0]
        constant = jax.lax.stop_gradient
        return right - constant(right) - constant(size), terms

    return replace(setup, objective=wrong)


def weight_missing(setup: Setup) -> Setup:
    """Every point of a minibatch stands for itself alone."""
    claim = setup.objective

    def wrong(model, proposal, batch, *, key, step):
        ones = jnp.ones_like(jnp.asarray(batch.x.weight))
        batch = eqx.tree_at(lambda b: b.x.weight, batch, ones)
        return claim(model, proposal, batch, key=key, step=step)

    return replace(setup, objective=wrong)


# --- the force -----------------------------------------------------------------------------------


def with_repulsion_times(factor: float) -> Callable[[Setup], Setup]:
    """The Stein force written anew, with its repulsion multiplied: 0 leaves it out, -1 turns it."""

    def plant(setup: Setup) -> Setup:
        acting = interaction_of(setup)
        assert acting is not None

        def update(gradient, state, params=None):
            moved = transported(
                gradient,
                params,
                acting.kernel,
                repulsion=factor * acting.repulsion,
                num_rows=acting.num_rows,
            )
            return moved, state

        force = optax.GradientTransformation(lambda params: optax.EmptyState(), update)  # pyright: ignore[reportArgumentType]
        learns_a_model = bool(jax.tree.leaves(eqx.filter(setup.model, eqx.is_inexact_array)))
        adam = optax.adam(2e-3 if learns_a_model else 2e-2)  # about what the recipes have
        return replace(setup, optimiser=guarded(optax.chain(force, adam)))

    return plant


def moving_one_component(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """The optimiser was given the first component's parameters only."""

    def update(updates, state, params=None):
        updates, state = inner.update(updates, state, params)
        moved: Any = updates
        model, proposal = moved
        first = jax.tree.map(lambda leaf: leaf.at[1:].set(0.0), proposal.components)
        return (model, eqx.tree_at(lambda m: m.components, proposal, first)), state

    return optax.GradientTransformation(inner.init, update)  # pyright: ignore[reportArgumentType]


def equal_at_start(setup: Setup) -> Setup:
    """All components are copies of the first."""
    return with_proposal(all_equal)(setup)


def all_equal(proposal: AbstractProposal) -> AbstractProposal:
    """A mixture whose components have the first one's parameters."""
    parts: Any = proposal
    same = jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf[:1], leaf.shape) if eqx.is_array(leaf) else leaf,
        parts.components,
    )
    return eqx.tree_at(lambda mixture: mixture.components, parts, same)


def others_too_wide(proposal: AbstractProposal) -> AbstractProposal:
    """Encoders of which the first begins with scales e^2 times smaller, all others e^3 times larger."""
    where = lambda mixture: mixture.components.encoder.layers[-1].bias  # noqa: E731
    bias = where(proposal)
    of_scales = jnp.arange(bias.shape[1]) >= bias.shape[1] // 2
    wide = jnp.arange(len(bias))[:, None] > 0
    return eqx.tree_at(where, proposal, bias + of_scales[None] * jnp.where(wide, 3.0, -2.0))


def drawing_from_one(proposal: AbstractProposal) -> AbstractProposal:
    """A mixture that draws from its first component only, and is scored as a whole."""
    return DrawnFromOne(proposal)


class DrawnFromOne(AbstractProposal):
    inner: Any

    def proposal(self, x: PyTree[Array]) -> Any:
        return _FirstDrawn(self.inner.proposal(x))


class _FirstDrawn(eqx.Module):
    inner: Any

    def sample(self, key: PRNGKeyArray) -> PyTree[Array]:
        return self.inner._component(jnp.zeros((), int)).sample(key)

    def sample_strata(self, keys: Key[Array, " draws"]) -> PyTree[Array]:
        return jax.vmap(self.sample)(keys)

    def log_prob(self, value: PyTree[Array]) -> Array:
        return self.inner.log_prob(value)

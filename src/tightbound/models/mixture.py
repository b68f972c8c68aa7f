"""Mixtures of proposals: one per particle of a Stein method, each with parameters of its own."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray, PyTree

from tightbound.models.base import AbstractProposal, Distribution
from tightbound.models.stateful import AbstractStepwise

_ORDER = 0x0DE4  # folded into a draw's key: which components it and its like are of


class Mixture(AbstractProposal):
    """q(z | x) = 1/m sum_l q(z | x, psi_l).   Rønning et al. 2024 (arXiv:2410.22948), sec. 3.

    Per datum: every x has a mixture of its own, so the density of a batch is a product of mixtures and
    no component must explain all of it. `components` is one proposal whose arrays have a leading axis
    of components; `shared` holds those that have not, and is empty where the other is not.
    """

    components: AbstractProposal
    shared: AbstractProposal

    @property
    def num_components(self) -> int:
        return len(jax.tree.leaves(eqx.filter(self.components, eqx.is_array))[0])

    def proposal(self, x: PyTree[Array]) -> "MixtureDistribution":
        each = self.each(lambda component: component.proposal(x))
        return MixtureDistribution(each, self.num_components)

    def each(self, function: Callable[[Any], Any]) -> Any:
        """A function of every component, stacked along a leading axis of components."""
        return eqx.filter_vmap(lambda part: function(eqx.combine(part, self.shared)))(
            self.components
        )


class MixtureDistribution(eqx.Module):
    """The mixture at one x: components stacked along a leading axis, equally likely."""

    components: Any
    num_components: int = eqx.field(static=True)

    def sample(self, key: PRNGKeyArray) -> PyTree[Array]:
        """One draw: of a component taken at random."""
        which_key, draw_key = jax.random.split(key)
        which = jax.random.randint(which_key, (), 0, self.num_components)
        return self._component(which).sample(draw_key)

    def sample_strata(self, keys: Key[Array, " draws"]) -> PyTree[Array]:
        """As many draws as keys, as evenly over the components as their number allows.

        Draw s is of component s mod m; of those left over each is of another component, taken at
        random. A mean over the draws has the expectation of one under the mixture.
        """
        num_even = len(keys) - len(keys) % self.num_components
        parts = []
        if num_even:
            by_component = keys[:num_even].reshape(-1, self.num_components)
            drawn = self.each(lambda q, own: jax.vmap(q.sample)(own), by_component.T)
            parts.append(jax.tree.map(_draws_first, drawn))
        if num_even < len(keys):
            rest = keys[num_even:]
            order = jax.random.permutation(jax.random.fold_in(rest[0], _ORDER), self.num_components)
            parts.append(
                jax.vmap(lambda which, key: self._component(which).sample(key))(
                    order[: len(rest)], rest
                )
            )
        return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)

    def log_prob(self, value: PyTree[Array]) -> Float[Array, ""]:
        """log 1/m sum_l q_l(value), in nats."""
        return logsumexp(self.component_log_probs(value)) - jnp.log(self.num_components)

    def component_log_probs(self, value: PyTree[Array]) -> Float[Array, " component"]:
        """log q_l(value) of every component, in nats; of choices scored one by one their sum."""

        def total(q):
            log_q = q.log_prob(value)
            if isinstance(log_q, dict):
                return sum((term.sum() for term in log_q.values()), start=jnp.zeros(()))
            return jnp.asarray(log_q)

        return self.each(total)

    def responsibilities(self, value: PyTree[Array]) -> Float[Array, " component"]:
        """The probability of every component to have drawn this value."""
        return jax.nn.softmax(self.component_log_probs(value))

    def each(self, function: Callable[..., Any], *mapped: Any) -> Any:
        """A function of every component's distribution, and of what is mapped with it."""
        return eqx.filter_vmap(function)(self.components, *mapped)

    def _component(self, which: Int[Array, ""]) -> Distribution:
        arrays, static = eqx.partition(self.components, eqx.is_array)
        return eqx.combine(jax.tree.map(lambda leaf: leaf[which], arrays), static)


def mixture(
    make: Callable[[PRNGKeyArray], AbstractProposal],
    num_components: int,
    *,
    key: PRNGKeyArray,
    shared: Callable[[str], bool] = lambda path: False,
) -> Mixture:
    """A mixture of `num_components` proposals, each made with a key of its own.

    `shared` is asked of every array by its path (".encoder.layers[0].weight"): where it says True the
    components share one, that of the first. ValueError for fewer than one component, where no array
    is a component's own, and for a proposal that goes along a model's state.
    """
    if num_components < 1:
        raise ValueError(
            f"A mixture of {num_components} components was asked for; it needs at least 1, which is "
            "a single proposal."
        )
    proposals = eqx.filter_vmap(make)(jax.random.split(key, num_components))
    if isinstance(proposals, AbstractStepwise):
        raise ValueError(
            f"{type(proposals).__name__} goes along a model's state step by step, so it has no density of "
            "all choices that could be mixed. Give a proposal that draws all of z at once."
        )
    is_shared = jax.tree_util.tree_map_with_path(
        lambda path, leaf: eqx.is_array(leaf) and shared(jax.tree_util.keystr(path)), proposals
    )
    once, components = eqx.partition(proposals, is_shared)
    if not jax.tree.leaves(eqx.filter(components, eqx.is_inexact_array)):
        raise ValueError(
            f"No parameter of {type(proposals).__name__} belongs to a single component: all are shared, or "
            "there are none. Let at least one differ."
        )
    return Mixture(components, jax.tree.map(lambda leaf: leaf[0], once))


def mixtures(tree: PyTree) -> list[Mixture]:
    """Every mixture in a pytree of modules, outermost first."""
    nodes = jax.tree.leaves(tree, is_leaf=is_mixture)
    return [node for node in nodes if is_mixture(node)]


def is_mixture(node: Any) -> bool:
    return isinstance(node, Mixture)


def _draws_first(leaf: Array) -> Array:
    """(component, draw, ...) as (draw component, ...)."""
    leaf = jnp.moveaxis(leaf, 0, 1)
    return leaf.reshape(-1, *leaf.shape[2:])

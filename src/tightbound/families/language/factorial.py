"""States that are independent a priori and all have their say: a product of small mixtures."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tightbound.families.language.emissions import Components, Table
from tightbound.families.language.structure import AbstractBounded, AbstractStructure

_GROUP = 16  # states of one expert


class Factorial(AbstractBounded):
    """A product of experts with 16 states each, normalised:

        p(class) = prod_g f_g(class) / sum_class' prod_g f_g(class')
        f_g(class) = sum_z P_g(z | c) P_g(class | z),   P_g(. | c) = softmax(A_g c + a_g)

    Hinton 2002, "Training products of experts", eq. 1, with mixtures as experts. The normaliser
    needs every class at every token. But every f_g is a distribution over the classes, so none
    is above 1, their product is at most f_1 and sums to at most 1: without its normaliser it is a
    lower bound on p(class), exact with one expert. `lower_bound` has it.
    """

    weights: Float[Array, "experts states features"]  # A
    weight_bias: Float[Array, "experts states"]  # a
    components: Components

    def __init__(self, num_features: int, components: Components, *, key: PRNGKeyArray):
        num_states = len(components.vectors)
        if num_states > _GROUP and num_states % _GROUP:
            raise ValueError(
                f"Experts of {_GROUP} states were asked for with {num_states} components in all. "
                f"Give a multiple of {_GROUP}, or fewer for a single expert."
            )
        shape = (max(num_states // _GROUP, 1), min(num_states, _GROUP))
        self.weights = jax.random.normal(key, (*shape, num_features)) / num_features**0.5
        self.weight_bias = jnp.zeros(shape)
        # Logits of a product add up: scaled down, so that it starts as near to uniform as one expert.
        scale = shape[0] ** -0.5
        self.components = eqx.tree_at(lambda c: c.vectors, components, scale * components.vectors)

    def lower_bound(self) -> "FactorialBound":
        return FactorialBound(self)

    def log_probs(
        self,
        contexts: Float[Array, "time features"],
        position: Int[Array, ""],
        asked: Int[Array, " asked"],
        table: Table,
    ) -> Float[Array, " asked"]:
        context = contexts[position]
        return self.log_product(context, asked, table) - self.log_normaliser(context, table)

    def log_state(self, context: Float[Array, " features"]) -> Float[Array, "experts states"]:
        """log P_g(z | c), in nats."""
        return jax.nn.log_softmax(self.weights @ context + self.weight_bias, axis=-1)

    def log_product(
        self, context: Float[Array, " features"], asked: Int[Array, " asked"], table: Table
    ) -> Float[Array, " asked"]:
        """log prod_g f_g(class) of the classes asked for, in nats: at most log p(class)."""
        log_component = self._by_expert(self.components.log_probs(asked, table))
        log_joint = self.log_state(context)[:, :, None] + log_component
        return jax.nn.logsumexp(log_joint, axis=1).sum(0)

    def log_normaliser(self, context: Float[Array, " features"], table: Table) -> Float[Array, ""]:
        """log of the product summed over all classes, in nats: at most 0."""
        every = jnp.arange(len(table))
        log_component = self._by_expert(self.components.log_probs(every, table))
        # Over the largest of the states: what does not depend on the context is then computed once.
        highest = jax.lax.stop_gradient(log_component.max(1))
        ratio = jnp.exp(log_component - highest[:, None])
        tiny = jnp.finfo(ratio.dtype).tiny

        def multiply(log_product, expert):
            state, ratio, highest = expert
            factor = jnp.maximum(state @ ratio, tiny)  # 0 only where nothing of the sum is lost
            return log_product + jnp.log(factor) + highest, None

        # One expert at a time: with all at once, a token would need experts x classes numbers.
        experts = (jnp.exp(self.log_state(context)), ratio, highest)
        return jax.nn.logsumexp(jax.lax.scan(multiply, jnp.zeros(len(every)), experts)[0])

    def _by_expert(
        self, log_component: Float[Array, "components asked"]
    ) -> Float[Array, "experts states asked"]:
        return log_component.reshape(*self.weight_bias.shape, -1)


class FactorialBound(AbstractStructure):
    """The product of a factorial structure's experts as it is: a lower bound on p(class), which
    sums to at most 1 over the classes, at the price of the classes asked for alone."""

    factorial: Factorial

    def log_probs(
        self,
        contexts: Float[Array, "time features"],
        position: Int[Array, ""],
        asked: Int[Array, " asked"],
        table: Table,
    ) -> Float[Array, " asked"]:
        return self.factorial.log_product(contexts[position], asked, table)

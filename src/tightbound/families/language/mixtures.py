"""One emission read at several features, mixed: what parents, maps and orders have in common."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tightbound.families.language.emissions import AbstractEmission, MixtureEmission, Table


def mixed_log_probs(
    emission: AbstractEmission,
    features: Float[Array, "alternatives features"],
    log_weights: Float[Array, " alternatives"],
    asked: Int[Array, " asked"],
    table: Table,
) -> Float[Array, " asked"]:
    """log sum_a w_a p(class | features_a) of the classes asked for, in nats.

    A mixture emission has the same components for all alternatives, so they are mixed by mixing its
    weights, with one matrix product; any other emission is evaluated at every alternative. Either
    way, what depends on neither the weights nor the classes stays out of a `vmap` over these.
    An alternative with weight 0 (-inf) counts for nothing.
    """
    if isinstance(emission, MixtureEmission):
        of_alternatives = jnp.exp(jax.vmap(emission.log_weights)(features))
        weights = jnp.exp(log_weights) @ of_alternatives
        return _of_components(emission, weights, asked, table)
    log_p = _in_turn(lambda features: emission.log_probs(features, asked, table), features)
    return jax.nn.logsumexp(log_weights[:, None] + log_p, axis=0)


def mean_in_turn(
    emission: AbstractEmission,
    features: Callable[[Int[Array, " positions"]], Float[Array, " features"]],
    alternatives: Int[Array, "alternatives positions"],
    asked: Int[Array, " asked"],
    table: Table,
) -> Float[Array, " asked"]:
    """log of the mean over the alternatives of p(class | features(alternative)), in nats.

    One alternative after the other, and once more in the backward pass: of many, only the features
    of one are in memory.
    """
    if isinstance(emission, MixtureEmission):
        weights_of = jax.checkpoint(lambda a: jnp.exp(emission.log_weights(features(a))))
        first = jnp.zeros(len(emission.weight_bias), emission.weight_bias.dtype)
        # Added outside of what is computed again: a sum needs nothing kept.
        total = jax.lax.scan(lambda total, a: (total + weights_of(a), None), first, alternatives)[0]
        return _of_components(emission, total / len(alternatives), asked, table)
    log_p = _in_turn(lambda a: emission.log_probs(features(a), asked, table), alternatives)
    return jax.nn.logsumexp(log_p, axis=0) - jnp.log(len(alternatives))


def _in_turn(
    log_prob: Callable[[Array], Float[Array, " asked"]], alternatives: Array
) -> Float[Array, "alternatives asked"]:
    """`log_prob` of each, evaluated again on the way back: its logits of all classes stay in the
    processor's cache, where those of all alternatives would fill the memory. Half the time and a
    tenth of the memory at 8,000 classes."""
    return jax.lax.map(jax.checkpoint(log_prob), alternatives)


def _of_components(
    emission: MixtureEmission,
    weights: Float[Array, " components"],
    asked: Int[Array, " asked"],
    table: Table,
) -> Float[Array, " asked"]:
    """log sum_k w_k p(class | k). The weights stay as they are: a log of one that underflowed would
    have no gradient."""
    log_component = emission.components.log_probs(asked, table)
    return jax.nn.logsumexp(log_component.T, axis=1, b=weights[None])

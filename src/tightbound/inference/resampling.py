"""Resampling schemes: weights -> which particle each particle of the next generation continues.

Every scheme is unbiased, E[children of n] = N w_n / sum(w), and that is all the evidence of a
filter needs; they differ in the noise they add (Douc, Cappe & Moulines 2005, arXiv:cs/0507025).
The weights need not be normalised. A particle without weight has no children, whatever the
rounding; if none has weight, all continue particle 0.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

Scheme = Callable[[PRNGKeyArray, Float[Array, " particles"]], Int[Array, " particles"]]


def multinomial(key: PRNGKeyArray, weights: Float[Array, " particles"]) -> Int[Array, " particles"]:
    """Independent draws: the plainest and the noisiest (Gordon, Salmond & Smith 1993)."""
    uniforms = jax.random.uniform(key, weights.shape, weights.dtype)
    # Summed in parallel, prefixes round differently and may fall: without weight, no rise.
    sums = jax.lax.cummax(jnp.where(weights > 0, _cumulative(weights), 0.0))
    return jnp.searchsorted(sums / sums[-1], uniforms, side="right")


def systematic(key: PRNGKeyArray, weights: Float[Array, " particles"]) -> Int[Array, " particles"]:
    """One uniform, N equally spaced points: the fastest. A particle has floor(N w) or ceil(N w)
    children (Kitagawa 1996, appendix)."""
    return _at_offsets(jax.random.uniform(key, (), weights.dtype), weights)


def stratified(key: PRNGKeyArray, weights: Float[Array, " particles"]) -> Int[Array, " particles"]:
    """One uniform point in each of N equal strata (Kitagawa 1996, appendix)."""
    return _at_offsets(jax.random.uniform(key, weights.shape, weights.dtype), weights)


def residual(key: PRNGKeyArray, weights: Float[Array, " particles"]) -> Int[Array, " particles"]:
    """floor(N w) children for certain, the rest multinomial from what is left of the weights
    (Liu & Chen 1998, sec. 3.1)."""
    expected = len(weights) * weights / weights.sum()
    certain = jnp.floor(expected)
    ends = jnp.cumsum(certain).astype(int)
    fixed = _continue_from(ends - certain.astype(int), certain > 0)
    drawn = multinomial(key, expected - certain)
    return jnp.where(jnp.arange(len(weights)) < ends[-1], fixed, drawn)


SCHEMES: Mapping[str, Scheme] = MappingProxyType(
    {
        "multinomial": multinomial,
        "residual": residual,
        "stratified": stratified,
        "systematic": systematic,
    }
)


def _at_offsets(
    offsets: Float[Array, " particles"] | Float[Array, ""], weights: Float[Array, " particles"]
) -> Int[Array, " particles"]:
    """The particles that own the points (n + offset_n) / N of the cumulative weights.

    Particle i owns the points below N C_i that its predecessors do not. As point n lies in
    stratum n, there are floor(N C_i) points below for certain, and one more if the offset of
    that stratum says so: no search is needed.
    """
    sums = _cumulative(weights)
    scaled = len(weights) * (sums / sums[-1])
    whole = jnp.floor(scaled)
    offset = offsets
    if offsets.ndim:
        offset = offsets[jnp.minimum(whole.astype(int), len(weights) - 1)]
    ends = (whole + (offset < scaled - whole)).astype(int)
    return _continue_from(jnp.concatenate([jnp.zeros(1, int), ends[:-1]]), weights > 0)


def _continue_from(
    starts: Int[Array, " particles"], has_weight: Bool[Array, " particles"]
) -> Int[Array, " particles"]:
    """Child n continues the last particle with weight whose children start at or before n.

    One scatter and one running maximum, several times faster than a binary search; what rounding
    leaves over at the end falls to the last particle with weight.
    """
    num_particles = len(starts)
    places = jnp.where(has_weight, starts, num_particles)
    marks = jnp.zeros(num_particles, int).at[places].max(jnp.arange(num_particles), mode="drop")
    return jax.lax.associative_scan(jnp.maximum, marks)


def _cumulative(weights: Float[Array, " particles"]) -> Float[Array, " particles"]:
    """The sum of the first i weights; twice as fast on a CPU as `jnp.cumsum` at 10,000."""
    return jax.lax.associative_scan(jnp.add, weights)

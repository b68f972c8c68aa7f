"""log-normalisers of those positions alone that need them, at a cost in proportion to their number.

A batch is mapped sequence by sequence, where a branch would be taken on both sides. These functions see
through the map: all positions of all sequences are put together, those that need the cluster come
first, and blocks of them are worked off until none is left.
"""

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Bool, Float, Int

BLOCK = 64  # positions for which one product of matrices is made

Vectors = Float[Array, "positions size"]
Members = Bool[Array, " positions"]
Matrix = Float[Array, "classes size"]
Bias = Float[Array, " classes"]
Normalisers = Float[Array, " positions"]


@jax.custom_vjp
def log_normalisers(vectors: Vectors, members: Members, matrix: Matrix, bias: Bias) -> Normalisers:
    """log sum_w exp(matrix_w . v + bias_w) at the members, in nats; 0 elsewhere. Reverse mode only."""
    return _forward(vectors, members, matrix, bias)


def _with_residuals(vectors, members, matrix, bias):
    log_z = _forward(vectors, members, matrix, bias)
    return log_z, (vectors, members, matrix, bias, log_z)


def _gradient(residuals, cotangent):
    of_vectors, of_matrix, of_bias = _backward(*residuals, cotangent)
    return of_vectors, None, of_matrix, of_bias


log_normalisers.defvjp(_with_residuals, _gradient)


@custom_vmap
def _forward(vectors: Vectors, members: Members, matrix: Matrix, bias: Bias) -> Normalisers:
    order, num_blocks = _blocks(members)

    def block(i, log_z):
        rows = jax.lax.dynamic_slice(order, (i * BLOCK,), (BLOCK,))
        chosen = vectors.at[rows].get(mode="fill", fill_value=0.0)
        found = jax.nn.logsumexp(chosen @ matrix.T + bias[None], axis=-1)
        return log_z.at[rows].set(found, mode="drop")

    log_z = jax.lax.fori_loop(0, num_blocks, block, jnp.zeros(len(vectors), vectors.dtype))
    return jnp.where(members, log_z, 0.0)


@custom_vmap
def _backward(
    vectors: Vectors,
    members: Members,
    matrix: Matrix,
    bias: Bias,
    log_z: Normalisers,
    cotangent: Normalisers,
) -> tuple[Vectors, Matrix, Bias]:
    order, num_blocks = _blocks(members)
    weights = jnp.where(members, cotangent, 0.0)

    def block(i, gradients):
        of_vectors, of_matrix, of_bias = gradients
        rows = jax.lax.dynamic_slice(order, (i * BLOCK,), (BLOCK,))
        chosen, log_norm, weight = (
            part.at[rows].get(mode="fill", fill_value=0.0) for part in (vectors, log_z, weights)
        )
        logits = chosen @ matrix.T + bias[None]
        flow = jnp.where(weight[:, None] == 0.0, 0.0, jnp.exp(logits - log_norm[:, None]))
        flow = weight[:, None] * flow
        of_vectors = of_vectors.at[rows].set(flow @ matrix, mode="drop")
        return of_vectors, of_matrix + flow.T @ chosen, of_bias + flow.sum(0)

    zeros = (jnp.zeros_like(vectors), jnp.zeros_like(matrix), jnp.zeros_like(bias))
    return jax.lax.fori_loop(0, num_blocks, block, zeros)


def _blocks(members: Members) -> tuple[Int[Array, " places"], Int[Array, ""]]:
    """The positions, members first and filled up to whole blocks, and how many blocks have a member."""
    size = len(members)
    order = jnp.argsort(~members, stable=True)
    order = jnp.pad(order, (0, -size % BLOCK), constant_values=size)  # a place that is dropped
    return order, -(-members.sum() // BLOCK)


@_forward.def_vmap
def _forward_of_batch(axis_size, in_batched, vectors, members, matrix, bias):
    _require_shared(in_batched[2:4])
    vectors, members = _as_batch(axis_size, in_batched[:2], (vectors, members))
    found = _forward(_flat(vectors), _flat(members), matrix, bias)
    return found.reshape(members.shape), True


@_backward.def_vmap
def _backward_of_batch(axis_size, in_batched, vectors, members, matrix, bias, log_z, cotangent):
    _require_shared(in_batched[2:4])
    batched = (*in_batched[:2], *in_batched[4:])
    parts = _as_batch(axis_size, batched, (vectors, members, log_z, cotangent))
    flat_vectors, flat_members, flat_log_z, flat_cotangent = map(_flat, parts)
    of_vectors, of_matrix, of_bias = _backward(
        flat_vectors, flat_members, matrix, bias, flat_log_z, flat_cotangent
    )
    return (of_vectors.reshape(parts[0].shape), of_matrix, of_bias), (True, False, False)


def _as_batch(axis_size, batched, parts):
    return tuple(
        part if is_batched else jnp.broadcast_to(part[None], (axis_size, *part.shape))
        for part, is_batched in zip(parts, batched, strict=True)
    )


def _flat(part):
    return part.reshape(-1, *part.shape[2:])


def _require_shared(batched) -> None:
    if any(batched):
        raise ValueError(
            "An adaptive softmax was mapped over several of its own matrices, but its blocks share one. "
            "Map over positions only, or use the exact softmax for a mixture of models."
        )

"""The referee: exact log p(x) and posteriors of small models, by the dullest means available.

It shares no code with what it judges (no scan, no scaling, no gain): sums over every value,
quadrature, loops in NumPy's 64-bit floats, one big Gaussian. Slow on purpose, and for tests,
probes and shrunken twins only.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree
from scipy.special import logsumexp

from tightbound.data.sentences import NUM_MARKS, PAD
from tightbound.families.edits.model import EditModel
from tightbound.families.edits.network import CPY, END, INS, SUB
from tightbound.families.edits.trajectory import Edits, Trajectory
from tightbound.models.base import AbstractModel

_MOST_EDITS = 1 << 18  # sequences of edits: some seconds, and a few gigabytes with a wide network


def all_sequences(num_values: int, num_steps: int) -> Int[np.ndarray, "sequences time"]:
    """Every sequence of `num_steps` choices among `num_values`."""
    return np.array(list(itertools.product(range(num_values), repeat=num_steps)))


def enumerate_log_marginal(
    score: Callable[[Any], dict[str, Float[Array, " _"]]], latent_values: PyTree[Array]
) -> Float[Array, ""]:
    """log sum_z p(x, z), in nats, over the leading axis of `latent_values`: every value of z.

    `score` is a model's own with x given: `lambda z: model.score(x, z)`.
    """
    return jax.nn.logsumexp(jax.vmap(lambda z: _total(score(z)))(latent_values))


def quadrature_log_marginal(
    model: AbstractModel, x: PyTree[Array], *, num_nodes: int = 32, num_moves: int = 8
) -> Float[Array, ""]:
    """log of the integral of p(x, z) over z, a vector of size 1 or 2, in nats.

        p(x) ~ sum_i w_i p(x, c + L u_i) |L| / N(u_i),   u_i, w_i of Gauss and Hermite

    with `num_nodes` nodes per dimension. The nodes start where z ~ N(0, I) would put them and are
    moved `num_moves` times to the mean c and the covariance L L^T of p(z | x) as the last nodes saw
    them (Naylor & Smith 1982, sec. 3). Exact if log p(x, z) is quadratic in z; otherwise
    compare with twice the nodes. A posterior with far modes needs many. Differentiable in the
    model: the places of the nodes are held constant.
    """
    latent = jax.eval_shape(model.sample_prior, jax.random.key(0))
    if not isinstance(latent, jax.ShapeDtypeStruct) or latent.shape not in [(1,), (2,)]:
        raise ValueError(
            f"Quadrature integrates over a latent vector of size 1 or 2, but that of "
            f"{type(model).__name__} is {latent}.\n"
            "Shrink the model, or enumerate its latents if they are discrete."
        )
    (size,) = latent.shape
    nodes, log_weights = _standard_nodes(size, num_nodes)

    def places(centre, factor):
        return centre[None, :] + nodes @ factor.T

    def log_terms(centre, factor):
        log_joint = jax.vmap(lambda z: _total(model.score(x, z)))(places(centre, factor))
        return log_joint + log_weights + jnp.linalg.slogdet(factor)[1]

    centre, factor = jnp.zeros(size), jnp.eye(size)
    for _ in range(num_moves):
        weights = jax.nn.softmax(jax.lax.stop_gradient(log_terms(centre, factor)))
        z = places(centre, factor)
        centre = weights @ z
        away = z - centre[None, :]
        factor = jnp.linalg.cholesky((weights[:, None] * away).T @ away + 1e-12 * jnp.eye(size))
    return jax.nn.logsumexp(log_terms(centre, factor))


def _standard_nodes(
    size: int, num_nodes: int
) -> tuple[Float[np.ndarray, "nodes latent"], Float[np.ndarray, " nodes"]]:
    """Nodes u_i in `size` dimensions, and the logs of w_i / N(u_i; 0, I)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(num_nodes)
    log_ratio = np.log(weights) + 0.5 * nodes**2  # both lack the same sqrt(2 pi)
    grid = np.stack(np.meshgrid(*[nodes] * size, indexing="ij"), axis=-1).reshape(-1, size)
    ratios = np.meshgrid(*[log_ratio] * size, indexing="ij")
    return grid, np.sum(ratios, axis=0).reshape(-1)


def _total(scores: dict[str, Float[Array, " _"]]) -> Float[Array, ""]:
    return jnp.sum(jnp.concatenate(list(scores.values())))


def enumerate_edits(model: EditModel, x: Any, trajectory: Trajectory) -> Float[Array, ""]:
    """log p(x, z) = log sum_e p(x, z, e), in nats, over all edits e that write the trajectory's strings.

    Each is scored by teacher forcing, from nothing. Differentiable in the model; `x` and the
    trajectory must be concrete.
    """
    edits = all_edits(model, trajectory, int(x.num_given))
    return enumerate_log_marginal(lambda e: model.score(x, (trajectory, e)), edits)


def all_edits(model: EditModel, trajectory: Trajectory, num_given: int = 0) -> Edits:
    """Every sequence of edits that writes these strings, on a leading axis.

    A word w can be inserted, copied from any w of the string before, and substituted for any of its
    words, as far as the model has these edits; a given word in one way only.
    """
    rows = np.asarray(trajectory.strings)[: int(trajectory.num_steps)]
    strings = [tuple(row[row != PAD].tolist()) for row in rows]
    return _edits(_edits_of_strings(model, strings, num_given))


def all_writings(model: EditModel) -> tuple[Trajectory, Edits]:
    """Everything a tiny model can write, on a leading axis: every trajectory with all its edits.

    Their probabilities sum to one. Two words, strings of at most three and at most two strings
    are 240 trajectories and 14,394 sequences of edits.
    """
    words = range(NUM_MARKS, len(model.network.token_bias))
    strings = [
        string
        for size in range(model.max_length + 1)
        for string in itertools.product(words, repeat=size)
    ]
    rows, num_steps, tables = [], [], []
    for size in range(1, model.max_steps + 1):
        for written in itertools.product(strings, repeat=size):
            row = np.full((model.max_steps, model.max_length), PAD)
            for step, string in enumerate(written):
                row[step, : len(string)] = string
            tables.append(_edits_of_strings(model, written, num_given=0))
            rows += [row] * len(tables[-1])
            num_steps += [size] * len(tables[-1])
    trajectories = jax.vmap(Trajectory)(jnp.asarray(np.array(rows)), jnp.asarray(num_steps))
    return trajectories, _edits(np.concatenate(tables))


def _edits_of_strings(
    model: EditModel, strings: Sequence[tuple[int, ...]], num_given: int
) -> Int[np.ndarray, "sequences steps positions 2"]:
    """The (op, index) of every decision of every sequence of edits that writes these strings."""
    ways: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for step, (before, string) in enumerate(zip([(), *strings], strings, strict=False)):
        for position, word in enumerate(string):
            ways[step, position] = (
                [(CPY, position + 1) if step else (INS, 0)]
                if position < num_given
                else _edits_that_write(word, before, model.network.legal_ops)
            )
        ways[step, len(string)] = [(END, 0)]
    num_sequences = math.prod(map(len, ways.values()))
    if num_sequences > _MOST_EDITS:
        raise ValueError(
            f"These strings are written by {num_sequences:,} sequences of edits, more than the "
            f"{_MOST_EDITS:,} that are enumerated. Take fewer or shorter strings."
        )
    table = np.zeros((num_sequences, model.max_steps, model.num_positions, 2), int)
    steps, positions = np.array(list(ways)).T
    table[:, steps, positions] = list(itertools.product(*ways.values()))
    return table


def _edits_that_write(
    word: int, before: tuple[int, ...], legal_ops: tuple[int, ...]
) -> list[tuple[int, int]]:
    """The (op, index) of every edit that writes a word, given the string before."""
    copies = [(CPY, slot) for slot, old in enumerate(before, start=1) if old == word]
    substitutions = [(SUB, slot) for slot in range(1, len(before) + 1)]
    return [edit for edit in [(INS, 0), *copies, *substitutions] if edit[0] in legal_ops]


def _edits(table: Int[np.ndarray, "sequences steps positions 2"]) -> Edits:
    return jax.vmap(Edits)(jnp.asarray(table[..., 0]), jnp.asarray(table[..., 1]))


def forward_backward(
    log_initial: Float[np.ndarray, " state"],
    log_transition: Float[np.ndarray, "state state"],
    log_emission: Float[np.ndarray, "time state"],
) -> tuple[float, Float[np.ndarray, "time state"]]:
    """log p(x) of a hidden Markov model, in nats, and p(z_t = k | x): sums in log space.

    The arguments are normalised log-probabilities; `log_emission` is log p(x_t | z_t = k).
    """
    num_steps = len(log_emission)
    forward, backward = np.array(log_emission), np.zeros_like(log_emission)
    forward[0] += log_initial
    for t in range(1, num_steps):
        forward[t] += logsumexp(forward[t - 1][:, None] + log_transition, axis=0)
    for t in reversed(range(num_steps - 1)):
        ahead = log_emission[t + 1] + backward[t + 1]
        backward[t] = logsumexp(log_transition + ahead[None, :], axis=1)
    log_marginal = float(np.logaddexp.reduce(forward[-1]))
    return log_marginal, np.exp(forward + backward - log_marginal)


def dense_gaussian(
    initial_mean: Float[np.ndarray, " latent"],
    initial_cov: Float[np.ndarray, "latent latent"],
    transition: Float[np.ndarray, "latent latent"],
    transition_cov: Float[np.ndarray, "latent latent"],
    emission: Float[np.ndarray, "obs latent"],
    emission_cov: Float[np.ndarray, "obs obs"],
    x: Float[np.ndarray, "time obs"],
) -> tuple[float, Float[np.ndarray, "time latent"], Float[np.ndarray, "time latent latent"]]:
    """log p(x) of a linear-Gaussian state space, in nats, and mean and covariance of z_t given x.

    All of z is one Gaussian vector, all of x another: their joint is written down and conditioned
    at once. Cubic in the number of steps.
    """
    num_steps, size = len(x), len(initial_mean)
    # z = paths @ (z_0, noise_1, noise_2, ...): block (t, s) is A^(t - s).
    powers = [np.linalg.matrix_power(transition, t) for t in range(num_steps)]
    zero = np.zeros_like(transition)
    paths = np.block(
        [[powers[t - s] if s <= t else zero for s in range(num_steps)] for t in range(num_steps)]
    )
    noise = np.kron(np.eye(num_steps), transition_cov)
    noise[:size, :size] = initial_cov
    mean_z = paths[:, :size] @ initial_mean
    cov_z = paths @ noise @ paths.T
    emissions = np.kron(np.eye(num_steps), emission)
    cov_x = emissions @ cov_z @ emissions.T + np.kron(np.eye(num_steps), emission_cov)
    away = x.reshape(-1) - emissions @ mean_z
    log_det = np.linalg.slogdet(2 * np.pi * cov_x)[1]
    log_marginal = -0.5 * (away @ np.linalg.solve(cov_x, away) + log_det)
    gain = cov_z @ emissions.T @ np.linalg.inv(cov_x)
    mean = mean_z + gain @ away
    blocks = (cov_z - gain @ emissions @ cov_z).reshape(num_steps, size, num_steps, size)
    cov = blocks[np.arange(num_steps), :, np.arange(num_steps), :]
    return float(log_marginal), mean.reshape(num_steps, size), cov

"""Sums over pairs of particles. Oracle: a double loop in NumPy, and `jax.grad` of each kernel written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tightbound.inference.kernels import (
    RBF,
    InverseMultiquadric,
    KernelMixture,
    Linear,
    PerSite,
    median_bandwidth,
    squared_distances,
)


def rbf(x, y, bandwidth):
    return jnp.exp(-((x - y) ** 2).sum() / bandwidth)


def imq(x, y, bandwidth):
    return 1 / jnp.sqrt(1 + ((x - y) ** 2).sum() / bandwidth)


def linear(x, y, bandwidth):
    return 1 + (x @ y) / len(x)


def half_and_double(x, y, bandwidth):
    return 0.5 * rbf(x, y, bandwidth) + 2.0 * imq(x, y, bandwidth)


KERNELS = {
    "rbf": (RBF(), rbf),
    "imq": (InverseMultiquadric(), imq),
    "linear": (Linear(), linear),
    "mixture": (KernelMixture((RBF(), InverseMultiquadric()), (0.5, 2.0)), half_and_double),
}


def random_particles(num_particles, seed=0):
    """Pytrees of several leaves, of other scales, with their scores."""
    random = np.random.default_rng(seed)

    def draw(scale):
        return {
            "weight": jnp.array(scale * random.normal(size=(num_particles, 2, 3))),
            "log_scale": jnp.array(10 * scale * random.normal(size=num_particles)),
        }

    return draw(1.0), draw(0.3)


def as_rows(tree):
    """Every particle as one row, in the order of the leaves."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    return np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)


def numpy_bandwidth(rows):
    pairs = [np.linalg.norm(x - y) for i, x in enumerate(rows) for y in rows[:i]]
    return np.median(pairs) ** 2 / np.log(len(rows))


def double_loop(kernel, rows, scores, *, argument=0):
    """sum_x k(x, y) score_x and sum_x grad_x k(x, y); `argument` 1 differentiates in y instead."""
    bandwidth = numpy_bandwidth(rows)
    slope = jax.jit(jax.value_and_grad(kernel, argnums=argument))
    attraction, repulsion = np.zeros_like(rows), np.zeros_like(rows)
    for y in range(len(rows)):
        for x in range(len(rows)):
            value, gradient = slope(rows[x], rows[y], bandwidth)
            attraction[y] += np.asarray(value) * scores[x]
            repulsion[y] += np.asarray(gradient)
    return attraction, repulsion


@pytest.mark.parametrize("name", KERNELS)
def test_what_a_kernel_carries_is_the_double_loop(name):
    """Oracle: the kernel written out, its gradient by `jax.grad`, the bandwidth by NumPy's median.
    Planted: the gradient in the other argument."""
    kernel, written_out = KERNELS[name]
    particles, scores = random_particles(5)
    attraction, repulsion = jax.jit(kernel.transport)(particles, scores)
    rows = as_rows(particles)
    expected = double_loop(written_out, rows, as_rows(scores))
    assert_allclose(as_rows(attraction), expected[0], rtol=1e-9)
    assert_allclose(as_rows(repulsion), expected[1], rtol=1e-9, atol=1e-12)
    _, wrong = double_loop(written_out, rows, as_rows(scores), argument=1)
    assert np.abs(as_rows(repulsion) - wrong).max() > 0.1


def test_a_kernel_per_site_is_a_double_loop_of_its_own_at_every_array():
    """Oracle: the double loop array by array. Planted: one kernel of all arrays together."""
    particles, scores = random_particles(5)
    found = jax.jit(PerSite(RBF()).transport)(particles, scores)
    for name in particles:
        expected = double_loop(rbf, as_rows(particles[name]), as_rows(scores[name]))
        for part, right in zip(found, expected, strict=True):
            assert_allclose(as_rows(part[name]), right, rtol=1e-9, atol=1e-12)
    for part, whole in zip(found, jax.jit(RBF().transport)(particles, scores), strict=True):
        assert np.abs(as_rows(part) - as_rows(whole)).max() > 0.1


@pytest.mark.parametrize("name", KERNELS)
def test_particles_in_another_order_are_carried_the_same(name):
    """Identity: permuting particles permutes what is carried, to rounding."""
    kernel, _ = KERNELS[name]
    order = np.array([3, 0, 4, 2, 1])
    particles, scores = random_particles(5)
    permuted = jax.tree.map(lambda leaf: leaf[order], (particles, scores))
    transport = jax.jit(kernel.transport)
    for whole, part in zip(transport(particles, scores), transport(*permuted), strict=True):
        assert_allclose(as_rows(part), as_rows(whole)[order], rtol=1e-9, atol=1e-12)


RADIAL = pytest.mark.parametrize("kernel", [RBF(), InverseMultiquadric(), PerSite(RBF())])


@RADIAL
def test_equal_particles_do_not_repel_each_other_at_all(kernel):
    """Exactly 0: particles that began equal stay equal, as rounding alone would not have it. Each
    carries the scores of all: k is 1."""
    particles, scores = random_particles(4)
    equal = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf[:1], leaf.shape), particles)
    attraction, repulsion = jax.jit(kernel.transport)(equal, scores)
    assert_array_equal(as_rows(repulsion), 0.0)
    assert_allclose(as_rows(attraction), np.tile(as_rows(scores).sum(0), (4, 1)), rtol=1e-12)


@RADIAL
def test_a_single_particle_carries_its_own_score(kernel):
    """k(x, x) is 1 and its gradient 0, to the bit: one component is a single guide."""
    particles, scores = random_particles(1)
    attraction, repulsion = jax.jit(kernel.transport)(particles, scores)
    assert_array_equal(as_rows(attraction), as_rows(scores))
    assert_array_equal(as_rows(repulsion), 0.0)


@pytest.mark.parametrize("places", [[0.0, 2.0], [0.0, 1.0, 3.0, 7.0], [0.0, 1.0, 3.0, 7.0, 12.0]])
def test_the_bandwidth_is_the_squared_median_distance_over_log_m(places):
    """Oracle: NumPy's median of all distances. Planted: the median of squared distances, which
    differs where the number of pairs is even (6 and 10, not 1)."""
    rows = np.array(places)[:, None]
    squared = jax.jit(squared_distances)(rows)
    found = float(jax.jit(median_bandwidth)(squared))
    assert_allclose(found, numpy_bandwidth(rows), rtol=1e-12)
    wrong = np.median(np.asarray(squared)[np.triu_indices(len(rows), 1)]) / np.log(len(rows))
    assert (abs(wrong / found - 1) > 1e-3) == (len(rows) > 2)


def test_a_median_distance_of_zero_gives_the_bandwidth_one():
    """Where four of five particles coincide, most pairs say nothing and 0 would divide by 0; where
    three of four do, the median is half their distance from the other."""
    bandwidth = jax.jit(lambda places: median_bandwidth(squared_distances(places)))
    three_of_four = np.array([[0.0], [0.0], [0.0], [2.0]])
    assert float(bandwidth(three_of_four)) == pytest.approx(1 / np.log(4))
    four_of_five = np.array([[0.0], [0.0], [0.0], [0.0], [2.0]])
    assert float(bandwidth(four_of_five)) == 1.0


def test_32_bit_particles_far_from_the_origin_still_tell_their_distances():
    """Oracle: the double loop in 64 bits on the same numbers, 1000 +- 0.01. Planted: inner products
    of the particles themselves, whose differences are all rounding."""
    random = np.random.default_rng(0)
    far = (1000 + 0.01 * random.normal(size=(5, 8))).astype(np.float32)
    scores = random.normal(size=(5, 8)).astype(np.float32)
    found = jax.jit(RBF().transport)(far, scores)
    expected = double_loop(rbf, far.astype(float), scores.astype(float))
    for part, right in zip(found, expected, strict=True):
        assert_allclose(part, right, rtol=1e-4, atol=1e-4 * np.abs(right).max())
    distances = ((far[:, None] - far[None]).astype(float) ** 2).sum(-1)
    assert np.abs(np.asarray(squared_distances(jnp.asarray(far))) - distances).max() > 0.01


def largest_intermediate(function, *arguments):
    """Entries of the largest array that a function makes on its way."""

    def of_jaxpr(jaxpr):
        inner = [
            of_jaxpr(sub.jaxpr if hasattr(sub, "jaxpr") else sub)
            for equation in jaxpr.eqns
            for sub in equation.params.values()
            if hasattr(sub, "eqns") or hasattr(sub, "jaxpr")
        ]
        own = [var.aval.size for equation in jaxpr.eqns for var in equation.outvars]
        return max([*own, *inner], default=0)

    return of_jaxpr(jax.make_jaxpr(function)(*arguments).jaxpr)


@pytest.mark.parametrize("name", KERNELS)
def test_no_kernel_makes_an_array_of_pairs_and_parameters(name):
    """By shape: with 6 particles of 500 parameters nothing has more than 3,000 entries. Planted:
    differences of all pairs, which have 18,000."""
    particles = jnp.zeros((6, 500))
    kernel, _ = KERNELS[name]
    assert largest_intermediate(kernel.transport, particles, particles) == 3000

    def by_differences(particles):
        return ((particles[:, None] - particles[None]) ** 2).sum(-1)

    assert largest_intermediate(by_differences, particles) == 18_000


@pytest.mark.parametrize(("kernels", "weights"), [((), ()), ((RBF(),), (0.0,)), ((RBF(),), ())])
def test_a_mixture_of_kernels_needs_a_positive_weight_for_each(kernels, weights):
    with pytest.raises(ValueError, match="Give one weight above 0 for each kernel"):
        KernelMixture(kernels, weights)

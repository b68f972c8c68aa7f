"""Stein mixture inference on N(0, I) from the paper's formulas alone: NumPy, nothing of the package."""

import numpy as np

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(100)
DRAWS = 4  # of every component at every step, where dimensions are too many for quadrature


def numpy_stein_gaussian(
    d: int, m: int, repulsion: float, steps: int, rate: float, seed: int
) -> float:
    """The dimension-averaged variance of a mixture of m diagonal normals fitted to N(0, I_d).

    Particles are (means, log scales). Adam with a rate that falls to 0 as a cosine; Gauss-Hermite
    quadrature over every component where d = 1, `DRAWS` draws of each elsewhere. First means are
    standard normal, first scales 0.1.
    """
    random = np.random.default_rng(seed)
    particles = np.concatenate([random.normal(size=(m, d)), np.full((m, d), np.log(0.1))], axis=1)
    first, second = np.zeros_like(particles), np.zeros_like(particles)
    for step in range(steps):
        force = stein_force(particles, *noise(random, d, m), repulsion)
        first = 0.9 * first + 0.1 * force
        second = 0.999 * second + 0.001 * force**2
        mean = first / (1 - 0.9 ** (step + 1))
        scale = np.sqrt(second / (1 - 0.999 ** (step + 1))) + 1e-8
        particles = particles + rate * (1 + np.cos(np.pi * step / steps)) / 2 * mean / scale
    means, log_scales = np.split(particles, 2, axis=1)
    return float((np.exp(2 * log_scales).mean(0) + means.var(0)).mean())


def noise(random: np.random.Generator, d: int, m: int) -> tuple[np.ndarray, np.ndarray]:
    """Standard normal points (point, component, d) and their weights, whose sum is 1."""
    if d == 1:
        return np.broadcast_to(NODES[:, None, None], (len(NODES), m, 1)), WEIGHTS / WEIGHTS.sum()
    return random.normal(size=(DRAWS, m, d)), np.full(DRAWS, 1 / DRAWS)


def stein_force(
    particles: np.ndarray, points: np.ndarray, weights: np.ndarray, repulsion: float
) -> np.ndarray:
    """Phi(psi_y) = sum_x k(psi_x, psi_y) grad L_x + repulsion / m sum_x grad_x k(psi_x, psi_y)."""
    m = len(particles)
    differences = particles[:, None] - particles[None]
    squared = (differences**2).sum(-1)
    bandwidth = 1.0
    if m > 1:
        bandwidth = np.median(np.sqrt(squared[np.triu_indices(m, 1)])) ** 2 / np.log(m)
    kernel = np.exp(-squared / bandwidth)
    gradients_of_kernel = -2 / bandwidth * differences * kernel[:, :, None]
    attraction = kernel.T @ path_gradient(particles, points, weights)
    return attraction + repulsion / m * gradients_of_kernel.sum(0)


def path_gradient(particles: np.ndarray, points: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """grad L_l of L_l = E_{q_l}[log p(z) - log 1/m sum_j q_j(z)], the densities held constant:
    through z = mean + scale * noise alone."""
    means, log_scales = np.split(particles, 2, axis=1)
    scales = np.exp(log_scales)
    shifts = scales * points
    z = means + shifts
    whitened = (z[:, :, None] - means) / scales  # (point, component drawn, component scored, d)
    log_q = -0.5 * (whitened**2).sum(-1) - log_scales.sum(1)
    share = np.exp(log_q - log_q.max(-1, keepdims=True))
    share /= share.sum(-1, keepdims=True)
    slope = -z + (share[..., None] * whitened / scales).sum(2)
    return np.concatenate(
        [weights @ slope.swapaxes(0, 1), weights @ (slope * shifts).swapaxes(0, 1)], 1
    )

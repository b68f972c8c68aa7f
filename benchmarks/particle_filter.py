"""Bootstrap filter on stochastic volatility, 1,000 steps, against `particles` (Chopin 2023).

    h_0 ~ N(mu, sigma^2 / (1 - rho^2)),  h_t ~ N(mu + rho (h_{t-1} - mu), sigma^2)
    x_t ~ N(0, exp(h_t))

Both resample systematically when the effective number of particles is below half. Ours computes
in 32-bit floats (JAX's default), the peer in 64-bit (NumPy's). Both run on one core, since the
peer uses one, and both on the widest vectors the core has: NumPy finds them by itself, XLA must
be told. They are fed the same data, and their estimates of log p(x) must agree within their
Monte Carlo errors, or nothing is timed.
"""

import os

if hasattr(os, "sched_setaffinity"):  # Linux
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_prefer_vector_width=512")

# Both must be set before JAX is imported.
from collections.abc import Callable, Mapping
from functools import partial
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import particles
from blocks import first_call, interleaved, row, table
from jaxtyping import Array, Float
from particles.state_space_models import Bootstrap, StochVol

from tightbound.data.batch import Batch
from tightbound.estimators.bounds import filtering_log_marginal
from tightbound.inference.filter import particle_filter
from tightbound.models.sequential import AbstractPopulation
from tightbound.terms import Kind

MU, RHO, SIGMA = -1.0, 0.95, 0.3
NUM_STEPS = 1_000
TARGETS = {1_000: 5.0, 10_000: 3.5}


class StochasticVolatility(AbstractPopulation):
    """The latent is proposed from the model itself, so it cancels and only x is scored."""

    kinds: ClassVar[Mapping[str, Kind]] = {"x": Kind.OBSERVED}

    mu: Float[Array, ""]
    rho: Float[Array, ""]
    sigma: Float[Array, ""]

    def init(self, num_particles, key):
        # The stationary law, which the first step leaves as it is.
        scale = self.sigma / jnp.sqrt(1 - self.rho**2)
        return self.mu + scale * jax.random.normal(key, (num_particles,))

    def step(self, state, x_t, clock, key):
        noise = jax.random.normal(key, state.shape)
        h = self.mu + self.rho * (state - self.mu) + self.sigma * noise
        log_likelihood = -0.5 * (h + x_t**2 * jnp.exp(-h) + jnp.log(2 * jnp.pi))
        return h, {"x": (log_likelihood, None)}


def simulate() -> np.ndarray:
    rng = np.random.default_rng(0)
    h = MU + SIGMA / np.sqrt(1 - RHO**2) * rng.standard_normal()
    x = np.zeros(NUM_STEPS)
    for t in range(NUM_STEPS):
        x[t] = np.exp(h / 2) * rng.standard_normal()
        h = MU + RHO * (h - MU) + SIGMA * rng.standard_normal()
    return x


def our_filter(x: np.ndarray, num_particles: int) -> Callable[[jax.Array], jax.Array]:
    model = StochasticVolatility(*map(jnp.asarray, (MU, RHO, SIGMA)))
    batch = Batch(
        x=jnp.asarray(x[None], jnp.float32),
        mask=jnp.ones((1, NUM_STEPS), bool),
        num_units=jnp.array([NUM_STEPS]),
        rows=jnp.array([0]),
    )

    @eqx.filter_jit
    def log_marginal(model, batch, key):
        return filtering_log_marginal(
            particle_filter(model, batch, num_particles=num_particles, key=key)
        )

    return lambda key: jax.block_until_ready(log_marginal(model, batch, key))


def peer_filter(x: np.ndarray, num_particles: int) -> Callable[[], float]:
    model = StochVol(mu=MU, rho=RHO, sigma=SIGMA)

    def log_marginal() -> float:
        fk = Bootstrap(ssm=model, data=x)
        run = particles.SMC(
            fk=fk, N=num_particles, resampling="systematic", ESSrmin=0.5, collect="off"
        )
        run.run()
        return run.logLt

    return log_marginal


def require_agreement(ours, peer, *, runs: int = 20) -> str:
    """Both means of log p-hat(x) with their errors; raises where they differ by 4 of them."""
    a = np.array([float(ours(jax.random.key(run))[0]) for run in range(runs)])
    b = np.array([peer() for _ in range(runs)])
    error = np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / runs)
    if abs(a.mean() - b.mean()) > 4 * error:
        raise SystemExit(f"The filters disagree: {a.mean()} and {b.mean()}, error {error}.")
    return f"log p-hat(x): ours {a.mean():.2f}, peer {b.mean():.2f}, error {error:.2f} nats"


def main() -> None:
    x = simulate()
    np.random.seed(0)  # `particles` draws from NumPy's global generator  # noqa: NPY002
    key = jax.random.key(1)
    rows = []
    for num_particles, target in TARGETS.items():
        ours, peer = our_filter(x, num_particles), peer_filter(x, num_particles)
        programs = {"ours": partial(ours, key), "peer": peer}
        compilation = first_call(programs["ours"])
        first_call(peer)  # Numba compiles
        print(f"N = {num_particles}: {require_agreement(ours, peer)}")
        ratio = interleaved(programs, blocks=21)
        rows.append(row(f"bootstrap filter, N = {num_particles}", ratio, target, compilation))
    print(f"\nours: JAX {jax.__version__}, float32; peer: particles, float64, NumPy and Numba")
    print(
        f"one process, one core, XLA_FLAGS={os.environ['XLA_FLAGS']}; ratio = peer's time / ours\n"
    )
    print(table(rows))


if __name__ == "__main__":
    main()

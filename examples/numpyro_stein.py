"""NumPyro's SteinVI on a yardstick: its force norm beside the bound of its mixture, and what is wrong.

The mean of 20 numbers has a normal posterior, so log p(y) is known exactly and one normal guide can be
exact. SteinVI is trained with NumPyro's own guide and with one whose parameters are all real.
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.contrib.einstein import RBFKernel, SteinVI
from numpyro.infer.autoguide import AutoNormal
from scipy.stats import multivariate_normal

from tightbound.programs.numpyro import bound_of, evaluate_steinvi, findings, posterior_draws


def model(y=None, size=20):
    mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
    with numpyro.plate("points", size):
        numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def real_guide(y=None, size=20):
    """Only real parameters: the scale is made positive inside."""
    loc = numpyro.param("loc", lambda key: jax.random.normal(key))
    log_scale = numpyro.param("log_scale", -1.0)
    numpyro.sample("mean", dist.Normal(loc, jnp.exp(log_scale)))


def train(stein: SteinVI, y: jax.Array, steps: int):
    state = stein.init(jax.random.key(0), y)
    return jax.jit(
        lambda state: jax.lax.fori_loop(0, steps, lambda _, s: stein.update(s, y)[0], state)
    )(state)


def main() -> None:
    y = np.random.default_rng(0).normal(0.7, 1.0, size=20).astype(np.float32)
    exact = multivariate_normal(cov=np.eye(20) + 1.0).logpdf(y)
    print(f"log p(y): {exact:.2f} nats")
    for name, guide in (("AutoNormal", AutoNormal(model)), ("real parameters", real_guide)):
        for particles in (1, 3):
            optimiser = numpyro.optim.Adagrad(0.3)
            stein = SteinVI(model, guide, optimiser, RBFKernel(), particles, num_elbo_particles=5)
            state = train(stein, jnp.asarray(y), steps=500)
            key = jax.random.key(1)
            weighed = evaluate_steinvi(stein, state, y, num_samples=1000, key=key)
            draws = posterior_draws(stein, state, num_samples=1000, key=key)
            print(f"\n{name}, m = {particles}")
            print(f"  the mixture's ELBO:   {bound_of(weighed)}")
            print(f"  IWAE with 1000 draws: {bound_of(weighed, 'iwae')}")
            print(
                f"  standard deviation:   {draws['mean'].std():.3f} (the posterior's: {21**-0.5:.3f})"
            )
            for fault in findings(stein, state, y, num_samples=200, key=key).faults:
                print(f"  {fault.code} {fault.causes[0].name}: {fault.meaning}")


if __name__ == "__main__":
    main()

"""VAE training against NumPyro SVI: the classic 784-400-100 example, batch 128, Adam, float32.

NumPyro's side is its own VAE example's model and guide, with a whole epoch in one compiled loop and
the data on the device. Ours is `fit` as anyone calls it, once without the doctor and once with it
(a probe every 100 steps). Random images stand in for MNIST: the work is the same.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
from blocks import first_call, interleaved, row, table
from jax import lax, random
from jax.example_libraries import stax
from numpyro.infer import SVI, Trace_ELBO

from tightbound.data.batch import rows, training_batches
from tightbound.data.noising import Binarise
from tightbound.diagnose.probes import make_probe
from tightbound.models.vae import VAE, GaussianProposal
from tightbound.nn.outputs import BernoulliOutput
from tightbound.train.loop import fit, init_state
from tightbound.train.objective import Objective
from tightbound.train.settings import RunSettings
from tightbound.train.setup import Setup

PIXELS, HIDDEN, LATENT, BATCH, STEPS = 784, 400, 100, 128, 100
TARGETS = {"without the doctor": 0.95, "with the doctor": 0.93}


def grey_images(num_rows: int = 20_000) -> np.ndarray:
    """Grey levels with MNIST's share of ink."""
    rng = np.random.default_rng(0)
    ink = rng.random((num_rows, PIXELS)) < 0.2
    return (ink * rng.integers(0, 256, (num_rows, PIXELS))).astype(np.uint8)


def our_setup(grey: np.ndarray) -> Setup:
    """The same model as a setup, so that the doctor can look at it."""
    model_key, proposal_key = random.split(random.key(0))
    objective = Objective()
    return Setup(
        name="benchmark",
        model=VAE(PIXELS, LATENT, BernoulliOutput(), hidden_size=HIDDEN, key=model_key),
        proposal=GaussianProposal(PIXELS, LATENT, hidden_size=HIDDEN, key=proposal_key),
        data={"train": rows("train", grey), "valid": rows("valid", grey[:400])},
        objective=objective,
        claim=objective,
        optimiser=optax.adam(1e-3),
        run=RunSettings(batch_size=BATCH),
        noise=Binarise(255),
    )


def our_steps(setup: Setup, *, doctor: bool, num_steps: int = STEPS) -> Any:
    """A function that does `num_steps` updates more of one run, and waits for them."""
    records = fit(
        init_state(setup.model, setup.proposal, setup.optimiser),
        training_batches(setup.data["train"], BATCH, seed=0),
        setup.objective,
        setup.optimiser,
        key=random.key(1),
        noise=setup.noise,
    )
    probe = make_probe(setup)

    def steps():
        for record in records:
            if record.step % num_steps == 0:
                if doctor:
                    probe(record.state)
                return jax.block_until_ready(record.evidence.loss)

    return steps


def numpyro_example() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The model and the guide of NumPyro's VAE example."""

    def encoder():
        return stax.serial(
            stax.Dense(HIDDEN),
            stax.Softplus,
            stax.FanOut(2),
            stax.parallel(stax.Dense(LATENT), stax.serial(stax.Dense(LATENT), stax.Exp)),
        )

    def decoder():
        return stax.serial(stax.Dense(HIDDEN), stax.Softplus, stax.Dense(PIXELS), stax.Sigmoid)

    def model(batch):
        decode = numpyro.module("decoder", decoder(), (BATCH, LATENT))
        with numpyro.plate("batch", BATCH):
            z = numpyro.sample("z", dist.Normal(0, 1).expand([LATENT]).to_event(1))
            numpyro.sample("x", dist.Bernoulli(decode(z)).to_event(1), obs=batch)  # pyright: ignore

    def guide(batch):
        encode = numpyro.module("encoder", encoder(), (BATCH, PIXELS))
        mean, scale = encode(batch)
        with numpyro.plate("batch", BATCH):
            numpyro.sample("z", dist.Normal(mean, scale).to_event(1))

    return model, guide


def peer_steps(inference: Any, grey: np.ndarray, num_steps: int = STEPS) -> Any:
    """The updates of a NumPyro SVI (or what has its methods) in one compiled loop."""
    on_device = jnp.asarray(grey)
    state = inference.init(random.key(0), jnp.zeros((BATCH, PIXELS)))

    @jax.jit
    def loop(state, key):
        order = random.permutation(key, len(on_device))[: num_steps * BATCH]
        order = order.reshape(num_steps, BATCH)

        def body(index, carry):
            state, total = carry
            grey = on_device[order[index]] / 255.0
            batch = random.bernoulli(random.fold_in(key, index), grey).astype(jnp.float32)
            state, loss = inference.update(state, batch)
            return state, total + loss

        return lax.fori_loop(0, num_steps, body, (state, 0.0))

    count = iter(range(10**9))

    def steps():
        nonlocal state
        state, loss = loop(state, random.key(next(count)))
        return jax.block_until_ready(loss)

    return steps


def main() -> None:
    grey = grey_images()
    setup = our_setup(grey)
    svi = SVI(*numpyro_example(), numpyro.optim.Adam(1e-3), Trace_ELBO())
    rows = []
    for case, target in TARGETS.items():
        programs = {
            "ours": our_steps(setup, doctor="with the" in case),
            "peer": peer_steps(svi, grey),
        }
        compile_seconds = first_call(programs["ours"])
        first_call(programs["peer"])
        ratio = interleaved(programs, blocks=21)
        rows.append(row(f"VAE, {STEPS} steps, {case}", ratio, target, compile_seconds))
    print("NumPyro SVI's time over ours, float32, the same threads")
    print(table(rows))


if __name__ == "__main__":
    main()

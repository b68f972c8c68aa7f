"""A Stein mixture's step on the VAE of `vae_step.py`: against m steps of a single guide, and against
NumPyro's SteinVI with the same kernel, particles and draws.

The single guide is ours too ("peer" is m of its steps): what a mixture costs beyond its m guides is
the kernel, the density of the mixture, and m times the parameters in memory.
"""

from dataclasses import replace
from typing import Any

import jax
import numpyro
import optax
from blocks import first_call, interleaved, row, table
from jax import random
from numpyro.contrib.einstein import RBFKernel, SteinVI
from vae_step import (
    HIDDEN,
    LATENT,
    PIXELS,
    grey_images,
    numpyro_example,
    our_setup,
    our_steps,
    peer_steps,
)

from tightbound.families.stein.transport import single_guide, stein_mixture
from tightbound.models.vae import GaussianProposal
from tightbound.train.memory import keep_freed_memory
from tightbound.train.setup import Setup

# The peer's time over ours: m guides may cost 1.3 times, and 1.6 times, as much.
TARGETS = {5: 1 / 1.3, 20: 1 / 1.6}
NUMPYRO_TARGET = 3.0
FEW = 8  # steps of one call


def proposal(key: jax.Array) -> GaussianProposal:
    return GaussianProposal(PIXELS, LATENT, hidden_size=HIDDEN, key=key)


def with_components(setup: Setup, num_components: int) -> Setup:
    """The same run with a mixture, or with the single guide that it is at one component."""
    adam, key = optax.adam(1e-3), random.key(2)
    if num_components == 1:
        found = single_guide(proposal, adam, key=key)
    else:
        rows = len(setup.data["train"])
        found = stein_mixture(proposal, adam, num_components=num_components, num_rows=rows, key=key)
    return replace(
        setup,
        proposal=found.proposal,
        objective=found.objective,
        claim=found.objective,
        optimiser=found.optimiser,
    )


def numpyro_stein(num_components: int) -> Any:
    return SteinVI(
        *numpyro_example(),
        numpyro.optim.Adam(1e-3),
        RBFKernel(),
        num_stein_particles=num_components,
        num_elbo_particles=1,
    )


def main() -> None:
    keep_freed_memory()  # as `tightbound train` does; for both sides
    grey = grey_images()
    setup = our_setup(grey)
    rows = []
    for count, target in TARGETS.items():
        programs = {
            "ours": our_steps(with_components(setup, count), doctor=False, num_steps=FEW),
            "peer": our_steps(with_components(setup, 1), doctor=False, num_steps=FEW * count),
        }
        compile_seconds = first_call(programs["ours"])
        first_call(programs["peer"])
        found = interleaved(programs)
        rows.append(row(f"m = {count}, peer: m single guides", found, target, compile_seconds))
        jax.clear_caches()
    programs = {
        "ours": our_steps(with_components(setup, 5), doctor=False, num_steps=FEW),
        "peer": peer_steps(numpyro_stein(5), grey, FEW),
    }
    compile_seconds = first_call(programs["ours"])
    first_call(programs["peer"])
    found = interleaved(programs)
    rows.append(row("m = 5, peer: NumPyro SteinVI", found, NUMPYRO_TARGET, compile_seconds))
    print(f"{FEW} steps a call; the target of the first two is 1 / 1.3 and 1 / 1.6.\n")
    print(table(rows))


if __name__ == "__main__":
    main()

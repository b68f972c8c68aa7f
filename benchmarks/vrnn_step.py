"""VRNN training against PyTorch written step by step: batch 64, 100 steps, hidden 200, float32, Adam.

The peer is the plain program a researcher writes: the same networks and cell, features of x for all
steps at once, a Python loop over time, one draw of z, the sampled log p(z) - log q(z), autograd.
Then our own filter-trained step (16 particles, resampled) against one particle, whose cost may be
at most 1.15 times 16 times as much.
"""

import resource
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
import torch
from blocks import first_call, interleaved, row, table
from torch import nn

from tightbound.data.batch import training_batches
from tightbound.data.sequences import sequence_split
from tightbound.data.strokes import Strokes
from tightbound.families.sequences.model import VRNN, StepProposal
from tightbound.inference.filtering import Filtering
from tightbound.nn.gaussian_outputs import DiagonalGaussianOutput
from tightbound.nn.pen_output import PenOutput
from tightbound.train.filtering import FilteringObjective
from tightbound.train.loop import fit, init_state
from tightbound.train.objective import Objective

BATCH, LENGTH, HIDDEN, NETWORK, LATENT, FLOOR = 64, 100, 200, 200, 20, 0.01
TARGET, PARTICLES, PARTICLE_COST = 1.6, 16, 1.15
CALLS = 3


def strokes(num_rows: int) -> list[Strokes]:
    """Random pen strokes, all of one length: the work is that of handwriting."""
    rng = np.random.default_rng(0)
    offsets = rng.normal(size=(num_rows, LENGTH, 2)).astype(np.float32)
    pens = (rng.random((num_rows, LENGTH)) < 0.05).astype(np.float32)
    return [Strokes(offset, pen) for offset, pen in zip(offsets, pens, strict=True)]


def our_steps(rows: list[Strokes], batch_size: int, num_particles: int | None) -> Callable[[], Any]:
    """`CALLS` updates more of one run; raised is the ELBO, or the bound of a filter."""
    model_key, proposal_key = jax.random.split(jax.random.key(0))
    output = PenOutput(DiagonalGaussianOutput(FLOOR))
    model = VRNN(
        3,
        LATENT,
        output,
        num_features=output.num_features(2),
        hidden_size=HIDDEN,
        network_size=NETWORK,
        min_scale=FLOOR,
        key=model_key,
    )
    proposal = StepProposal(
        NETWORK, HIDDEN, LATENT, network_size=NETWORK, min_scale=FLOOR, key=proposal_key
    )
    optimiser = optax.adam(1e-3)
    if num_particles is None:
        objective: Any = Objective()
    else:
        objective = FilteringObjective(Filtering(num_particles))
    records = fit(
        init_state(model, proposal, optimiser),
        training_batches(sequence_split("train", rows), batch_size, seed=0),
        objective,
        optimiser,
        key=jax.random.key(1),
    )

    def steps():
        for record in records:
            if record.step % CALLS == 0:
                return jax.block_until_ready(record.evidence.loss)

    return steps


class PeerVRNN(nn.Module):
    """The same model and proposal."""

    def __init__(self):
        super().__init__()

        def network(size_in: int, size_out: int) -> nn.Module:
            return nn.Sequential(
                nn.Linear(size_in, NETWORK), nn.ReLU(), nn.Linear(NETWORK, size_out)
            )

        self.read = nn.Sequential(nn.Linear(3, NETWORK), nn.ReLU())
        self.from_z = nn.Sequential(nn.Linear(LATENT, NETWORK), nn.ReLU())
        self.prior = network(HIDDEN, 2 * LATENT)
        self.encoder = network(NETWORK + HIDDEN, 2 * LATENT)
        self.decoder = network(NETWORK + HIDDEN, 5)
        self.cell = nn.GRUCell(2 * NETWORK, HIDDEN)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The ELBO of every sequence, at one draw."""
        normal, softplus = torch.distributions.Normal, nn.functional.softplus
        readings = self.read(x)
        state = x.new_zeros(len(x), HIDDEN)
        total = x.new_zeros(len(x))
        for t in range(x.shape[1]):
            prior_mean, prior_raw = self.prior(state).chunk(2, -1)
            mean, raw = self.encoder(torch.cat([readings[:, t], state], -1)).chunk(2, -1)
            prior = normal(prior_mean, FLOOR + softplus(prior_raw), validate_args=False)
            q = normal(mean, FLOOR + softplus(raw), validate_args=False)
            z = q.rsample()
            features = self.from_z(z)
            out = self.decoder(torch.cat([features, state], -1))
            offset = normal(out[:, :2], FLOOR + softplus(out[:, 2:4]), validate_args=False)
            pen = -nn.functional.binary_cross_entropy_with_logits(
                out[:, 4], x[:, t, 2], reduction="none"
            )
            total = total + offset.log_prob(x[:, t, :2]).sum(-1) + pen
            total = total + (prior.log_prob(z) - q.log_prob(z)).sum(-1)
            state = self.cell(torch.cat([readings[:, t], features], -1), state)
        return total


def peer_steps(rows: list[Strokes]) -> Callable[[], Any]:
    x = torch.from_numpy(np.stack([np.concatenate([r.offset, r.pen[:, None]], 1) for r in rows]))
    model = PeerVRNN()
    optimiser = torch.optim.Adam(model.parameters(), 1e-3)
    rng = np.random.default_rng(0)

    def steps():
        for _ in range(CALLS):
            chosen = torch.from_numpy(rng.permutation(len(x))[:BATCH])
            optimiser.zero_grad()
            loss = -model(x[chosen]).mean()
            loss.backward()
            optimiser.step()
        return loss.item()

    return steps


def grown_megabytes(updates: int = 1000) -> tuple[float, float]:
    """The peak resident memory of this process, and by how much `updates` more of a small run raise it."""
    steps = our_steps([Strokes(r.offset[:20], r.pen[:20]) for r in strokes(64)], 8, None)
    for _ in range(100):
        steps()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    for _ in range(updates // CALLS):
        steps()
    return before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before


def main() -> None:
    peak, grown = grown_megabytes()
    print(f"Peak memory {peak:.0f} MB; 1,000 more updates raise it by {grown:.1f} MB.\n")
    rows = strokes(4 * BATCH)
    ours = our_steps(rows, BATCH, None)
    compile_seconds = first_call(ours)
    peer = peer_steps(rows)
    peer()
    ratio = interleaved({"ours": ours, "peer": peer}, blocks=11)
    print("One update; the peer is PyTorch. The ratio is its time over ours.\n")
    print(table([row("ELBO, one draw", ratio, TARGET, compile_seconds)]))

    one, many = our_steps(rows, 16, None), our_steps(rows, 16, PARTICLES)
    one()
    compile_seconds = first_call(many)
    ratio = interleaved({"ours": one, "peer": many}, blocks=7)
    print(f"\n{PARTICLES} particles, resampled, over one (ours), batch 16; at most the target.\n")
    print(table([row("particles", ratio, PARTICLE_COST * PARTICLES, compile_seconds)]))


if __name__ == "__main__":
    main()

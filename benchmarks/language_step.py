"""Language models: a training step against PyTorch's fused GRU and LSTM, and the sum over states
against dynamax.

Batch 128, length 20, 8,000 classes, embeddings and states of 128, float32, Adam, every position real.
Both sides have an embedding, the recurrent layer and an output matrix of its own; the peer is
`nn.GRU` or `nn.LSTM`, `nn.Linear` and `cross_entropy`. Then log p of the same symbols where every token
is reached by a chain of states from the words before it: the peer sums the same chains with dynamax's
filter, and both must agree.
"""

import os
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from blocks import first_call, interleaved, row, table
from dynamax.hidden_markov_model import hmm_filter
from torch import nn

from tightbound.data.batch import Split, training_batches
from tightbound.data.sequences import Sequence
from tightbound.families.language.cells import GRU, LSTM
from tightbound.families.language.chains import LocalHMM, WordChain
from tightbound.families.language.contexts import Recurrent, Window
from tightbound.families.language.emissions import Components, MatrixEmission
from tightbound.families.language.model import LanguageModel
from tightbound.families.language.structure import Direct
from tightbound.models.no_latents import NoLatents
from tightbound.train.loop import fit, init_state
from tightbound.train.objective import Objective

BATCH, LENGTH, CLASSES, SIZE = 128, 20, 8000, 128
SYMBOLS = CLASSES + 2  # padding and begin are never predicted
STEP_TARGET, FORWARD_TARGET = 1.5, 1.0
CALLS = 3


def tokens(num_rows: int) -> np.ndarray:
    """Random symbols: the work does not depend on which."""
    return np.random.default_rng(0).integers(3, SYMBOLS, (num_rows, LENGTH)).astype(np.int32)


def our_steps(cell: Any, rows: np.ndarray) -> Callable[[], Any]:
    """`CALLS` updates more of one run."""
    keys = jax.random.split(jax.random.key(0), 4)
    model = LanguageModel(
        SYMBOLS,
        SIZE,
        Recurrent(cell(SIZE, SIZE, key=keys[0]), None, key=keys[1]),
        Direct(MatrixEmission(SIZE, CLASSES, key=keys[2])),
        num_positions=LENGTH,
        normalisation="none",
        key=keys[3],
    )
    mask = np.ones(rows.shape, bool)
    split = Split("train", Sequence(rows, mask), mask, mask.sum(1).astype(np.int32))
    optimiser = optax.adam(1e-3)
    records = fit(
        init_state(model, NoLatents(), optimiser),
        training_batches(split, BATCH, seed=0),
        Objective(),
        optimiser,
        key=jax.random.key(1),
    )

    def steps():
        for record in records:
            if record.step % CALLS == 0:
                return jax.block_until_ready(record.evidence.loss)

    return steps


class Peer(nn.Module):
    """The same layers."""

    def __init__(self, recurrent: Any):
        super().__init__()
        self.embedding = nn.Embedding(SYMBOLS, SIZE)
        self.recurrent = recurrent(SIZE, SIZE, batch_first=True)
        self.output = nn.Linear(SIZE, CLASSES)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        before = nn.functional.pad(self.embedding(rows[:, :-1]), (0, 0, 1, 0), value=1.0)
        logits = self.output(self.recurrent(before)[0])
        return nn.functional.cross_entropy(logits.reshape(-1, CLASSES), rows.reshape(-1) - 2)


def peer_steps(recurrent: Any, rows: np.ndarray) -> Callable[[], Any]:
    model = Peer(recurrent)
    optimiser = torch.optim.Adam(model.parameters(), 1e-3)
    x = torch.from_numpy(rows).long()
    rng = np.random.default_rng(0)

    def steps():
        for _ in range(CALLS):
            chosen = torch.from_numpy(rng.permutation(len(x))[:BATCH])
            optimiser.zero_grad()
            loss = model(x[chosen])
            loss.backward()
            optimiser.step()
        return loss.item()

    return steps


def forward_programs(kind: str, num_states: int, rows: np.ndarray) -> dict[str, Callable[[], Any]]:
    """log p of a batch, every token by a chain of states from the words before it, and the same sums
    by dynamax's filter from the same potentials."""
    keys = jax.random.split(jax.random.key(0), 3)
    components = Components("free", num_states, SIZE, CLASSES, key=keys[0])
    structure: Any = (
        LocalHMM(SIZE, components, key=keys[1])
        if kind == "one word"
        else WordChain(SIZE, components, num_words=2, key=keys[1])
    )
    model = LanguageModel(
        SYMBOLS,
        SIZE,
        Window(SIZE, 1),
        structure,
        num_positions=LENGTH,
        normalisation="none",
        key=keys[2],
    )
    x = Sequence(jnp.asarray(rows), jnp.ones(rows.shape, bool))

    @eqx.filter_jit
    def ours(model, x):
        return jax.vmap(lambda x: model.score(x, jnp.zeros(0))["token"].sum())(x)

    def chains(model, tokens):
        """Per token: the first state's probabilities and the transitions that follow."""
        words, structure = model.contexts(tokens)[0], model.structure
        if kind == "one word":
            first = jax.nn.softmax(words @ structure.weights.T + structure.weight_bias)
            transition = jax.nn.softmax(structure.transition_logits, axis=-1)
            return first, jnp.broadcast_to(transition, (LENGTH, 1, num_states, num_states))
        potential = jnp.exp(jnp.einsum("ijf,tf->tij", structure.weights, words) + structure.bias)
        before = jnp.concatenate([jnp.exp(structure.bias)[None], potential[:-1]])
        first = jnp.full((LENGTH, num_states), 1 / num_states)
        return first, jnp.stack([before, potential], axis=1)

    @eqx.filter_jit
    def peer(model, x):
        table = jax.nn.log_softmax(model.structure.components.vectors).T

        def of_token(first, transitions, log_component):
            silent = jnp.zeros((len(transitions), num_states))
            seen = jnp.concatenate([silent, log_component[None]])
            reached = hmm_filter(first, transitions, seen).marginal_loglik
            return reached - hmm_filter(first, transitions, jnp.zeros_like(seen)).marginal_loglik

        def of_row(tokens):
            return jax.vmap(of_token)(*chains(model, tokens), table[tokens - 2]).sum()

        return jax.vmap(of_row)(x.values)

    np.testing.assert_allclose(ours(model, x), peer(model, x), rtol=1e-4)
    return {
        "ours": lambda: jax.block_until_ready(ours(model, x)),
        "peer": lambda: jax.block_until_ready(peer(model, x)),
    }


def main() -> None:
    rows = tokens(4 * BATCH)
    lines = []
    for name, ours, theirs in (("GRU", GRU, nn.GRU), ("LSTM", LSTM, nn.LSTM)):
        both = {"ours": our_steps(ours, rows), "peer": peer_steps(theirs, rows)}
        compilation = first_call(both["ours"])
        both["peer"]()
        lines.append(row(name, interleaved(both, blocks=15), STEP_TARGET, compilation))
    print(f"{CALLS} updates; the peer is PyTorch {torch.__version__}, {os.cpu_count()} cores.\n")
    print(table(lines))

    lines = []
    for kind, num_states in (("one word", 64), ("one word", 200), ("two words", 32)):
        both = forward_programs(kind, num_states, rows[:BATCH])
        compilation = first_call(both["ours"])
        both["peer"]()
        case = f"{kind}, {num_states} states"
        lines.append(row(case, interleaved(both, blocks=15), FORWARD_TARGET, compilation))
    print(f"\nlog p of {BATCH} sequences of {LENGTH}; the peer is dynamax.\n")
    print(table(lines))


if __name__ == "__main__":
    main()

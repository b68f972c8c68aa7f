"""log p(x) of a hidden Markov model with categorical emissions, against `dynamax`.

Both compute in 32-bit floats with JAX, jitted. Ours reads the symbols; the peer's filter is given
the log-likelihoods of every state, so that looking them up is not part of its time. Their values
must agree, or nothing is timed.
"""

import os

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from blocks import first_call, interleaved, row, table
from dynamax.hidden_markov_model import hmm_filter

from tightbound.data.sequences import Sequence
from tightbound.models.hmm import CategoricalEmission, HiddenMarkovModel

NUM_STEPS, NUM_SYMBOLS = 1_000, 50
TARGETS = {64: 1.0, 512: 1.0}  # by number of states


def programs(num_states: int):
    keys = jax.random.split(jax.random.key(0), 4)
    model = HiddenMarkovModel(
        jax.random.normal(keys[0], (num_states,)),
        jax.random.normal(keys[1], (num_states, num_states)),
        CategoricalEmission(jax.random.normal(keys[2], (num_states, NUM_SYMBOLS))),
        num_steps=NUM_STEPS,
    )
    symbols = jax.random.randint(keys[3], (NUM_STEPS,), 0, NUM_SYMBOLS)
    x = Sequence(symbols, jnp.ones(NUM_STEPS, bool))

    @eqx.filter_jit
    def log_marginal(model, x):
        return model.log_marginal(x)

    initial = jax.nn.softmax(model.initial_logits)
    transition = jax.nn.softmax(model.transition_logits, axis=-1)
    log_likelihoods = jax.nn.log_softmax(model.emission.logits, axis=-1)[:, symbols].T

    @jax.jit
    def peer(initial, transition, log_likelihoods):
        return hmm_filter(initial, transition, log_likelihoods).marginal_loglik

    return {
        "ours": lambda: jax.block_until_ready(log_marginal(model, x)),
        "peer": lambda: jax.block_until_ready(peer(initial, transition, log_likelihoods)),
    }


def main() -> None:
    rows = []
    for num_states, target in TARGETS.items():
        both = programs(num_states)
        compilation = first_call(both["ours"])
        ours, peer = float(both["ours"]()), float(both["peer"]())
        if not np.isclose(ours, peer, rtol=1e-4):
            raise SystemExit(f"They disagree at {num_states} states: {ours} and {peer}.")
        print(f"{num_states} states: log p(x) ours {ours:.3f}, peer {peer:.3f} nats")
        ratio = interleaved(both, blocks=31, calls=3)
        rows.append(row(f"forward, {num_states} states", ratio, target, compilation))
    print(f"\nours and dynamax: JAX {jax.__version__}, float32, {NUM_STEPS} steps")
    print(f"one process, {os.cpu_count()} cores; ratio = peer's time / ours\n")
    print(table(rows))


if __name__ == "__main__":
    main()

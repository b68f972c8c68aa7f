"""The filter over edits: time against particles and against strings, and with the key-value cache
against decoding every prefix anew.

The strings are random words, 64 in each; both programs score the same ones with the same keys, and
must agree on every increment before anything is timed. No peer has such a filter: the ratios are of
our own program to itself.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from blocks import first_call, interleaved, row, table

from tightbound.data.batch import Batch
from tightbound.data.sentences import NUM_MARKS, Sentence
from tightbound.estimators.bounds import filtering_log_marginal
from tightbound.families.edits.model import EditModel
from tightbound.families.edits.particles import EditParticles
from tightbound.families.edits.trajectory import Trajectory
from tightbound.inference.filter import particle_filter

LENGTH, VOCABULARY, SEQUENCES = 64, 1000, 4
TARGETS = {
    "no cache over cache": 3.0,
    "8 particles over 4": 2.0,
    "16 particles over 4": 4.0,
    "4 strings over 2": 2.0,
    "8 strings over 2": 4.0,
}


def program(num_particles: int, num_steps: int, *, cached: bool = True) -> Callable[[], np.ndarray]:
    """The compiled filter on trajectories of `num_steps` random strings; returns log p-hat."""
    model = EditModel(
        VOCABULARY, LENGTH, num_steps, size=64, hidden_size=256, num_layers=2, key=jax.random.key(0)
    )
    random = np.random.default_rng(0)
    shape = (SEQUENCES, num_steps, LENGTH)
    strings = random.integers(NUM_MARKS, VOCABULARY, shape).astype(np.int32)
    trajectories = jax.vmap(Trajectory)(jnp.asarray(strings), jnp.full(SEQUENCES, num_steps))
    path = jax.vmap(model.path)(
        Sentence(strings[:, -1], np.zeros(SEQUENCES, np.int32)), trajectories
    )
    batch = Batch(path.values, path.mask, np.full(SEQUENCES, LENGTH), np.arange(SEQUENCES))

    @eqx.filter_jit
    def log_marginal(model, batch, key):
        terms = particle_filter(
            EditParticles(model, cached), batch, num_particles=num_particles, key=key
        )
        return filtering_log_marginal(terms)

    key = jax.random.key(1)
    return lambda: np.asarray(jax.block_until_ready(log_marginal(model, batch, key)))


def compared(case: str, ours: Callable[[], object], other: Callable[[], object]) -> dict[str, str]:
    """Both compiled, then timed in turn: one line of the table."""
    compiled = first_call(ours) + first_call(other)
    return row(case, interleaved({"ours": ours, "peer": other}, blocks=7), TARGETS[case], compiled)


def main() -> None:
    base, anew = program(4, 2), program(4, 2, cached=False)
    np.testing.assert_allclose(base(), anew(), rtol=1e-4)
    print("Time of the second over the first (4 particles, 2 strings; linear growth is 2 and 4):\n")
    larger = {
        "no cache over cache": anew,
        "8 particles over 4": program(8, 2),
        "16 particles over 4": program(16, 2),
        "4 strings over 2": program(4, 4),
        "8 strings over 2": program(4, 8),
    }
    print(table([compared(case, base, other) for case, other in larger.items()]))


if __name__ == "__main__":
    main()

"""The doctor at the bedside: which evidence is gathered when, for a run and for the drill."""

from collections.abc import Iterator

from tightbound.data.batch import training_batches
from tightbound.diagnose.evidence import Evidence
from tightbound.diagnose.laws import gather_laws
from tightbound.diagnose.probes import is_probe_step, make_probe
from tightbound.train.loop import fit
from tightbound.train.run import first_state, run_keys
from tightbound.train.setup import Setup


def gather(setup: Setup, steps: int) -> Iterator[Evidence]:
    """The laws before training, then a probe at every probe step up to `steps`, without a folder."""
    state = first_state(setup)
    yield gather_laws(setup, state)
    probe = make_probe(setup)
    _, key, _ = run_keys(setup.seed)
    batches = training_batches(setup.data["train"], setup.run.batch_size, seed=setup.seed)
    for record in fit(state, batches, setup.objective, setup.optimiser, key=key, noise=setup.noise):
        if is_probe_step(record.step):
            yield probe(record.state)
        if record.step >= steps:
            return

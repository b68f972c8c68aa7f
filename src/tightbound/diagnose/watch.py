"""The doctor at the bedside: which evidence is gathered when, for a run and for the drill."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from tightbound.diagnose.case import Case
from tightbound.diagnose.doctor import judge
from tightbound.diagnose.evidence import Evidence
from tightbound.diagnose.findings import Findings
from tightbound.diagnose.laws.gather import gather_laws, laws_of_state
from tightbound.diagnose.probes import is_probe_step, make_probe
from tightbound.estimators.estimate import Estimate
from tightbound.train.loop import fit
from tightbound.train.objective import Objective, always_one
from tightbound.train.run import batches_of, first_state, run_keys
from tightbound.train.setup import Setup


def check(setup: Setup) -> Findings:
    """What `tightbound check` says: the laws of a setup before its first step, judged."""
    return verdict(setup, [gather_laws(setup)])


def verdict(
    setup: Setup,
    history: Sequence[Evidence],
    *,
    bound: Estimate | None = None,
    finished: bool = False,
) -> Findings:
    """Judge evidence of this setup's run, with its own baselines and claims."""
    own = None if setup.family is None else setup.family.load("checks")
    case = Case(
        history,
        baselines=setup.baselines,
        bound=bound,
        source=source_of_held_out(setup),
        finished=finished,
        **stated(setup),
    )
    return judge(case, own or ())


def stated(setup: Setup) -> dict[str, bool]:
    """What a setup says of itself that `judge` needs to know; a run keeps it in its folder."""
    return {
        "collapse_asked_for": setup.collapse_is_best,
        "is_bound": setup.is_bound,
        "climbs": climbs_the_elbo(setup),
        "pooled": setup.data["train"].pooled,
    }


def climbs_the_elbo(setup: Setup) -> bool:
    """Whether what is stated to be trained is the ELBO, and not a weighted, tempered or other bound."""
    claim = setup.claim
    return (
        setup.is_bound
        and isinstance(claim, Objective)
        and claim.estimator == "elbo"
        and claim.free_bits == 0
        and claim.kl_weight is always_one
        and claim.temperature is always_one
    )


def source_of_held_out(setup: Setup) -> Estimate | None:
    """What the source of the data would reach on held-out rows, in nats per sequence: minus its
    entropy per unit, times their mean number of units. None where the source is not known."""
    if setup.entropy is None:
        return None
    valid = setup.data["valid"]
    units = float(valid.num_units.mean())
    error = setup.entropy.standard_error
    return replace(
        setup.entropy,
        value=-units * setup.entropy.value,
        standard_error=None if error is None else units * error,
        unit="nats per sequence",
        split=valid.description,
    )


def gather(setup: Setup, steps: int) -> Iterator[Evidence]:
    """The laws before training, a probe at every probe step, and the laws again of the state after
    `steps` updates, without a folder."""
    state = first_state(setup)
    yield gather_laws(setup, state)
    probe = make_probe(setup)
    _, key, _ = run_keys(setup.seed)
    batches = batches_of(setup)
    for record in fit(state, batches, setup.objective, setup.optimiser, key=key, noise=setup.noise):
        if record.step >= steps:
            yield laws_of_state(setup, record.state)
            return
        if is_probe_step(record.step):
            yield probe(record.state)

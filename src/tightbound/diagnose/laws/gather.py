"""All evidence that needs no training, law by law: does a setup obey the laws of a probability model and
of its parts?

Every law is a function in a file of its own, which answers with numbers; `diagnose.checks` judges them.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import jax
from jaxtyping import PRNGKeyArray

from tightbound.diagnose import evidence as ev
from tightbound.diagnose.laws.asked import Asked
from tightbound.diagnose.laws.claims import redrawn
from tightbound.diagnose.laws.data import data, splits
from tightbound.diagnose.laws.density import density
from tightbound.diagnose.laws.discrete import discrete
from tightbound.diagnose.laws.evaluator import evaluator
from tightbound.diagnose.laws.filters import filters
from tightbound.diagnose.laws.joint import joint
from tightbound.diagnose.laws.mixtures import interaction
from tightbound.diagnose.laws.objective import objective
from tightbound.diagnose.laws.optimiser import optimiser
from tightbound.diagnose.laws.rivals import rivals
from tightbound.diagnose.laws.rows import rows_of_record
from tightbound.diagnose.laws.scores import scores
from tightbound.diagnose.laws.steps import steps
from tightbound.diagnose.laws.twin import twin
from tightbound.diagnose.probes import MANY, make_probe, probe_batches
from tightbound.train.loop import TrainState
from tightbound.train.run import first_state
from tightbound.train.setup import Setup

_log = logging.getLogger(__name__)

Answer = TypeVar("Answer")


def gather_laws(setup: Setup, state: TrainState | None = None) -> ev.Evidence:
    """Everything that can be asked before the first step (or of a state in between)."""
    state = first_state(setup) if state is None else state
    pair = (state.model, state.proposal)
    keys = _law_keys(setup)
    return replace(
        laws_of_state(setup, state, before_training=True),
        twin=_ask("the small twin", twin, setup, keys["twin"]),
        optimiser=_ask("the optimiser", optimiser, setup, pair),
        data=_ask("the data", data, setup, pair, keys["data"]),
        splits=_ask("the splits", splits, setup, keys["data"]),
    )


def laws_of_state(setup: Setup, state: TrainState, *, before_training: bool = False) -> ev.Evidence:
    """A probe with many draws, and the laws whose answer may change with the parameters: asked again of
    a trained state, they find what step 0 hides. A log-scale that was taken for a log-variance draws
    right while it is 0; an evaluator that keeps its first parameters is right until they move."""
    keys = _law_keys(setup)
    pair = (state.model, state.proposal)
    probe = _ask("many draws", make_probe(setup), state, num_samples=MANY)
    held = _ask("the objective against its claim", objective, setup, state, keys["objective"])
    asked = Asked(setup, pair, keys["family"], before_training)
    return replace(
        probe,
        scores=_ask("scores of the draws", scores, setup, pair, keys["scores"]),
        objective=held,
        rivals=_ask("what stands for the objective", rivals, setup, state, held, keys["objective"]),
        density=_ask("the density of a mixture", density, setup, pair, keys["objective"]),
        redrawn=_ask("the objective's expectation", redrawn, setup, state, held, keys["objective"]),
        joint=_ask(
            *("the weights of the record", joint, setup, state),
            *(rows_of_record(setup, keys["joint"]), keys["joint"]),
        ),
        evaluator=_ask("the evaluation against itself", evaluator, setup, pair, keys["evaluator"]),
        discrete=_ask("discrete latents", discrete, setup, pair, state.step, keys["discrete"]),
        filters=_ask("filters", filters, setup, pair, keys["filters"]),
        steps=_ask(
            "steps against whole sequences",
            steps,
            setup,
            pair,
            probe_batches(setup)[0],
            keys["steps"],
        ),
        interaction=_ask("the components of a mixture", interaction, setup, pair),
    ).with_groups(_ask("what is the family's own", laws_of_family, asked))


def laws_of_family(asked: Asked) -> Mapping[str, Any]:
    """The groups of evidence that the setup's family gathers itself, by name; none without a family."""
    laws = None if asked.setup.family is None else asked.setup.family.load("laws")
    return {} if laws is None else laws(asked)


def _law_keys(setup: Setup) -> dict[str, PRNGKeyArray]:
    """A key for every law, the same at every step."""
    key = jax.random.fold_in(jax.random.key(setup.seed), 0x1A3)
    names = ("twin", "scores", "objective", "evaluator", "data")
    return dict(zip(names, jax.random.split(key, 8), strict=False)) | {
        "family": jax.random.fold_in(key, 0xC401CE),
        "steps": jax.random.fold_in(key, 0x57E9),
        "discrete": jax.random.fold_in(key, 0xD15C),
        "filters": jax.random.fold_in(key, 0xF117),
        "joint": jax.random.fold_in(key, 0x101),
    }


def _ask(what: str, question: Callable[..., Answer], *arguments: Any, **settings: Any) -> Answer:
    """The answer, after saying what is asked: some questions take a minute to compile."""
    _log.info("asking about %s", what)
    return question(*arguments, **settings)

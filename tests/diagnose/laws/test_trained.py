"""Laws are asked again of the trained state. Planted: faults that nothing shows while the parameters are
those of step 0. Oracle: the same laws of the same states without the fault, which stay quiet."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fixtures.examinations import SUBJECTS
from tightbound.data.batch import rows_of
from tightbound.diagnose.case import Case
from tightbound.diagnose.checks.evaluation import evaluator_is_plain
from tightbound.diagnose.checks.probability import proposal_draws_what_it_scores
from tightbound.diagnose.doctor import judge
from tightbound.diagnose.evidence import Evidence
from tightbound.diagnose.finding import Verdict
from tightbound.diagnose.laws import gather as laws
from tightbound.drill.planting import VarianceForScale
from tightbound.evaluation import evaluate

pytestmark = pytest.mark.usefixtures("compiled_once")
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def setup():
    """A tiny `vae/digits` whose q has a scale of exactly 1 before training, so that scale and variance
    are the same number there."""
    recipe = SUBJECTS["vae/digits"]
    sizes = {"hidden_size": 8, "latent_size": 2}
    setup = replace(recipe, model=replace(recipe.model, **sizes)).build(0)
    last = lambda q: (q.encoder.layers[-1].weight, q.encoder.layers[-1].bias)  # noqa: E731
    proposal = eqx.tree_at(last, setup.proposal, replace_fn=jnp.zeros_like)
    valid = rows_of(setup.data["valid"], np.arange(16))
    data = {**setup.data, "valid": valid}
    return replace(setup, proposal=proposal, data=data)


@pytest.fixture(scope="module")
def trained(setup):
    """The pair once its parameters have moved: every last bias is 0.3 higher, so q's scale is 1.35."""
    biases = lambda pair: [part.layers[-1].bias for part in (pair[0].decoder, pair[1].encoder)]  # noqa: E731
    return eqx.tree_at(
        biases, (setup.model, setup.proposal), replace_fn=lambda leaf: jnp.asarray(leaf) + 0.3
    )


def stale(setup):
    """The setup with an evaluator that goes on with the parameters it was first called with."""
    first: list[Any] = []

    def evaluator(model, proposal, split, **settings):
        if not first:
            first.append((model, proposal))
        return evaluate(*first[0], split, **settings)

    return replace(setup, evaluator=evaluator)


@pytest.mark.parametrize(("plant", "found"), [(lambda s: s, False), (stale, True)])
def test_a_stale_evaluator_is_found_once_parameters_have_moved(setup, trained, plant, found):
    """Its first call is right; afterwards it reports the bound of other parameters."""
    planted = plant(setup)
    first = laws.evaluator(planted, (setup.model, setup.proposal), KEY)
    again = laws.evaluator(planted, trained, KEY)
    assert evaluator_is_plain(first).verdict is Verdict.OK
    assert (evaluator_is_plain(again).verdict is Verdict.FAULT) == found


@pytest.mark.parametrize("found", [False, True])
def test_draws_with_the_variance_are_found_once_the_scale_has_moved(setup, trained, found):
    """A scale of 1 is its own square: only another one tells both apart."""
    wrap = VarianceForScale if found else lambda proposal: proposal
    before, after = (
        laws.scores(setup, (model, wrap(proposal)), KEY)
        for model, proposal in ((setup.model, setup.proposal), trained)
    )
    assert proposal_draws_what_it_scores(before).verdict is Verdict.OK
    assert (proposal_draws_what_it_scores(after).verdict is Verdict.FAULT) == found


def test_a_trained_state_is_judged_by_its_own_laws(made):
    """The newest evidence that has a law counts, whichever verdict it brings; slopes are those before
    training, where they are large."""
    right, last = made.evidence(0), made.evidence(300)
    wide = replace(last.scores, proposal=last.scores.proposal + 0.5)
    tiny = replace(last.objective, slopes=np.array([[1.0, 2.0]] * 6))
    wrong = replace(last, scores=wide, objective=tiny)
    bare = replace(made.evidence(100), scores=None, objective=None)

    def verdicts(*history: Evidence):
        return {finding.code: finding.verdict for finding in judge(Case(history))}

    assert verdicts(right, bare)["TB102"] is Verdict.OK
    assert verdicts(right, bare, wrong)["TB102"] is Verdict.FAULT
    assert verdicts(replace(right, scores=wide), bare, last)["TB102"] is Verdict.OK
    assert verdicts(right, bare, wrong)["TB202"] is Verdict.OK

"""Evidence about choices, gathered from real setups: nothing is wrong with a healthy one, and each
planted fault moves the number that its check reads, and none that names another."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fixtures.examinations import FAULTS, SUBJECTS
from tightbound.diagnose.evidence import Evidence
from tightbound.diagnose.finding import Verdict
from tightbound.diagnose.laws.gather import jit_once
from tightbound.families.edits import checks
from tightbound.families.edits.laws import choices, first_words
from tightbound.families.edits.recipe import DoublingData, NoisingSettings, PrefixDoublingData

CHECKS = {
    "TB106": checks.particles_score_as_training_does,
    "TB107": checks.strings_hand_on_what_training_does,
    "TB108": checks.particles_keep_their_history,
    "TB109": checks.estimate_is_unbiased,
    "TB110": checks.proposal_sums_to_one,
    "TB203": checks.decisions_have_one_target,
}


def tiny(law="halving"):
    """t, tt, tttt: the smallest setup with a string that hands on what it was handed."""
    subject = SUBJECTS["edits/doubling"]
    sizes = {"size": 8, "hidden_size": 8, "num_heads": 2, "num_particles": 2}
    return replace(
        subject,
        data=DoublingData(doublings=2),
        noising=NoisingSettings(law, max_steps=3),
        model=replace(subject.model, **sizes),
    ).build(0)


def faults_found(setup):
    evidence = choices(setup, (setup.model, setup.proposal), jax.random.key(1), jit_once)
    verdicts = {code: check(evidence).verdict for code, check in CHECKS.items()}
    return {code for code, verdict in verdicts.items() if verdict is Verdict.FAULT}


@pytest.mark.parametrize("law", ["halving", "token-drop"])
def test_nothing_is_wrong_with_a_healthy_setup(law):
    """Oracles: teacher forcing of the same edits, and enumeration of edits and of trajectories."""
    assert faults_found(tiny(law)) == set()


@pytest.mark.parametrize(
    "kind",
    [
        "masks_only_in_training",
        "carried_without_its_end",
        "cache_not_gathered",
        "argmax_particles",
        "log_q_of_one_path",
        "end_trained_twice",
    ],
)
def test_each_planted_fault_is_found_under_its_own_code(kind):
    fault = FAULTS[kind]
    setup = tiny("token-drop" if kind == "log_q_of_one_path" else "halving")
    found = faults_found(fault.plant(setup))
    assert fault.codes[0] in found
    # a particle that is wrong makes its estimate wrong, and nothing else
    assert found <= {*fault.codes, "TB109"}


@pytest.mark.parametrize("kind", ["heads_averaged_apart", "normaliser_discarded"])
def test_the_other_faults_change_what_is_raised_or_reported(kind):
    """Oracle: the healthy setup beside it, on the same rows and draws."""
    healthy = tiny()
    planted = FAULTS[kind].plant(healthy)
    batch = healthy.data["train"].take(np.arange(3))

    def seen(setup):
        if kind == "heads_averaged_apart":
            arguments = (healthy.model, healthy.proposal, batch)
            return setup.objective(*arguments, key=jax.random.key(0), step=jnp.zeros((), int))[0]
        return setup.evaluator(
            *(healthy.model, healthy.proposal, healthy.data["valid"]),
            num_samples=2,
            key=jax.random.key(0),
        ).log_weights

    assert not np.allclose(seen(healthy), seen(planted))


def test_another_law_and_another_rate_are_what_they_are_called():
    healthy = tiny()
    other = FAULTS["evaluated_under_another_law"].plant(healthy)
    assert other.evaluated(other.proposal).description != healthy.proposal.description
    parameters = {"one": jnp.ones(3)}
    fast = FAULTS["letters_interfere"].plant(healthy)

    def update(setup):
        state = setup.optimiser.init(parameters)
        state = setup.optimiser.update(parameters, state, parameters)[1]  # a warm-up begins at 0
        return setup.optimiser.update(parameters, state, parameters)[0]["one"]

    np.testing.assert_allclose(update(fast), 30.0 * update(healthy))


def test_embeddings_too_large_for_an_output_layer_are_found_and_the_advice_mends_them():
    """Plant, advise, apply: on the healthy model TB225 is quiet, on the planted one it fires, and on one
    whose embeddings are drawn as advised it is quiet again. Oracle of the planting: the recipe's own
    setting of the same embeddings."""
    subject = SUBJECTS["edits/doubling"]
    subject = replace(subject, model=replace(subject.model, size=64, embedding_scale=1.0))

    def judged(setup):
        words = first_words(setup, (setup.model, setup.proposal), jax.random.key(1), jit_once)
        return checks.words_start_near_uniform(Evidence(step=0, words=words))

    ill = judged(subject.build(0))
    assert ill.verdict is Verdict.FAULT
    assert "--model.embedding-scale None" in ill.advice
    advised = replace(subject, model=replace(subject.model, embedding_scale=None)).build(0)
    assert judged(advised).verdict is Verdict.OK
    planted = FAULTS["embeddings_of_unit_variance"].plant(advised)
    assert judged(planted).measured == pytest.approx(ill.measured, rel=1e-5)


def test_a_model_whose_texts_begin_with_words_that_are_given_is_not_asked():
    """Their first words are chosen by nobody; nor has a model of images any."""
    given = replace(SUBJECTS["edits/doubling"], data=PrefixDoublingData(doublings=2)).build(0)
    assert first_words(given, (given.model, given.proposal), jax.random.key(1), jit_once) is None

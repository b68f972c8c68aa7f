"""What cannot be meant is refused before anything is compiled, in a sentence that says what was meant."""

import json
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import pytest

import tightbound as tb

CALLS = Path(__file__).with_name("preflight_calls.py")


@pytest.fixture(scope="module")
def answers():
    """What every call was answered."""
    done = subprocess.run([sys.executable, CALLS], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        ("model of no class", "The model is a Plain, which is no `tb.AbstractModel`"),
        ("model not made", "The model is the class VAE itself; make one: VAE(...)"),
        ("proposal of no class", "The proposal is a Plain, which is no `tb.AbstractProposal`"),
        ("objective by name", "text 'elbo'; an objective was meant: tb.Objective('elbo')"),
        ("optimiser by rate", "number 0.001; an Optax optimiser was meant: optax.adam(0.001)"),
        ("optimiser not made", "The optimiser is a function; one that has `init`"),
        ("data one array", "The data are an array of shape (8, 6); splits by name"),
        ("splits arrays", "The split 'train' is an array of shape (8, 6); a `tb.Split` was meant"),
        (
            "estimator in capitals",
            "estimator of an objective is 'ELBO', which is none. Did you mean 'elbo'",
        ),
        ("path unknown", "path of an objective is 'nosuch', which is none. There are: full"),
        ("weight a text", "kl_weight of an objective is '0.1'; a number was meant"),
        ("state used twice", "used up by an earlier `fit`"),
        ("value per row", "per_row returns an array, but one number was meant"),
        ("value without terms", "value_alone must return two things"),
        ("fit by name", "The objective is the text 'elbo'"),
        ("fit by rate", "The optimiser is the number 0.001"),
        ("narrower data", "cannot score a row of these data, whose arrays have the shapes [(5,)]"),
        ("evaluate an array", "`evaluate` was given ndarray for a split"),
        ("healthy setup", "done"),
        ("healthy step", "done"),
        ("weight a number", "done"),
    ],
)
def test_a_call_that_cannot_be_meant_is_answered_in_a_sentence(answers, call, sentence):
    assert sentence in answers[call]


@pytest.mark.parametrize("name", ["kl_weight", "temperature"])
def test_a_number_is_a_constant_schedule(name):
    """Identity: at every step the schedule is the number; and one is the bound itself."""
    schedule = getattr(tb.Objective("elbo", **{name: 0.1}), name)
    assert float(schedule(jnp.asarray(7))) == 0.1
    assert tb.Objective("elbo", **{name: 1}) == tb.Objective("elbo")

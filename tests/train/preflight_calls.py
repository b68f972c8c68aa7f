"""Calls that cannot be meant, made as a user makes them: without the run-time type checks of the tests.

python preflight_calls.py      prints what each of them was answered, as JSON
"""

import json

import jax
import numpy as np
import optax

import tightbound as tb
from tightbound.errors import UserError
from tightbound.train.settings import RunSettings

KEY = jax.random.key(0)


class Plain:
    """A model by its methods, but of no class that `weigh` knows."""


def pair():
    model = tb.VAE(6, 2, tb.outputs.BernoulliOutput(), hidden_size=4, key=KEY)
    return model, tb.GaussianProposal(6, 2, hidden_size=4, key=KEY)


def split(width: int = 6, name: str = "train") -> tb.Split:
    return tb.rows(name, np.zeros((8, width), np.float32))


def setup(**changes):
    model, proposal = pair()
    fields = {
        "name": "small",
        "model": model,
        "proposal": proposal,
        "data": {"train": split(), "valid": split(name="valid")},
        "objective": tb.Objective("elbo"),
        "optimiser": optax.adam(1e-3),
        "run": RunSettings(batch_size=4),
    }
    return tb.Setup(**(fields | changes))


def first_step(objective=None, optimiser=None, width=6, state=None):
    optimiser = optax.sgd(0.1) if optimiser is None else optimiser
    state = tb.init_state(*pair(), optax.sgd(0.1)) if state is None else state
    batches = tb.training_batches(split(width), 4, seed=0)
    objective = tb.Objective("elbo") if objective is None else objective
    return next(iter(tb.fit(state, batches, objective, optimiser, key=KEY)))


def state_used_twice():
    state = tb.init_state(*pair(), optax.sgd(0.1))
    first_step(state=state)
    first_step(state=state)


def per_row(model, proposal, batch, *, key, step):
    terms = tb.weigh(model, proposal, batch, num_samples=1, key=key)
    return terms.log_weights[0], terms


def value_alone(model, proposal, batch, *, key, step):
    return tb.weigh(model, proposal, batch, num_samples=1, key=key).log_weights.mean()


ARRAY = np.zeros((8, 6), np.float32)
CALLS = {
    "model of no class": lambda: setup(model=Plain()),
    "model not made": lambda: setup(model=tb.VAE),
    "proposal of no class": lambda: setup(proposal=Plain()),
    "objective by name": lambda: setup(objective="elbo"),
    "optimiser by rate": lambda: setup(optimiser=1e-3),
    "optimiser not made": lambda: setup(optimiser=optax.adam),
    "data one array": lambda: setup(data=ARRAY),
    "splits arrays": lambda: setup(data={"train": ARRAY, "valid": ARRAY}),
    "estimator in capitals": lambda: tb.Objective("ELBO"),
    "path unknown": lambda: tb.Objective("elbo", path="nosuch"),
    "weight a text": lambda: tb.Objective("elbo", kl_weight="0.1"),
    "state used twice": state_used_twice,
    "value per row": lambda: first_step(per_row),
    "value without terms": lambda: first_step(value_alone),
    "fit by name": lambda: first_step("elbo"),
    "fit by rate": lambda: first_step(optimiser=1e-3),
    "narrower data": lambda: first_step(width=5),
    "evaluate an array": lambda: tb.evaluate(*pair(), ARRAY, num_samples=1, key=KEY),
    # these can be meant
    "healthy setup": setup,
    "healthy step": first_step,
    "weight a number": lambda: first_step(tb.Objective("elbo", kl_weight=0.1)),
}


def answer(call) -> str:
    try:
        call()
    except UserError as error:
        return str(error)
    return "done"


if __name__ == "__main__":
    print(json.dumps({name: answer(call) for name, call in CALLS.items()}))

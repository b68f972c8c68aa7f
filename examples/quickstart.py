"""A model, a proposal, a check, a fit, a bound: the README's example, to be run as it is."""

import jax
import optax

import tightbound as tb

keys = jax.random.split(jax.random.key(0), 4)
setup = tb.Setup(
    name="quickstart",
    model=tb.VAE(64, 8, tb.outputs.BernoulliOutput(), hidden_size=128, key=keys[0]),
    proposal=tb.GaussianProposal(64, 8, hidden_size=128, key=keys[1]),
    data=tb.load_digits(),
    noise=tb.Binarise(16),  # grey levels 0..16 become bits, drawn afresh at every visit
    objective=tb.Objective("elbo"),
    optimiser=optax.adam(2e-3),
)
print(tb.check(setup))  # before training: laws, with the causes of what is broken

batches = tb.training_batches(setup.data["train"], 64, seed=0)
state = tb.first_state(setup)
for record in tb.fit(
    state, batches, setup.objective, setup.optimiser, key=keys[2], noise=setup.noise
):
    state = record.state
    if record.step % 500 == 0:
        print(record.step, "loss", float(record.evidence.loss))
    if record.step == 2000:
        break

scores = tb.evaluate(
    state.model,
    state.proposal,
    setup.data["test"],
    num_samples=100,
    key=keys[3],
    noise=setup.noise,
)
print(tb.bound_estimate(scores.log_weights, bound="iwae", split=scores.split))

"""A language model from its parts, on any text: context, structure, emission. Two minutes.

python examples/language_model.py [TEXT]      one sentence a line; without it a small made-up grammar
"""

import sys

import jax
import optax

import tightbound as tb
from tightbound import language


def main(path: str | None = None, num_steps: int = 500) -> None:
    source = "toy-grammar" if path is None else "file"
    corpus = tb.load_tokens(source, path=path, max_length=20, min_count=1)
    symbols, size = len(corpus.vocabulary), 64
    keys = jax.random.split(jax.random.key(0), 5)
    components = language.Components("scaled", 32, size, symbols - 2, key=keys[0])
    model = language.LanguageModel(
        symbols,
        size,
        context=language.Recurrent(language.GRU(size, size, key=keys[1]), None, key=keys[1]),
        structure=language.Direct(language.MixtureEmission(size, components, key=keys[2])),
        num_positions=corpus.splits["train"].mask.shape[1],
        key=keys[3],
    )
    setup = tb.Setup(
        name="language-model",
        model=model,
        proposal=tb.models.NoLatents(),  # all choices are summed out, so nothing is proposed
        data=corpus.splits,
        objective=tb.Objective("elbo"),  # with nothing drawn it is log p(x)
        optimiser=optax.adam(5e-3),
        details=language.Details(corpus.vocabulary),  # what its symbols stand for
    )
    print(tb.check(setup))

    state = tb.first_state(setup)
    batches = tb.training_batches(corpus.splits["train"], 64, seed=0)
    for record in tb.fit(state, batches, setup.objective, setup.optimiser, key=keys[4]):
        state = record.state
        if record.step == num_steps:
            break

    test = corpus.splits["test"]
    scores = tb.evaluate(state.model, state.proposal, test, num_samples=1, key=keys[4])
    reference = tb.data.token_references(corpus.splits["train"], test, symbols)["kneser-ney-5"]
    tokens = test.num_units.sum()
    print(f"nats per token: {-scores.log_weights.sum() / tokens:.3f}, ", end="")
    print(f"Kneser-Ney of order 5: {-reference.sum() / tokens:.3f}")
    _, sentence = state.model.sample(keys[0])
    print("drawn:", corpus.vocabulary.decode(sentence.values))


if __name__ == "__main__":
    main(*sys.argv[1:])

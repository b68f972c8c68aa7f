"""Laws of every context and structure of the grammar, over every string of up to four symbols.

Oracle: enumeration. One program per model scores all strings; the laws compare rows.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tightbound.data.sentences import EOS
from tightbound.data.sequences import Sequence
from tightbound.families.language.build import language_model
from tightbound.families.language.settings import LanguageModelSettings, StructureSettings
from tightbound.families.language.structure import AbstractStructure, Direct
from tightbound.unread import replaced

SMALL = LanguageModelSettings(context="previous", size=4, num_components=3)
OF_CONTEXT = {"window": {"window": 3}, "gpt": {"num_heads": 2, "num_layers": 1}}


def of(context="previous", **changes):
    return replaced(SMALL, context=context, **OF_CONTEXT.get(context, {}), **changes)


def structured(kind, emission="mixture", context="previous", **settings):
    return of(context, emission=emission, structure=StructureSettings(kind=kind, **settings))


CASES = {
    # structures
    "parents": structured("parents", "vector", learned_prior=False),
    "two kinds of parents": structured("parents", num_maps=2),
    "two parents": structured("two-parents"),
    "permutations": structured("permutations", context="window"),
    "maps": structured("maps", "vector", "window", num_maps=2, unigram=True),
    "gate": structured("gate"),
    "local hidden Markov model": structured("local-hmm"),
    "chain of one word": structured("word-chain"),
    "chain of two words": structured("word-chain", num_words=2),
    "one expert": structured("factorial"),
    "two experts": replaced(structured("factorial"), num_components=32),
    "slots": structured("slots", num_slots=2),
    "slot chain": structured("slot-chain", num_slots=2),
    "slot chain, competing": structured("slot-chain", num_slots=2, affinity="log-softmax"),
    "slot chain, states": structured("slot-chain", num_slots=2, affinity="states"),
    "slot chain, competing states": structured(
        "slot-chain", num_slots=2, affinity="log-softmax-states"
    ),
    "slot chain, read by an LSTM": structured("slot-chain", num_slots=2, reads_slots="lstm"),
    # contexts and emissions
    "nothing": of("nothing"),
    "window": of("window", emission="matrix"),
    "fading window": of("window", decay=True, components="free"),
    "tanh": of("tanh", emission="vector"),
    "gru": of("gru", components="tied"),
    "lstm": of("lstm", normalise_contexts=True),
    "single gate": of("single-gate"),
    "mgru": of("mgru"),
    "mgru of means": of("mgru", mutations=(4, 6)),
    "mgru over its past": of("mgru", mutations=(10,)),
    "gpt": of("gpt"),
    # normalisations that see no future, and learned starts
    "not normalised": of(normalisation="none"),
    "running": of(normalisation="running"),
    "three starts": of("lstm", num_starts=3),
    "three starts, parents": replaced(structured("parents"), context="tanh", num_starts=3),
}
BY_POSITION = (
    "two kinds of parents",
    "two parents",
    "slots",
    "slot chain",
    "mgru over its past",
    "gpt",
)


class ReadsOneAhead(AbstractStructure):
    """The planted bug: the context of the position after, which has seen the word asked for."""

    inner: Direct

    def log_probs(self, contexts, position, asked, table):
        ahead = jnp.minimum(position + 1, len(contexts) - 1)
        return self.inner.log_probs(contexts, ahead, asked, table)


def built(tiny, settings):
    key = jax.random.key(0)
    return tiny.shaken(language_model(settings, tiny.num_symbols, tiny.num_positions, key))


@pytest.fixture(scope="module", params=CASES)
def case(request, tiny):
    """The name of a model, the model, and what it says of every string."""
    model = built(tiny, CASES[request.param])
    return request.param, model, tiny.say(model, tiny.strings.x)


def mass(tiny, said):
    """Of the ended strings of up to three symbols and the unended ones of three."""
    log_p = said.log_p.sum(1)
    return np.exp(log_p[tiny.strings.ended]).sum() + np.exp(log_p[tiny.strings.unended]).sum()


def future_change(tiny, said):
    """The most that words to come change what is said at a position, in nats: over all pairs of
    strings of four words with a common beginning."""
    tokens, said = tiny.strings.x.values[tiny.strings.whole], said.distributions[tiny.strings.whole]
    change = 0.0
    for size in range(tiny.length):
        _, first, group = np.unique(
            tokens[:, :size], axis=0, return_index=True, return_inverse=True
        )
        at = said[:, size]
        change = max(change, np.abs(at - at[first][group.ravel()]).max())
    return change


def test_ended_strings_and_unended_beginnings_have_mass_one(tiny, case):
    """Law: every string either ends within three symbols or has three that do not end it."""
    assert_allclose(mass(tiny, case[2]), 1.0, rtol=1e-10)


def test_distributions_sum_to_one_and_hold_the_score_of_what_came(tiny, case):
    """Identity, at every real position: `score` is `distributions` at the class that came."""
    said, x = case[2], tiny.strings.x
    assert_allclose(np.exp(said.distributions).sum(-1), 1.0, rtol=1e-10)
    classes = np.maximum(x.values - EOS, 0)
    seen = np.take_along_axis(said.distributions, classes[:, :, None], axis=2)[:, :, 0]
    assert_allclose(said.log_p[x.mask], seen[x.mask], rtol=1e-9, atol=1e-12)
    assert_array_equal(said.log_p[~x.mask], 0.0)


def test_another_future_changes_nothing(tiny, case):
    """Law of causality: what is said at a position is the same whatever comes from there on."""
    assert future_change(tiny, case[2]) < 1e-10


def test_padding_changes_nothing(tiny, case):
    """Law: neither words in the padding nor, where a table or a buffer has a place for every
    position, one position more of it."""
    name, model, said = case
    x, strings = tiny.strings.x, tiny.strings
    short = slice(strings.ended.start, strings.unended.stop)
    assert_allclose(said.log_p[strings.garbled], said.log_p[short], rtol=1e-10, atol=1e-12)
    if name not in BY_POSITION:
        return
    longer = Sequence(*(np.pad(leaf[short], ((0, 0), (0, 1))) for leaf in (x.values, x.mask)))
    found = tiny.say(model, longer)
    assert_allclose(found.log_p[:, :-1], said.log_p[short], rtol=1e-10, atol=1e-12)
    assert_array_equal(found.log_p[:, -1], 0.0)


@pytest.mark.parametrize("bug", ["time statistic", "one ahead"])
def test_what_reads_the_future_breaks_the_laws(tiny, bug):
    """Planted: inputs over their standard deviation in time, and contexts that are read one
    position late. Both have seen of the word what they are asked for; every conditional sums to
    one, and strings do not."""
    leaky = bug == "time statistic"
    model = built(tiny, of(normalisation="time") if leaky else SMALL)
    if not leaky:
        model = eqx.tree_at(lambda m: m.structure, model, ReadsOneAhead(model.structure))
    said = tiny.say(model, tiny.strings.x)
    assert_allclose(np.exp(said.distributions).sum(-1), 1.0, rtol=1e-10)
    assert future_change(tiny, said) > 0.1
    assert abs(mass(tiny, said) - 1) > 1e-2


def further(starts):
    """Starts that lie far apart, so that a string tells which one it had."""
    return jax.tree.map(lambda leaf: 5 * leaf, starts)


def test_starts_are_mixed_over_whole_strings(tiny):
    """Oracle: each start alone. Planted: starts drawn anew for every token are told apart."""
    model = built(tiny, CASES["three starts"])
    model = eqx.tree_at(lambda m: m.context.starts, model, replace_fn=further)
    log_pi = np.asarray(jax.nn.log_softmax(model.start_logits))
    alone = []
    for start in range(3):
        only = jax.tree.map(lambda leaf, start=start: leaf[start : start + 1], model.context.starts)
        parts = lambda m: (m.context.starts, m.start_logits)  # noqa: E731
        alone.append(tiny.say(eqx.tree_at(parts, model, (only, jnp.zeros(1))), tiny.strings.x))
    weighted = [log + said.log_p.sum(1) for log, said in zip(log_pi, alone, strict=True)]
    said = tiny.say(model, tiny.strings.x)
    assert_allclose(said.log_p.sum(1), np.logaddexp.reduce(weighted), rtol=1e-10)
    anew = [log + said.log_p for log, said in zip(log_pi, alone, strict=True)]
    real = tiny.strings.x.mask
    anew = np.where(real, np.logaddexp.reduce(anew), 0.0).sum(1)
    assert np.abs(anew - said.log_p.sum(1)).max() > 1e-2

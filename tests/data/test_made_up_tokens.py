"""Sources that are made up: their draws have the law they state, and their entropy is its own."""

import itertools
import math
from collections import Counter
from functools import lru_cache

import numpy as np
import pytest

from tightbound.data.toys.grammar import (
    LONGEST,
    START,
    agreement_grammar,
    draw_sentence,
    grammar_words,
    source_entropy,
)
from tightbound.data.toys.residues import (
    RESIDUE_COUNTS,
    draw_residues,
    residue_entropy,
    residue_frequencies,
)

# Three sampled statistics below share a level of 1e-3: two-sided, 3.6 standard errors each.
NUM_ERRORS = 3.6
GRAMMAR = agreement_grammar()


@pytest.fixture(scope="module")
def sentences():
    random = np.random.Generator(np.random.PCG64(7))
    return [draw_sentence(GRAMMAR, random) for _ in range(400)]


def test_every_rule_is_a_distribution():
    """Oracle: probabilities are positive and sum to 1; what is not a rule's name is a word."""
    for rules in GRAMMAR.values():
        assert min(probability for probability, _ in rules) > 0
        assert math.fsum(probability for probability, _ in rules) == pytest.approx(1, abs=1e-12)
    assert len(grammar_words(GRAMMAR)) == 36


def derivations(words):
    """Number of derivations of a sentence and the sum of their probabilities: the inside
    algorithm, over every span and every way to share it out."""
    words = tuple(words)

    @lru_cache(None)
    def inside(symbol, start, stop):
        if symbol not in GRAMMAR:
            found = stop == start + 1 and words[start] == symbol
            return int(found), float(found)
        parts = [(p, sequence(expansion, start, stop)) for p, expansion in GRAMMAR[symbol]]
        return sum(n for _, (n, _) in parts), sum(p * mass for p, (_, mass) in parts)

    @lru_cache(None)
    def sequence(symbols, start, stop):
        if len(symbols) == 1:
            return inside(symbols[0], start, stop)
        number, mass = 0, 0.0
        for middle in range(start + 1, stop - len(symbols) + 2):
            n_first, first = inside(symbols[0], start, middle)
            n_rest, rest = sequence(symbols[1:], middle, stop) if n_first else (0, 0.0)
            number, mass = number + n_first * n_rest, mass + first * rest
        return number, mass

    return inside(START, 0, len(words))


def test_a_sentence_has_one_derivation_and_its_probability(sentences):
    """Oracle: the inside algorithm, which sums over all derivations."""
    for words, log_p in sentences[:60]:
        number, mass = derivations(words)
        assert number == 1
        assert math.log(mass) == pytest.approx(log_p, abs=1e-10)
        assert 4 <= len(words) <= LONGEST
    assert derivations([*sentences[0][0], "often"])[0] == 0


def test_the_entropy_of_the_grammar_is_that_of_its_sentences(sentences):
    """Oracle: means over drawn sentences of -log p and of the length, within their errors. Planted:
    an entropy that leaves out the end is more than 8 errors away."""
    nats = np.array([-log_p for _, log_p in sentences])
    units = np.array([len(words) + 1 for words, _ in sentences])
    entropy = source_entropy(GRAMMAR).value
    residual = nats - entropy * units
    assert abs(residual.mean()) < NUM_ERRORS * residual.std(ddof=1) / math.sqrt(len(nats))
    planted = nats - entropy * (units - 1)
    assert planted.mean() > 8 * planted.std(ddof=1) / math.sqrt(len(nats))


def test_the_entropy_of_a_grammar_is_the_sum_over_its_sentences():
    """Oracle: enumeration of the sentences of a small grammar."""
    small = {
        START: ((0.25, ("a",)), (0.75, ("pair", "pair"))),
        "pair": ((0.5, ("b", "c")), (0.5, ("d",))),
    }
    strings = {("a",): 0.25}
    for left, right in itertools.product([("b", "c"), ("d",)], repeat=2):
        strings[left + right] = 0.75 / 4
    entropy = -sum(p * math.log(p) for p in strings.values())
    units = sum(p * (len(string) + 1) for string, p in strings.items())
    assert source_entropy(small).value == pytest.approx(entropy / units, rel=1e-12)


def test_the_subject_decides_the_verb_far_away(sentences):
    """Oracle: the words. The noun before the first verb is not always the subject."""
    kinds = {"dog": "pet", "cat": "pet", "girl": "child", "boy": "child"}
    verbs = {"sleep": "pet", "bark": "pet", "chase": "pet"}
    verbs |= {"read": "child", "sing": "child", "paint": "child"}
    misled = 0
    for words, _ in sentences:
        nouns = [word for word in words if word.rstrip("s") in kinds]
        place = next(i for i, word in enumerate(words) if word.rstrip("s") in verbs)
        verb, subject = words[place], nouns[0]
        assert verbs[verb.rstrip("s")] == kinds[subject.rstrip("s")]
        assert verb.endswith("s") != subject.endswith("s")
        before = [word for word in words[:place] if word.rstrip("s") in kinds][-1]
        misled += kinds[before.rstrip("s")] != kinds[subject.rstrip("s")]
    assert misled > len(sentences) / 5


def test_residues_are_drawn_with_their_frequencies():
    """Oracle: the table, by the expected share of letters and of pairs. Planted: letters that are
    all equally likely are more than 8 errors away."""
    rows = draw_residues(2000, 20, seed=3)
    assert {len(row) for row in rows} == {20}
    text = "".join(rows)
    frequencies = residue_frequencies()
    log_p = dict(zip(RESIDUE_COUNTS, np.log(frequencies), strict=True))
    nats = np.array([-log_p[letter] for letter in text])
    error = nats.std(ddof=1) / math.sqrt(len(nats))
    assert abs(nats.mean() - residue_entropy().value) < NUM_ERRORS * error
    assert abs(nats.mean() - math.log(20)) > 8 * error
    equal = np.array([left == right for row in rows for left, right in itertools.pairwise(row)])
    expected = (frequencies**2).sum()
    assert abs(equal.mean() - expected) < NUM_ERRORS * math.sqrt(expected / len(equal))
    assert Counter(text).keys() == RESIDUE_COUNTS.keys()
    assert draw_residues(3, 5, seed=3) == draw_residues(3, 5, seed=3)


def test_the_entropy_of_a_residue_is_stated_exactly():
    """Oracle: sum over the table in plain Python."""
    total = sum(RESIDUE_COUNTS.values())
    entropy = sum(n / total * math.log(total / n) for n in RESIDUE_COUNTS.values())
    stated = residue_entropy()
    assert stated.value == pytest.approx(entropy, rel=1e-12)
    assert (stated.unit, stated.bound) == ("nats per unit", "exact")

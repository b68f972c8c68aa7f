"""References of language models: laws that sum to 1, and what an order is worth."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest

from tightbound.data.baselines.tokens import bag_of_tokens, token_references
from tightbound.data.sentences import BOS, EOS
from tightbound.data.token_split import token_splits

SIZE = 7
TRAIN = [[4, 5, EOS], [4, 4, EOS], [6, 4], [4, 5, 5, 3, EOS]]


def split(rows):
    """Of rows of equal or unequal length, all of them the training split too."""
    return token_splits({"train": rows}, law="by hand")["train"]


@pytest.mark.parametrize(
    "name",
    ["uniform", "unigram", "kneser-ney-2", "kneser-ney-3", "kneser-ney-4", "kneser-ney-5"],
)
def test_the_probabilities_of_all_rows_sum_to_one(name):
    """Oracle: enumeration. What ends within two tokens, and two tokens that have not ended."""
    words = range(EOS + 1, SIZE)
    ended = [[*words_, EOS] for n in (0, 1) for words_ in itertools.product(words, repeat=n)]
    rows = split(ended + [list(pair) for pair in itertools.product(words, repeat=2)])
    nats = token_references(split(TRAIN), rows, SIZE)[name]
    assert math.fsum(np.exp(nats)) == pytest.approx(1, abs=1e-12)


def test_uniform_and_unigram_are_the_stated_frequencies():
    """Oracle: counts in plain Python; four symbols and the end, one added to each. BOS is free."""
    rows = [[BOS, 4, 6, EOS], [BOS, 5], [BOS, 3, 3]]
    found = token_references(split(TRAIN), split(rows), SIZE)
    counts = Counter(token for row in TRAIN for token in row)
    total = counts.total() + 5
    for nats, uniform, row in zip(found["unigram"], found["uniform"], rows, strict=True):
        expected = sum(math.log((1 + counts[token]) / total) for token in row[1:])
        assert nats == pytest.approx(expected, rel=1e-12)
        assert uniform == pytest.approx(-(len(row) - 1) * math.log(5), rel=1e-12)


def test_a_bag_is_ordered_at_the_cost_of_its_arrangements():
    """Oracle: the different arrangements, listed. BOS and the end have their places. Planted: an end
    that could stand anywhere costs more."""
    rows = [[4, 4, 5, EOS], [BOS, 6, 6, 6], [3, 4, 5, 6, EOS], [4], [EOS], [5, 4, 5, 4, 4]]
    words = [[token for token in row if token > EOS] for row in rows]
    counts = [len(set(itertools.permutations(bag))) for bag in words]
    np.testing.assert_allclose(bag_of_tokens(split(rows)), -np.log(counts), atol=1e-12)
    planted = len(set(itertools.permutations(rows[0])))
    assert abs(bag_of_tokens(split(rows))[0] + math.log(planted)) > 1


def test_the_orders_of_one_bag_sum_to_one():
    """Oracle: all strings of three letters at length 4; those of one bag share probability 1."""
    rows = [list(row) for row in itertools.product((4, 5, 6), repeat=4)]
    mass = Counter()
    for row, nats in zip(rows, bag_of_tokens(split(rows)), strict=True):
        mass[tuple(sorted(row))] += math.exp(nats)
    np.testing.assert_allclose(list(mass.values()), 1, rtol=1e-12)


def test_independent_tokens_pay_for_their_bag_and_its_order():
    """Oracle: an identity. Of independent tokens log p = log p(bag) + log p(order | bag), so what a
    model that sees the future may save is the bag: p(bag) sums to 1 over bags."""
    rows = [list(row) for row in itertools.product(range(EOS + 1, SIZE), repeat=3)]
    held_out = split(rows)
    uniform = token_references(split(TRAIN), held_out, SIZE)["uniform"]
    uniform = uniform + 3 * math.log(5 / 4)  # words only, the end cannot come
    bags = dict(zip(map(tuple, np.sort(rows, 1)), uniform - bag_of_tokens(held_out), strict=True))
    assert math.fsum(np.exp(list(bags.values()))) == pytest.approx(1, abs=1e-12)

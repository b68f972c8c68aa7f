"""Kneser-Ney: every history has a law that sums to 1, and it is the published one."""

import itertools
import math
from collections import Counter, defaultdict

import numpy as np
import pytest

from tightbound.data.baselines import kneser_ney as module
from tightbound.data.baselines.kneser_ney import discounts, kneser_ney
from tightbound.data.sentences import BOS, EOS, PAD
from tightbound.errors import UserError

SIZE = 8  # PAD, BOS, then the six symbols that are predicted
CLASSES = range(EOS, SIZE)


def padded(rows):
    width = max(map(len, rows))
    return np.array([[*row, *[PAD] * (width - len(row))] for row in rows], np.int32)


def corpus(num_rows, seed):
    """Rows in which some tokens follow others far more often; some have no end."""
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(num_rows):
        row = [int(random.integers(3, SIZE - 1))]
        while len(row) < 7 and random.random() < 0.85:
            follows = 3 + (row[-1] * 2) % 4
            row.append(follows if random.random() < 0.6 else int(random.integers(3, SIZE - 1)))
        rows.append(row + [EOS] * (random.random() < 0.8))
    return rows


ROWS = corpus(60, seed=0)  # the symbol 7 never occurs in it


def law_after(history, order, rows=ROWS):
    """p of each class after a history."""
    held_out = padded([[*history, symbol] for symbol in CLASSES])
    return np.exp(kneser_ney(padded(rows), held_out, (order,), SIZE)[order][:, -1])


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_the_law_after_every_history_sums_to_one(order, monkeypatch):
    """Oracle: enumeration of all histories of up to three symbols, seen or not. Planted: mass for
    the symbols that are never predicted is missing."""
    histories = [h for n in range(4) for h in itertools.product(range(3, SIZE), repeat=n)]
    held_out = padded([[*h, symbol] for h in histories for symbol in CLASSES])

    def sums():
        nats = kneser_ney(padded(ROWS), held_out, (order,), SIZE)[order]
        last = nats[np.arange(len(nats)), (held_out != PAD).sum(1) - 1]
        return np.exp(last).reshape(len(histories), len(CLASSES)).sum(1)

    np.testing.assert_allclose(sums(), 1, rtol=1e-12)
    monkeypatch.setattr(module, "EOS", PAD)
    assert abs(sums() - 1).min() > 1e-4


class Naive:
    """The same law by dictionaries and recursion; `continuations=False` plants counts of
    occurrences at every order, which is absolute discounting and not Kneser-Ney."""

    def __init__(self, rows, order, continuations=True):
        self.order, self.counts = order, [Counter() for _ in range(order + 1)]
        before = defaultdict(set)
        for row in rows:
            tokens = (BOS, *row)
            for size, start in itertools.product(range(1, order + 1), range(len(tokens))):
                gram = tokens[start : start + size]
                if len(gram) == size:
                    self.counts[size][gram] += 1
                    if start:
                        before[gram].add(tokens[start - 1])
        if continuations:
            for size in range(1, order):
                for gram in self.counts[size]:
                    if gram[0] != BOS:
                        self.counts[size][gram] = len(before[gram])
        del self.counts[1][(BOS,)]

    def discount(self, size, count):
        n = Counter(self.counts[size].values())
        once = n[1] / (n[1] + 2 * n[2]) if n[1] else 0.5
        table = [c - (c + 1) * once * n[c + 1] / n[c] if n[c] else 0 for c in (1, 2, 3)]
        if not all(0 < d <= c for c, d in zip((1, 2, 3), table, strict=True)):
            table = [once] * 3
        return table[min(count, 3) - 1]

    def p(self, history, symbol):
        history = history[max(0, len(history) - self.order + 1) :]
        return self.p_of(history, symbol)

    def p_of(self, history, symbol):
        counts = self.counts[len(history) + 1]
        below = self.p_of(history[1:], symbol) if history else 1 / len(CLASSES)
        follow = {gram[-1]: n for gram, n in counts.items() if gram[:-1] == history}
        total = sum(follow.values())
        if not total:
            return below
        taken = {word: self.discount(len(history) + 1, n) for word, n in follow.items()}
        kept = max(follow[symbol] - taken[symbol], 0) if symbol in follow else 0
        return (kept + sum(taken.values()) * below) / total


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_it_is_the_published_estimate(order):
    """Oracle: the formula by dictionaries. Planted there: occurrences where the different tokens
    before should be counted are told apart."""
    new = [*corpus(25, seed=1), [7, 3, 7, EOS]]
    found = kneser_ney(padded(ROWS), padded(new), (order,), SIZE)[order]
    naive, planted = (Naive(ROWS, order, continuations) for continuations in (True, False))
    wrong = 0.0
    for nats, row in zip(found, new, strict=True):
        histories = [(BOS, *row[:place]) for place in range(len(row))]
        pairs = list(zip(histories, row, strict=True))
        expected = [math.log(naive.p(history, symbol)) for history, symbol in pairs]
        np.testing.assert_allclose(nats[: len(row)], expected, rtol=1e-11)
        assert not nats[len(row) :].any()
        wrong += sum(math.log(planted.p(history, symbol)) for history, symbol in pairs)
    if order > 1:
        assert abs(wrong - found.sum()) > 0.1


def test_all_orders_at_once_are_those_one_by_one():
    together = kneser_ney(padded(ROWS), padded(ROWS[:9]), (1, 2, 4), SIZE)
    for order, nats in together.items():
        alone = kneser_ney(padded(ROWS), padded(ROWS[:9]), (order,), SIZE)[order]
        np.testing.assert_array_equal(nats, alone)


def test_begin_is_implied_and_costs_nothing():
    """Oracle: the same rows with BOS before them."""
    plain = kneser_ney(padded(ROWS), padded(ROWS[:9]), (3,), SIZE)[3]
    with_begin = [[BOS, *row] for row in ROWS]
    framed = kneser_ney(padded(with_begin), padded(with_begin[:9]), (3,), SIZE)[3]
    np.testing.assert_array_equal(framed[:, 1:], plain)
    assert not framed[:, 0].any()


def test_a_history_never_reaches_into_the_row_before():
    """Oracle: rows in another order are the same training text."""
    shuffled = [ROWS[i] for i in np.random.default_rng(2).permutation(len(ROWS))]
    np.testing.assert_allclose(law_after((3, 5), 3, shuffled), law_after((3, 5), 3), rtol=1e-13)


def test_an_order_longer_than_every_row_is_the_longest_there_is():
    """Oracle: rows of two tokens have no 4-gram, so 4-grams are 3-grams, which begin with BOS."""
    short = padded([[3, 4], [3, 5], [4, EOS], [6]])
    found = kneser_ney(short, padded(ROWS), (3, 4, 6), SIZE)
    np.testing.assert_array_equal(found[4], found[6])
    np.testing.assert_allclose(found[4], found[3], rtol=1e-13)


def test_a_word_is_not_likely_because_it_is_frequent_after_one_other():
    """Oracle: the example of the paper. "Francisco" (5) occurs often, always after "San" (4); "dog"
    (6) half as often, but after three words. After a new word (7) "dog" is likelier."""
    rows = [[4, 5]] * 12 + [[3, 6]] * 2 + [[4, 6]] * 2 + [[6, 6]] * 2
    after = law_after((7,), 2, rows)
    assert after[6 - EOS] > after[5 - EOS]
    assert law_after((7,), 1, rows)[6 - EOS] < law_after((7,), 1, rows)[5 - EOS]


def test_discounts_are_those_of_the_counts_of_counts():
    """Oracle: by hand. n = 8, 4, 2, 1: Y = 1/2, D = 1 - 1/2, 2 - 3/4, 3 - 1; a corpus without n_2 and
    one in which nothing occurs once fall back to one discount."""
    counts = np.array([1] * 8 + [2] * 4 + [3] * 2 + [4])
    np.testing.assert_allclose(discounts(counts), [0, 0.5, 1.25, 2.0])
    np.testing.assert_allclose(discounts(np.array([1, 1, 3])), [0, 1, 1, 1])
    np.testing.assert_allclose(discounts(np.array([7, 9])), [0, 0.5, 0.5, 0.5])


def test_an_order_below_one_is_refused():
    with pytest.raises(UserError, match=r"n-grams of the orders \(0,\) were asked for; give 1"):
        kneser_ney(padded(ROWS), padded(ROWS), (0,), SIZE)

"""Interpolated Kneser-Ney n-grams, the classical reference of a language model. NumPy only.

Modified Kneser-Ney with three discounts an order: Chen & Goodman 1999, An empirical study of
smoothing techniques for language modeling, sec. 3.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from tightbound.data.sentences import BOS, EOS, PAD
from tightbound.errors import UserError

Numbers = Int[np.ndarray, " tokens"]
"""Which n-gram ends at each place of a stream: its row in the `_Grams` of its order, or `_NONE`."""

_NONE = -1


def kneser_ney(
    train: Int[np.ndarray, "rows time"],
    held_out: Int[np.ndarray, "new_rows new_time"],
    orders: Sequence[int],
    vocabulary_size: int,
) -> dict[int, Float[np.ndarray, "new_rows new_time"]]:
    """log p of every held-out token given those before it, in nats, for each of the `orders` n.

        p(w | h) = max(a(h w) - D(a(h w)), 0) / sum_v a(h v) + g(h) p(w | h')
        g(h)     = (D_1 N_1(h) + D_2 N_2(h) + D_3 N_3+(h)) / sum_v a(h v)

    h are the n - 1 tokens before w, or where there are fewer, all of them and BOS; h' is h without
    its first. N_c(h) is the number of words that follow h with a = c. a counts occurrences, for the
    highest order and for n-grams that begin with BOS; for all others it counts the different tokens
    that come before. The discounts D are of `discounts`. A history that training does not continue
    leaves p to h'. Below the single words is the uniform law over the V - 2 symbols from EOS on: the
    p of those symbols sum to 1, and none is 0.

    Rows are symbols padded with PAD; BOS stands first or not at all, and is implied. PAD and BOS
    are given 0 nats.
    """
    if not orders or min(orders) < 1:
        raise UserError(f"n-grams of the orders {tuple(orders)} were asked for; give 1 and above.")
    levels = _count(_Stream.of(train), max(orders), vocabulary_size)
    stream = _Stream.of(held_out)
    is_token = (held_out != PAD) & (held_out != BOS)
    below = np.full(len(stream.tokens), 1 / (vocabulary_size - EOS))
    history = np.zeros(len(stream.tokens), np.int64)  # the empty one
    nats = {}
    for order, grams in enumerate(levels, start=1):
        gram = grams.find(stream, history)
        if order in orders:
            log_p = np.log(
                _Discounted.of(grams, grams.occurrences).interpolate(history, gram, below)
            )
            nats[order] = np.zeros(held_out.shape)
            nats[order][is_token] = log_p[stream.place > 0]
        below = _Discounted.of(grams, grams.continuations).interpolate(history, gram, below)
        history = _before(gram, stream)
    return nats


def discounts(counts: Int[np.ndarray, " grams"]) -> Float[np.ndarray, " 4"]:
    """What is taken off a count of 0, of 1, of 2, and of 3 or more.

        Y = n_1 / (n_1 + 2 n_2),   D_c = c - (c + 1) Y n_{c+1} / n_c

    n_c is the number of n-grams with the count c: Chen & Goodman 1999, sec. 3. Where a D_c does not
    come out above 0 and at most c, as in small corpora, all are Y (Ney et al. 1994), or 1/2 where
    nothing occurs once.
    """
    n = np.bincount(np.minimum(counts, 5), minlength=6).astype(float)
    once = n[1] / (n[1] + 2 * n[2]) if n[1] else 0.5
    if n[1:4].all():
        c = np.arange(1, 4)
        modified = c - (c + 1) * once * n[2:5] / n[1:4]
        if (modified > 0).all() and (modified <= c).all():
            return np.array([0.0, *modified])
    return np.array([0.0, once, once, once])


@dataclass(frozen=True)
class _Stream:
    """All rows one after another, each with BOS before its tokens."""

    tokens: Numbers
    place: Numbers  # in its row: 0 is BOS

    @staticmethod
    def of(rows: Int[np.ndarray, "rows time"]) -> "_Stream":
        begin = np.full((len(rows), 1), BOS)
        framed = np.concatenate([begin, np.where(rows == BOS, PAD, rows)], axis=1).astype(np.int64)
        real = framed != PAD
        lengths = real.sum(1)
        starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
        return _Stream(framed[real], np.arange(len(starts)) - starts)


@dataclass(frozen=True)
class _Grams:
    """The n-grams of one order that training has, sorted by the number of their history."""

    keys: Int[np.ndarray, " grams"]  # number of the history * V + last token, ascending
    occurrences: Int[np.ndarray, " grams"]
    continuations: Int[np.ndarray, " grams"]  # a of an order that is not the highest
    vocabulary_size: int

    def continued(self, ends_with: Numbers) -> "_Grams":
        """The same with one continuation more for each of these numbers."""
        more = np.bincount(ends_with, minlength=len(self.keys))
        return replace(self, continuations=self.continuations + more)

    def find(self, stream: _Stream, history: Numbers) -> Numbers:
        """Which of these n-grams ends at each place, from the histories before the places."""
        if not len(self.keys):  # no row of training is as long
            return np.full(len(history), _NONE)
        key = history * self.vocabulary_size + stream.tokens
        row = np.minimum(np.searchsorted(self.keys, key), len(self.keys) - 1)
        return np.where((history != _NONE) & (self.keys[row] == key), row, _NONE)


@dataclass(frozen=True)
class _Discounted:
    """One order of the estimate: what each n-gram keeps, and what each history leaves to the next."""

    kept: Float[np.ndarray, " grams_and_none"]  # max(a - D(a), 0) / sum_v a(h v); 0 for `_NONE`
    left: Float[np.ndarray, " histories"]  # g(h); 1 where nothing follows h

    @staticmethod
    def of(grams: _Grams, counts: Int[np.ndarray, " grams"]) -> "_Discounted":
        history, token = np.divmod(grams.keys, grams.vocabulary_size)
        counts = np.where(token == BOS, 0, counts)  # BOS is never predicted
        taken = discounts(counts)[np.minimum(counts, 3)]
        total = np.bincount(history, counts)
        left = np.ones(len(total))
        np.divide(np.bincount(history, taken), total, out=left, where=total > 0)
        kept = (counts - taken) / np.maximum(total[history], 1)
        return _Discounted(np.append(kept, 0.0), left)

    def interpolate(
        self, history: Numbers, gram: Numbers, below: Float[np.ndarray, " tokens"]
    ) -> Float[np.ndarray, " tokens"]:
        """p(w | h) at every place, from p(w | h')."""
        left = np.ones(len(below))
        is_continued = (history != _NONE) & (history < len(self.left))
        left[is_continued] = self.left[history[is_continued]]
        return self.kept[gram] + left * below


def _count(stream: _Stream, highest: int, vocabulary_size: int) -> list[_Grams]:
    """The n-grams of every order up to the highest."""
    levels: list[_Grams] = []
    history = np.zeros(len(stream.tokens), np.int64)
    shorter = history
    for order in range(1, highest + 1):
        known = history != _NONE
        key = history[known] * vocabulary_size + stream.tokens[known]
        unique, first, number, count = np.unique(
            key, return_index=True, return_inverse=True, return_counts=True
        )
        gram = np.full(len(stream.tokens), _NONE)
        gram[known] = number
        if levels:
            # each different n-gram is one token more before the n-gram it ends with
            ends_with = shorter[np.flatnonzero(known)[first]]
            levels[-1] = levels[-1].continued(ends_with)
        # nothing comes before BOS, so what begins with it keeps its occurrences
        begins = np.bincount(gram[stream.place == order - 1], minlength=len(unique))
        levels.append(_Grams(unique, count, begins, vocabulary_size))
        shorter, history = gram, _before(gram, stream)
    return levels


def _before(numbers: Numbers, stream: _Stream) -> Numbers:
    """What ends at the place before each, as the history of a longer n-gram; none before BOS."""
    return np.where(stream.place == 0, _NONE, np.roll(numbers, 1))

"""Log-likelihoods of rows of tokens that need no model: what a trained one must beat. NumPy only."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import gammaln

from tightbound.data.baselines.kneser_ney import kneser_ney
from tightbound.data.batch import Split
from tightbound.data.sentences import EOS
from tightbound.data.token_split import scored

RowNats = Float[np.ndarray, " rows"]
"""Of every row of the held-out split, in nats per sequence; larger is better."""

ORDERS = (2, 3, 4, 5)


def token_references(train: Split, held_out: Split, vocabulary_size: int) -> Mapping[str, RowNats]:
    """log p of every row of `held_out` under laws fitted to `train`.

    - "uniform": every symbol from EOS on is as likely as any other;
    - "unigram": independent tokens with their training frequencies, smoothed by one of each symbol;
    - "kneser-ney-2" to "kneser-ney-5": see `kneser_ney`.

    BOS is given; EOS is predicted where it stands. `bag_of_tokens` is not among them: it is the
    likelihood of no law over sequences.
    """
    fitted, new = np.asarray(train.x.values), np.asarray(held_out.x.values)
    is_scored = scored(held_out)
    by_order = kneser_ney(fitted, new, ORDERS, vocabulary_size)
    return {
        "uniform": is_scored.sum(1) * -np.log(vocabulary_size - EOS),
        "unigram": _unigram(fitted[scored(train)], new, is_scored, vocabulary_size),
        **{f"kneser-ney-{order}": nats.sum(1) for order, nats in by_order.items()},
    }


def bag_of_tokens(held_out: Split) -> RowNats:
    """What it costs to put the known words of a row in order, in nats per sequence.

        log p = -log(n! / prod_w n_w!),   n_w how often w occurs among the n tokens

    The end is not among them: its place is known. This is a likelihood of the order alone, given the
    bag. Where order carries no information, as in independent residues, a model that
    sees what is to come approaches it, and a causal one cannot: it has to pay for the bag as well.
    Of text, whose order is mostly decided by its words, it bounds nothing.
    """
    values = np.asarray(held_out.x.values)
    counted = scored(held_out) & (values != EOS)
    # equal tokens stand together when sorted, and each run of n gives log n!
    ordered = np.sort(np.where(counted, values, -1), axis=1)
    return _log_factorials_of_runs(ordered) - gammaln(counted.sum(1) + 1.0)


def _log_factorials_of_runs(ordered: Int[np.ndarray, "rows time"]) -> RowNats:
    """Sum of log n! over the runs of n equal symbols in each row, -1 left out."""
    starts = np.ones(ordered.shape, bool)
    starts[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    run = np.cumsum(starts.ravel()) - 1
    lengths = np.bincount(run)
    is_first = starts & (ordered >= 0)
    nats = np.zeros(ordered.shape)
    nats[is_first] = gammaln(lengths[run.reshape(ordered.shape)[is_first]] + 1.0)
    return nats.sum(1)


def _unigram(
    tokens: Int[np.ndarray, " tokens"],
    values: Int[np.ndarray, "rows time"],
    is_scored: Bool[np.ndarray, "rows time"],
    vocabulary_size: int,
) -> RowNats:
    """f_w = (1 + n_w) / (V - 2 + sum of n), over the symbols from EOS on (Laplace)."""
    counts = np.bincount(tokens, minlength=vocabulary_size)[EOS:]
    table = np.log((1 + counts) / (counts.sum() + len(counts)))
    return np.where(is_scored, table[np.maximum(values - EOS, 0)], 0.0).sum(1)

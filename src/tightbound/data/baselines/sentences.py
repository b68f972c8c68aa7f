"""Log-likelihoods of sentences that need no model: what a trained one must beat. NumPy only."""

import math

import numpy as np
from jaxtyping import Float

from tightbound.data.batch import Split
from tightbound.data.sentences import EOS, NUM_MARKS, PAD
from tightbound.estimators.estimate import Estimate


def token_baselines(train: Split, held_out: Split, vocabulary_size: int) -> dict[str, Estimate]:
    """The baselines on `held_out`, in nats per sequence; larger is better. Given words are free,
    the end of a sentence counts."""
    return {
        "uniform-symbols": uniform_symbols(held_out, vocabulary_size),
        "unigram": unigram(train, held_out, vocabulary_size),
    }


def uniform_symbols(held_out: Split, vocabulary_size: int) -> Estimate:
    """-(n + 1) log(V + 1): every word, and the end, is as likely as any other of V words and an end."""
    choices = vocabulary_size - NUM_MARKS + 1
    return _estimate(-_num_scored(held_out) * math.log(choices), "uniform-symbols", held_out)


def unigram(train: Split, held_out: Split, vocabulary_size: int) -> Estimate:
    """Independent words with their training frequencies, and an end after each with its own.

        f_w = (1 + n_w) / (V + 1 + sum over w, and the end, of n)

    Add-one smoothing (Laplace), so that a word never seen costs a finite amount.
    """
    counts = np.bincount(_symbols(train).ravel(), minlength=vocabulary_size)
    counts = np.delete(counts, np.setdiff1d(np.arange(NUM_MARKS), [EOS]))
    table = np.zeros(vocabulary_size)
    scored = np.concatenate([[EOS], np.arange(NUM_MARKS, vocabulary_size)])
    table[scored] = np.log((1 + counts) / (counts.sum() + len(counts)))
    nats = np.where(_symbols(held_out) != PAD, table[_symbols(held_out)], 0.0).sum(1)
    return _estimate(nats, "unigram", held_out)


def _symbols(split: Split) -> np.ndarray:
    """Words that are not given, then EOS; PAD elsewhere."""
    tokens = np.asarray(split.x.tokens)
    given = np.arange(tokens.shape[1]) < np.asarray(split.x.num_given)[:, None]
    framed = np.concatenate([np.where(given, PAD, tokens), np.full((len(tokens), 1), PAD)], axis=1)
    framed[np.arange(len(tokens)), (tokens != PAD).sum(1)] = EOS
    return framed


def _num_scored(split: Split) -> np.ndarray:
    return (_symbols(split) != PAD).sum(1)


def _estimate(nats: Float[np.ndarray, " rows"], estimator: str, held_out: Split) -> Estimate:
    error = None if len(nats) < 2 else float(nats.std(ddof=1) / math.sqrt(len(nats)))
    return Estimate(
        value=float(nats.mean()),
        standard_error=error,
        monte_carlo_error=None,
        unit="nats per sequence",
        bound="exact",
        estimator=estimator,
        num_samples=0,
        split=held_out.description,
    )

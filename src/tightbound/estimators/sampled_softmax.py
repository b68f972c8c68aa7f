"""Scores of classes -> what a softmax over all of them is worth, from the scores of a few.

Everything here is of one position, in nats, to be maximised; the caller maps over positions. A *score*
is a logit: p(y) = exp(s_y) / Z with Z = sum_w exp(s_w). Classes are drawn from a proposal Q,
independently and with replacement, and `log_q` are their log Q. `CLAIMS` says what each value is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from tightbound.estimators.estimate import Bound

Score = Float[Array, ""]
Scores = Float[Array, " samples"]


@dataclass(frozen=True)
class SoftmaxClaim:
    """What a softmax estimator says of itself."""

    bound: Bound  # of its expectation on log p(y): "exact", "upper", or "none"
    is_log_probability: bool  # exp(value), summed over y, is 1
    gradient: str  # of its expectation, against the gradient of log p(y)


CLAIMS: Mapping[str, SoftmaxClaim] = {
    "exact": SoftmaxClaim("exact", True, "unbiased"),
    "importance": SoftmaxClaim("upper", False, "biased, right in the limit of many samples"),
    "with-target": SoftmaxClaim("upper", False, "biased, right in the limit of many samples"),
    "candidates": SoftmaxClaim("none", False, "biased, right in the limit of many samples"),
    "nce": SoftmaxClaim("none", False, "biased, right in the limit if exp(score) sums to 1"),
    "negative": SoftmaxClaim("none", False, "of another optimum, for any number of samples"),
}


def exact_softmax(target: Score, every: Float[Array, " classes"]) -> Score:
    """log p(y) = s_y - log sum_w exp(s_w). ValueError for no classes."""
    if len(every) == 0:
        raise ValueError("A softmax over no classes was asked for; give the score of at least one.")
    return target - jax.nn.logsumexp(every)


def importance_softmax(target: Score, samples: Scores, log_q: Scores) -> Score:
    """log p(y) with the normaliser estimated from m drawn classes, the target drawn like any other.

        s_y - log Z^,   Z^ = 1/m sum_i exp(s_i - log Q(i))

    Bengio & Senecal 2003 (AISTATS, eq. 8). E[Z^] = Z, so E[value] >= log p(y) by Jensen's inequality:
    no log-probability, and above 0 where the draws miss the likely classes. Its gradient is a ratio of
    averages (self-normalised importance sampling): biased, with a bias of order 1/m. Leaving out
    -log m moves the value by log m and no gradient; leaving out -log Q moves both.
    """
    _require_samples(samples)
    return target - (jax.nn.logsumexp(samples - log_q) - jnp.log(len(samples)))


def with_target_softmax(
    target: Score, samples: Scores, log_q: Scores, is_target: Bool[Array, " samples"]
) -> Score:
    """The same with the target always among the classes, and only the others estimated.

        s_y - log Z^,   Z^ = exp(s_y) + 1/m sum_{i: w_i != y} exp(s_i - log Q(i))

    Draws that hit the target (`is_target`) count as 0 and stay in m: E[Z^] = Z still. The value is
    never above 0, E[value] >= log p(y), and the spread is that of the other classes alone. Whoever
    leaves hits in has exp(s_y) twice.
    """
    _require_samples(samples)
    others = jnp.where(is_target, -jnp.inf, samples - log_q - jnp.log(len(samples)))
    return target - jax.nn.logsumexp(jnp.concatenate([target[None], others]))


def candidates_softmax(target: Score, target_log_q: Score, samples: Scores, log_q: Scores) -> Score:
    """log of a softmax over the m drawn classes and the target, each less its log Q.

        (s_y - log Q(y)) - log[exp(s_y - log Q(y)) + sum_i exp(s_i - log Q(i))]

    Jean et al. 2015 (arXiv:1412.2007), eq. 9 to 11 with Q for the set's law; "ranking" NCE in Ma &
    Collins 2018 (arXiv:1809.01812), eq. 4. It is the log-probability of *which candidate* is the
    target, at most 0, and tends to log p(y) - log(m Q(y)): not log p(y). Where y ~ p(. | context), its
    expected gradient is 0 at s = log p + any constant of the context, for every m. Draws that hit the
    target stay in.
    """
    _require_samples(samples)
    corrected = target - target_log_q
    return corrected - jax.nn.logsumexp(jnp.concatenate([corrected[None], samples - log_q]))


def noise_contrast(
    target: Score,
    target_log_q: Score,
    samples: Scores,
    log_q: Scores,
    log_normaliser: Score | float = 0.0,
) -> Score:
    """Noise-contrastive estimation: is a class from the data or one of k from the noise Q?

        log h(y) + sum_i log(1 - h(w_i)),   h(w) = p(w) / (p(w) + k Q(w)),   log p(w) = s_w - log Z

    Gutmann & Hyvarinen 2010; Mnih & Teh 2012 (arXiv:1206.6426), eq. 8. Z is not computed: `log_normaliser`
    is 0 (scores that learn to sum to 1) or a parameter of the context. The value is the
    log-probability of k + 1 answers yes or no. Its expected gradient is 0 at s - log Z = log p, for
    every k, and tends to that of log p(y) as k grows where exp(s) / Z sums to 1.
    """
    _require_samples(samples)
    log_k = jnp.log(len(samples))
    of_target = target - log_normaliser - (log_k + target_log_q)
    of_samples = samples - log_normaliser - (log_k + log_q)
    return jax.nn.log_sigmoid(of_target) + jax.nn.log_sigmoid(-of_samples).sum()


def negative_sampling(target: Score, samples: Scores) -> Score:
    """The same game without k Q: log sigma(s_y) + sum_i log sigma(-s_i).

    Mikolov et al. 2013 (arXiv:1310.4546), eq. 4. It is `noise_contrast` where k Q(w) = 1 for every
    class: k as many as there are classes, and Q uniform. Otherwise its best scores are those of Levy &
    Goldberg 2014, sec. 3.1, s_w = log p(w) - log(k Q(w)), and it is softmax(s + log Q) that is p.
    """
    _require_samples(samples)
    return jax.nn.log_sigmoid(target) + jax.nn.log_sigmoid(-samples).sum()


def _require_samples(samples: Any) -> None:
    if len(samples) == 0:
        raise ValueError(
            "A sampled softmax was asked for with no samples; draw at least one class."
        )

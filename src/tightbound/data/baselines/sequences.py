"""Log-likelihoods of sequences that need no latent state: what a trained model must beat. NumPy only.

A function for each kind of data gives nats per sequence, row by row, so that the difference from a
model can be paired; `baseline_estimates` makes them the numbers that are printed. All are fitted
on the training split, and padding is left behind before anything is computed. A scale never falls
below `min_scale` (of a covariance: the square root of its eigenvalues): give the floor of the
model, since on data that lie on a grid a lower floor buys density for nothing.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import gammaln, logsumexp

from tightbound.data.batch import Split
from tightbound.data.strokes import OffsetScale, Strokes
from tightbound.errors import UserError
from tightbound.estimators.estimate import Estimate

RowNats = Float[np.ndarray, " rows"]
"""log p(x) of every row of the held-out split, in nats per sequence."""

_NUM_FITTED = 50_000  # steps that a mixture is fitted to, evenly spaced: a second's work
_NUM_ITERATIONS = 100  # of EM at most
_TOLERANCE = 1e-5  # nats per step that an iteration of EM must gain to be followed by another
_DEGREES = (2.5, 3.0, 4.0, 5.0, 7.0, 10.0, 20.0, 50.0)  # of freedom, tried in turn
_CHUNK = 4096  # images made 64-bit at a time


def stroke_baselines(
    train: Split, held_out: Split, *, min_scale: float, num_components: int = 5
) -> dict[str, RowNats]:
    """Laws of offsets times laws of pen bits, in nats per sequence.

    - "iid-gaussian": one full-covariance Gaussian for all offsets; the pen at its base rate;
    - "gaussian-mixture-K": K of them, by EM; the pen at its base rate;
    - "ar1-gaussian": offset_t ~ N(A offset_{t-1} + b, Q) by least squares, the first as above; the
      pen given the bit before it, the first at the base rate.

    Pen frequencies are smoothed by one lifted and one that is not (Laplace).
    """
    fitted, scored = _steps(train), _steps(held_out)
    offsets, bits = _as_double(fitted.values)
    new_offsets, new_bits = _as_double(scored.values)
    gaussian = _gaussian(offsets, min_scale)
    mixture = fit_mixture(offsets, num_components, min_scale=min_scale)
    base = _bernoulli_nats(new_bits, _frequency(bits))
    after = [_frequency(bits[fitted.follows & (_before(bits) == lifted)]) for lifted in (0, 1)]
    chained = _bernoulli_nats(new_bits, np.array(after)[_before(new_bits).astype(int)])
    law = {
        "iid-gaussian": _gaussian_nats(new_offsets, *gaussian) + base,
        f"gaussian-mixture-{num_components}": mixture.log_density(new_offsets) + base,
        "ar1-gaussian": _autoregressive_nats(fitted, scored, offsets, new_offsets, min_scale)
        + np.where(scored.follows, chained, base),
    }
    return {name: scored.per_row(nats) for name, nats in law.items()}


def stroke_references(train: Split, held_out: Split, scale: OffsetScale) -> dict[str, Estimate]:
    """Two figures that are no likelihood of a sequence; smaller is better.

    - "predict-the-mean": mean over steps and both coordinates of |offset - mean of training|, in
      the file's units, to stand beside the same of a model's predicted means;
    - "pen-base-rate": cross-entropy of the pen bits at their smoothed training frequency, in nats
      per step.

    Both are sums over the corpus divided by its number of steps.
    """
    fitted, scored = _steps(train), _steps(held_out)
    offsets, bits = _as_double(fitted.values)
    new_offsets, new_bits = _as_double(scored.values)
    error = np.abs(new_offsets - offsets.mean(0)) * scale.scale
    entropy = -_bernoulli_nats(new_bits, _frequency(bits))
    return {
        "predict-the-mean": _per_step(
            error.mean(1), scored, "data units per step", "predict-the-mean", held_out
        ),
        "pen-base-rate": _per_step(entropy, scored, "nats per step", "pen-base-rate", held_out),
    }


def pianoroll_baselines(train: Split, held_out: Split) -> dict[str, RowNats]:
    """Chords drawn independently of each other, in nats per sequence.

    - "uniform": -K log 2 a step of K keys, any chord as likely as any other;
    - "independent-keys": each key with its frequency f = (1 + n) / (2 + N) in N training steps;
    - "unigram-chords": whole chords by how often training has them, the rest of the mass, as much
      as training had kinds of chords, on independent keys (Witten & Bell 1991, method C):

          p(c) = (n_c + D p_independent(c)) / (N + D),   D different chords in N steps
    """
    fitted, scored = _steps(train), _steps(held_out)
    keys, new_keys = fitted.values > 0.5, scored.values > 0.5
    independent = _bernoulli_nats(new_keys, _frequency(keys)).sum(1)
    chords = Counter(_chords(keys))
    counts = np.array([chords[chord] for chord in _chords(new_keys)])
    with np.errstate(divide="ignore"):
        log_counts = np.log(counts)
    unigram = np.logaddexp(log_counts, math.log(len(chords)) + independent)
    law = {
        "uniform": np.full(len(new_keys), -new_keys.shape[1] * math.log(2)),
        "independent-keys": independent,
        "unigram-chords": unigram - math.log(len(keys) + len(chords)),
    }
    return {name: scored.per_row(nats) for name, nats in law.items()}


def series_baselines(train: Split, held_out: Split, *, min_scale: float) -> dict[str, RowNats]:
    """Real-valued series without a volatility or any other state, in nats per sequence.

    - "iid-gaussian": one full-covariance Gaussian for every step;
    - "iid-student-t": a multivariate Student-t in its place, whose tails large moves need;
    - "ar1-gaussian": y_t ~ N(A y_{t-1} + b, Q) by least squares, the first step by the Gaussian.
    """
    fitted, scored = _steps(train), _steps(held_out)
    x, new_x = fitted.values.astype(float), scored.values.astype(float)
    law = {
        "iid-gaussian": _gaussian_nats(new_x, *_gaussian(x, min_scale)),
        "iid-student-t": fit_student_t(x, min_scale=min_scale).log_density(new_x),
        "ar1-gaussian": _autoregressive_nats(fitted, scored, x, new_x, min_scale),
    }
    return {name: scored.per_row(nats) for name, nats in law.items()}


def pixel_row_baselines(train: Split, held_out: Split) -> dict[str, RowNats]:
    """Binary images read row by row, all of one size, in nats per sequence.

    - "uniform": -D log 2;
    - "independent-pixel": Bernoulli pixels, each place of the image with its own smoothed
      frequency. With grey values in [0, 1] it is the expectation over dynamic binarisation.
    """
    if not (train.mask.all() and held_out.mask.all()):
        raise ValueError(
            "`pixel_row_baselines` has a frequency for every place of an image, but a split has "
            "padded rows. Give images of one size; `pianoroll_baselines` takes any length."
        )
    values, new_values = train.x.values, held_out.x.values
    frequency = (1 + values.sum(0, dtype=np.float64)) / (2 + len(values))
    parts = (new_values[i : i + _CHUNK] for i in range(0, len(new_values), _CHUNK))
    independent = [_bernoulli_nats(part, frequency).sum((1, 2)) for part in parts]
    num_pixels = math.prod(new_values.shape[1:])
    return {
        "uniform": np.full(len(new_values), -num_pixels * math.log(2)),
        "independent-pixel": np.concatenate(independent),
    }


def baseline_estimates(nats: Mapping[str, RowNats], held_out: Split) -> dict[str, Estimate]:
    """The means over sequences with their errors; larger is better."""
    return {
        name: Estimate(
            value=float(rows.mean()),
            standard_error=_error(rows),
            monte_carlo_error=None,
            unit="nats per sequence",
            bound="exact",
            estimator=name,
            num_samples=0,
            split=held_out.description,
        )
        for name, rows in nats.items()
    }


@dataclass(frozen=True)
class GaussianMixture:
    """sum_k weight_k N(mean_k, covariance_k)."""

    weights: Float[np.ndarray, " components"]
    means: Float[np.ndarray, "components dims"]
    covariances: Float[np.ndarray, "components dims dims"]

    def log_density(self, x: Float[np.ndarray, "steps dims"]) -> Float[np.ndarray, " steps"]:
        """log p(x) in nats."""
        return np.asarray(logsumexp(self.log_joint(x), axis=1))

    def log_joint(
        self, x: Float[np.ndarray, "steps dims"]
    ) -> Float[np.ndarray, "steps components"]:
        """log p(x, component) in nats."""
        parts = zip(self.means, self.covariances, strict=True)
        nats = np.stack([_gaussian_nats(x, mean, cov) for mean, cov in parts], axis=1)
        with np.errstate(divide="ignore"):  # a component without weight counts as none
            return np.asarray(nats + np.log(self.weights))


def fit_mixture(
    x: Float[np.ndarray, "steps dims"], num_components: int, *, min_scale: float
) -> GaussianMixture:
    """Maximum likelihood by EM, on at most 50,000 evenly spaced steps. A local maximum, always the
    same one: it begins at means drawn as k-means++ does (Arthur & Vassilvitskii 2007), seed 0."""
    if num_components < 1:
        raise UserError(f"A mixture of {num_components} was asked for; give at least 1 component.")
    x = x[:: -(-len(x) // _NUM_FITTED)]
    mixture = _first_mixture(x, num_components, min_scale)
    before = -math.inf
    for _ in range(_NUM_ITERATIONS):
        log_joint = mixture.log_joint(x)
        log_density = np.asarray(logsumexp(log_joint, axis=1))
        if log_density.mean() - before < _TOLERANCE:
            break
        before = log_density.mean()
        mixture = _weighted_mixture(x, np.exp(log_joint - log_density[:, None]), min_scale)
    return mixture


@dataclass(frozen=True)
class StudentT:
    """Multivariate Student-t: (1 + delta / df)^(-(df + dims) / 2) up to its constant, where delta
    is the squared distance from `mean` in units of `shape` (no covariance: that is larger)."""

    df: float  # degrees of freedom
    mean: Float[np.ndarray, " dims"]
    shape: Float[np.ndarray, "dims dims"]

    def log_density(self, x: Float[np.ndarray, "steps dims"]) -> Float[np.ndarray, " steps"]:
        """log p(x) in nats."""
        delta, log_det = _distances(x, self.mean, self.shape)
        dims = len(self.mean)
        constant = gammaln((self.df + dims) / 2) - gammaln(self.df / 2)
        constant -= (dims * math.log(self.df * math.pi) + log_det) / 2
        return constant - (self.df + dims) / 2 * np.log1p(delta / self.df)


def fit_student_t(x: Float[np.ndarray, "steps dims"], *, min_scale: float) -> StudentT:
    """Maximum likelihood by EM for each of a few degrees of freedom; the best of them.

    The parameter-expanded EM of Liu, Rubin & Wu 1998, which divides by the sum of the weights.
    """
    fits = [_student_t_of(x, df, min_scale) for df in _DEGREES]
    return max(fits, key=lambda fit: fit.log_density(x).mean())


def _student_t_of(x: np.ndarray, df: float, min_scale: float) -> StudentT:
    mean, shape = _gaussian(x, min_scale)
    for _ in range(_NUM_ITERATIONS):
        delta, _ = _distances(x, mean, shape)
        weights = (df + x.shape[1]) / (df + delta)
        new_mean, new_shape = _gaussian(x, min_scale, weights)
        done = np.allclose(new_shape, shape, rtol=1e-7, atol=0)
        mean, shape = new_mean, new_shape
        if done:
            break
    return StudentT(df, mean, shape)


def _first_mixture(x: np.ndarray, num_components: int, min_scale: float) -> GaussianMixture:
    random = np.random.default_rng(0)
    _, covariance = _gaussian(x, min_scale)
    means = x[random.integers(len(x), size=1)]
    for _ in range(num_components - 1):
        distance = np.min([_distances(x, mean, covariance)[0] for mean in means], axis=0)
        odds = distance + 1e-9  # where all steps are equal any is as far as the others
        means = np.concatenate([means, x[random.choice(len(x), size=1, p=odds / odds.sum())]])
    return GaussianMixture(
        np.full(num_components, 1 / num_components), means, np.stack([covariance] * num_components)
    )


def _weighted_mixture(
    x: np.ndarray, share: Float[np.ndarray, "steps components"], min_scale: float
) -> GaussianMixture:
    """The M step: each component the weighted Gaussian of its share of the steps."""
    parts = [_gaussian(x, min_scale, weights) for weights in share.T]
    means, covariances = zip(*parts, strict=True)
    return GaussianMixture(share.mean(0), np.stack(means), np.stack(covariances))


@dataclass(frozen=True)
class _Steps:
    """The real steps of a split, one after another; whatever was padded is not among them."""

    values: Any  # leaves have a leading axis of steps
    row: Int[np.ndarray, " steps"]
    follows: Bool[np.ndarray, " steps"]  # False at the first step of a row
    num_rows: int

    def per_row(self, of_step: Float[np.ndarray, " steps"]) -> RowNats:
        """Sums over the steps of each row."""
        return np.bincount(self.row, of_step, self.num_rows)


def _steps(split: Split) -> _Steps:
    row, time = np.nonzero(split.mask)
    values = jax.tree.map(lambda leaf: np.asarray(leaf)[split.mask], split.x.values)
    return _Steps(values, row, time > 0, len(split))


def _as_double(strokes: Strokes) -> tuple[np.ndarray, np.ndarray]:
    """Offsets and pen bits in 64 bits."""
    return np.asarray(strokes.offset, float), np.asarray(strokes.pen, float)


def _gaussian(
    x: np.ndarray, min_scale: float, weights: np.ndarray | None = None
) -> tuple[Float[np.ndarray, " dims"], Float[np.ndarray, "dims dims"]]:
    """Weighted mean and covariance, no eigenvalue below min_scale^2: the maximum of the likelihood
    among the covariances that keep to the floor."""
    weights = np.ones(len(x)) if weights is None else weights
    total = max(weights.sum(), 1e-300)  # a component may have lost every step
    mean = weights @ x / total
    centred = x - mean
    values, vectors = np.linalg.eigh((weights[:, None] * centred).T @ centred / total)
    return mean, (vectors * np.maximum(values, min_scale**2)) @ vectors.T


def _distances(
    x: np.ndarray, mean: np.ndarray, covariance: np.ndarray
) -> tuple[Float[np.ndarray, " steps"], float]:
    """Squared distances from the mean in units of the covariance, and the log of its determinant."""
    factor = np.linalg.cholesky(covariance)
    whitened = (x - mean) @ np.linalg.inv(factor).T
    return np.square(whitened).sum(1), 2 * float(np.log(np.diag(factor)).sum())


def _gaussian_nats(
    x: np.ndarray, mean: np.ndarray, covariance: np.ndarray
) -> Float[np.ndarray, " steps"]:
    delta, log_det = _distances(x, mean, covariance)
    return -0.5 * (delta + log_det + len(mean) * math.log(2 * math.pi))


def _autoregressive_nats(
    fitted: _Steps, scored: _Steps, x: np.ndarray, new_x: np.ndarray, min_scale: float
) -> Float[np.ndarray, " steps"]:
    """log N(x_t; A x_{t-1} + b, Q) where there is a step before, else the Gaussian of all steps."""
    mean, covariance = _gaussian(x, min_scale)
    first = _gaussian_nats(new_x, mean, covariance)
    if not fitted.follows.any():  # single steps only: there is nothing to regress on
        return first
    before = np.column_stack([_before(x), np.ones(len(x))])[fitted.follows]
    matrix = np.linalg.lstsq(before, x[fitted.follows])[0]
    _, noise = _gaussian(x[fitted.follows] - before @ matrix, min_scale)
    new_before = np.column_stack([_before(new_x), np.ones(len(new_x))])
    chained = _gaussian_nats(new_x - new_before @ matrix, np.zeros(len(mean)), noise)
    return np.where(scored.follows, chained, first)


def _before(x: np.ndarray) -> np.ndarray:
    """The step before, wherever the step follows one; at the first of a row it means nothing."""
    return np.concatenate([x[:1], x[:-1]])


def _frequency(bits: np.ndarray) -> Any:
    """How often each is 1, with one more that is and one more that is not."""
    return (1 + bits.sum(0, dtype=np.float64)) / (2 + len(bits))


def _bernoulli_nats(bits: np.ndarray, frequency: Any) -> np.ndarray:
    """b log f + (1 - b) log(1 - f)."""
    log_off = np.log1p(-frequency)
    return bits * (np.log(frequency) - log_off) + log_off


def _chords(keys: Bool[np.ndarray, "steps keys"]) -> list[bytes]:
    return [chord.tobytes() for chord in np.packbits(keys, axis=1)]


def _per_step(
    of_step: np.ndarray, scored: _Steps, unit: str, estimator: str, held_out: Split
) -> Estimate:
    """Sum over the corpus by its number of steps; the error over rows is that of a ratio."""
    totals, lengths = scored.per_row(of_step), scored.per_row(np.ones(len(of_step)))
    value = totals.sum() / lengths.sum()
    return Estimate(
        value=float(value),
        standard_error=_error((totals - value * lengths) / lengths.mean()),
        monte_carlo_error=None,
        unit=unit,
        bound="none",
        estimator=estimator,
        num_samples=0,
        split=held_out.description,
    )


def _error(rows: RowNats) -> float | None:
    """Standard error of the mean over sequences, which one sequence cannot tell."""
    if len(rows) < 2:
        return None
    if np.ptp(rows) == 0:  # the same for all: no rounding of the mean may look like an error
        return 0.0
    return float(rows.std(ddof=1) / math.sqrt(len(rows)))

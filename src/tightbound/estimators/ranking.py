"""Several arms, each run with several seeds, on the same sequences: which are better, and which are
tied?  NumPy and SciPy only.

Everything is a negative log-likelihood here: smaller is better, and rank 1 is the best.
"""

from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Integer
from scipy.stats import t as student_t

from tightbound.estimators.units import ratio_influence, standard_error


@dataclass(frozen=True)
class PairedDifference:
    """Two arms on the same sequences with the same seeds, in nats per unit.

    `difference` is first minus second: positive where the first is worse. An error is None where
    it cannot be known (one seed, one sequence). `adjusted_p_value` counts all pairs of arms.
    """

    first: int  # places of the arms
    second: int
    difference: float
    standard_error: float | None
    sequence_error: float | None  # its part over sequences
    seed_error: float | None  # its part over seeds
    degrees_of_freedom: float | None
    num_seeds: int  # that both arms have
    p_value: float
    adjusted_p_value: float

    def to_json(self) -> dict[str, Any]:
        """As `sweep --json` prints it."""
        return asdict(self)


@dataclass(frozen=True)
class ArmStanding:
    """One arm: its mean over seeds in nats per unit, both errors of it, and where it stands.

    `seed_error` says how far other seeds would move the mean, `sequence_error` how far other
    sequences would; either is None where there is one only. The arm's rank lies from
    `lowest_rank` to `highest_rank`; it is tied with the arms it is not told apart from.
    """

    mean: float
    seed_error: float | None
    sequence_error: float | None
    num_seeds: int
    lowest_rank: int
    highest_rank: int
    tied_with: tuple[int, ...]


@dataclass(frozen=True)
class Ranking:
    """All arms, in the order they were given, and all pairs of them."""

    arms: tuple[ArmStanding, ...]
    pairs: tuple[PairedDifference, ...]
    best: int  # the arm with the smallest mean; it may be tied with others
    level: float

    def difference(self, first: int, second: int) -> PairedDifference:
        """The pair, whichever way round it was computed. KeyError where it is no pair."""
        for pair in self.pairs:
            if (pair.first, pair.second) == (first, second):
                return pair
            if (pair.second, pair.first) == (first, second):
                return _turned(pair)
        raise KeyError(f"There is no pair of the arms {first} and {second}.")


def rank_arms(
    nats: Float[np.ndarray, "arms seeds batch"],
    num_units: Int[np.ndarray, " batch"],
    *,
    groups: Integer[np.ndarray, " batch"] | None = None,
    level: float = 0.05,
) -> Ranking:
    """Means, paired differences and ranks of arms, safe against comparing many of them.

    `nats` is -log p (or a bound on it) of every sequence; a run that is missing is NaN throughout.
    All pairs are tested (`paired_difference`), their p values adjusted together by Holm's
    procedure, and two arms whose adjusted p value is above `level` are tied. With probability
    1 - `level` no pair is told apart wrongly, and then no arm's rank lies outside

        1 + number of arms told apart as better   to   arms - number told apart as worse

    in the manner of Mogstad, Romano, Shaikh & Wilhelm 2024 (Review of Economic Studies 91, sec. 3),
    who get the same sets from simultaneous confidence intervals of all differences. A tie is not
    transitive: a may be tied with b and b with c where a and c are told apart.

    ValueError where an arm has no run at all, or a run is infinite somewhere.
    """
    _require_runs(nats)
    num_arms = len(nats)
    pairs = [
        paired_difference(nats, first, second, num_units, groups)
        for first, second in combinations(range(num_arms), 2)
    ]
    adjusted = holm(np.array([pair.p_value for pair in pairs]))
    pairs = [
        replace(pair, adjusted_p_value=float(p)) for pair, p in zip(pairs, adjusted, strict=True)
    ]
    better = np.zeros((num_arms, num_arms), bool)  # [i, j]: i told apart from j, as better
    for pair in pairs:
        if pair.adjusted_p_value <= level:
            winner, loser = pair.first, pair.second
            if pair.difference > 0:
                winner, loser = loser, winner
            better[winner, loser] = True
    lowest, highest = rank_sets(better)
    tied = ~(better | better.T)
    arms = []
    for arm in range(num_arms):
        runs = nats[arm][_present(nats[arm])]
        ties = tuple(int(other) for other in np.flatnonzero(tied[arm]) if other != arm)
        ranks = int(lowest[arm]), int(highest[arm])
        arms.append(ArmStanding(*_mean(runs, num_units, groups), len(runs), *ranks, ties))
    best = int(np.argmin([arm.mean for arm in arms]))
    return Ranking(tuple(arms), tuple(pairs), best, level)


def paired_difference(
    nats: Float[np.ndarray, "arms seeds batch"],
    first: int,
    second: int,
    num_units: Int[np.ndarray, " batch"],
    groups: Integer[np.ndarray, " batch"] | None = None,
) -> PairedDifference:
    """First minus second, paired by sequence and by seed, in nats per unit.

        d_sb = n_1sb - n_2sb,   D_s = sum_b d_sb / sum_b u_b,   D = mean_s D_s
        variance = V_b + V_s,   V_s = var_s(D_s) / S
        V_b = squared error of the ratio sum_b (mean_s d_sb) / sum_b u_b over sequences

    Sequences are shared by all seeds, so they are averaged over seeds first; the error over them is
    clustered where there are `groups` (`units.standard_error`). What seed and sequence do together
    is in both parts, so the sum errs to the safe side. The p value is two-sided, from Student's t
    with Satterthwaite's degrees of freedom

        (V_b + V_s)^2 / (V_b^2 / (B - 1) + V_s^2 / (S - 1))

    (Satterthwaite 1946, Biometrics Bulletin 2, eq. 17), which few seeds keep small. With one seed
    V_s is left out: the difference is then one of these two runs, not of the arms. Only seeds that
    both arms have are used; without any, and where no error is known, p = 1.
    """
    both = _present(nats[first]) & _present(nats[second])
    runs = nats[first][both] - nats[second][both]
    if not len(runs):
        return PairedDifference(first, second, np.nan, None, None, None, None, 0, 1.0, 1.0)
    value, seed_error, sequence_error = _mean(runs, num_units, groups)
    num_clusters = len(num_units) if groups is None else len(np.unique(groups))
    parts = [
        (error**2, count - 1)
        for error, count in ((sequence_error, num_clusters), (seed_error, len(runs)))
        if error is not None
    ]
    error = float(np.sqrt(sum(part for part, _ in parts))) if parts else None
    freedom = _satterthwaite(parts)
    return PairedDifference(
        first=first,
        second=second,
        difference=value,
        standard_error=error,
        sequence_error=sequence_error,
        seed_error=seed_error,
        degrees_of_freedom=freedom,
        num_seeds=len(runs),
        p_value=_p_value(value, error, freedom),
        adjusted_p_value=1.0,
    )


def holm(p_values: Float[np.ndarray, " tests"]) -> Float[np.ndarray, " tests"]:
    """p values adjusted for there being many: the chance that *any* true hypothesis has one below
    the level is at most the level.

        adjusted_(i) = max_{j <= i} min(1, (m - j + 1) p_(j)),   p_(1) <= ... <= p_(m)

    Holm 1979, Scandinavian Journal of Statistics 6, sec. 2. Whatever the tests' dependence.
    """
    order = np.argsort(p_values, kind="stable")
    factors = len(p_values) - np.arange(len(p_values))
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.maximum.accumulate(np.minimum(1.0, factors * p_values[order]))
    return adjusted


def rank_sets(
    better: Bool[np.ndarray, "arms arms"],
) -> tuple[Int[np.ndarray, " arms"], Int[np.ndarray, " arms"]]:
    """The first and the last rank of every arm; `better[i, j]`: i is told apart from j, as better."""
    return 1 + better.sum(0), len(better) - better.sum(1)


def _require_runs(nats: Float[np.ndarray, "arms seeds batch"]) -> None:
    if not len(nats) or not all(_present(arm).any() for arm in nats):
        raise ValueError(
            f"`rank_arms` needs at least one run of every arm, but `nats` of shape {nats.shape} has "
            "an arm without.\nLeave arms out that have no finished run."
        )
    if np.isinf(nats).any():
        raise ValueError(
            f"{int(np.isinf(nats).any(-1).sum())} runs are infinite on some sequence, so their means "
            "and errors are not defined.\nLeave these runs out, and say so."
        )


def _present(runs: Float[np.ndarray, "seeds batch"]) -> Bool[np.ndarray, " seeds"]:
    return np.asarray(~np.isnan(runs).any(-1))


def _mean(
    runs: Float[np.ndarray, "seeds batch"],
    num_units: Int[np.ndarray, " batch"],
    groups: Integer[np.ndarray, " batch"] | None,
) -> tuple[float, float | None, float | None]:
    """Sum of nats over sum of units, averaged over seeds; its error over seeds and over sequences."""
    by_seed = runs.sum(-1) / num_units.sum()
    seed_error = float(by_seed.std(ddof=1) / np.sqrt(len(runs))) if len(runs) > 1 else None
    influence = ratio_influence(runs.mean(0), num_units)
    return float(by_seed.mean()), seed_error, standard_error(influence, groups)


def _satterthwaite(parts: list[tuple[float, int]]) -> float | None:
    """Degrees of freedom of a sum of variances, each given with its own; None where all are 0."""
    spread = sum(variance**2 / freedom for variance, freedom in parts)
    return sum(variance for variance, _ in parts) ** 2 / spread if spread > 0 else None


def _p_value(difference: float, error: float | None, freedom: float | None) -> float:
    if error is None or difference == 0:
        return 1.0
    if freedom is None:  # no spread at all around a difference
        return 0.0
    return float(2 * student_t.sf(abs(difference) / error, freedom))


def _turned(pair: PairedDifference) -> PairedDifference:
    return replace(pair, first=pair.second, second=pair.first, difference=-pair.difference)

"""The finished runs of a sweep -> one document: every arm's figure, and which are better."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tightbound.errors import UserError
from tightbound.estimators.comparison import SequenceScores
from tightbound.estimators.estimate import Estimate, finite_or_text
from tightbound.estimators.ranking import ArmStanding, Ranking, rank_arms
from tightbound.estimators.units import TURNED
from tightbound.sweep.folder import SCORES, SweepFolder
from tightbound.sweep.plan import Plan, PlannedArm, PlannedRun
from tightbound.sweep.scores import load_scores

LEVEL = 0.05
Scores = Mapping[int, SequenceScores]  # of one arm, by seed


def results(
    folder: SweepFolder, plan: Plan, failed: Mapping[str, str], *, by_group: bool = False
) -> dict[str, Any]:
    """What `sweep --json` prints, as far as runs are finished; `failed` says why runs are not.

    Arms are listed from the best mean on. They are paired and ranked where all were evaluated on the
    same rows with the same units; where they were not, `not_ranked` says so and every arm has
    its own figure alone. Runs with an infinite log p are left out and listed as failed.
    """
    scores, infinite = _finite({arm.name: _load(folder, plan, arm) for arm in plan.arms}, plan)
    arms = [arm for arm in plan.arms if scores[arm.name]]
    first = _any(scores[arms[0].name]) if arms else None
    groups = _groups(first) if by_group and first is not None else None
    not_ranked = _difference_in_data(arms, scores)
    if not arms or not_ranked:
        ranking, standings = None, [_standing(scores[arm.name], by_group) for arm in arms]
    else:
        ranking = _ranking([scores[arm.name] for arm in arms], by_group)
        standings = list(ranking.arms)
    order = sorted(range(len(arms)), key=lambda place: standings[place].mean)
    return {
        "recipe": plan.recipe,
        "split": plan.evaluation.split if first is None else first.split,
        "level": LEVEL,
        "num_sequences": 0 if first is None else len(first.rows),
        "num_groups": None if groups is None else len(np.unique(groups)),
        "not_ranked": not_ranked,
        "arms": [
            _arm_json(folder, arms, place, standings[place], scores[arms[place].name], ranking)
            for place in order
        ],
        "unfinished": [
            {"run": run.name, "arm": run.arm.label, "seed": run.seed, "says": says}
            for run in plan.runs
            for says in [{**failed, **infinite}.get(run.name)]
            if says is not None or not folder.is_finished(run)
        ],
    }


def _load(folder: SweepFolder, plan: Plan, arm: PlannedArm) -> Scores:
    runs = (PlannedRun(arm, seed) for seed in range(plan.num_seeds))
    return {
        run.seed: load_scores(folder.run(run.name).path / SCORES)
        for run in runs
        if folder.is_finished(run)
    }


def _finite(
    loaded: Mapping[str, Scores], plan: Plan
) -> tuple[Mapping[str, Scores], dict[str, str]]:
    """The scores that can be averaged, by arm; and by run why others cannot."""
    kept = {arm.name: dict[int, SequenceScores]() for arm in plan.arms}
    left_out = {}
    for arm in plan.arms:
        for seed, one in loaded[arm.name].items():
            if count := int((~np.isfinite(one.log_p)).sum()):
                says = f"log p is not finite on {count} of {len(one.rows)} rows"
                left_out[PlannedRun(arm, seed).name] = says
            else:
                kept[arm.name][seed] = one
    return kept, left_out


def _difference_in_data(arms: Sequence[PlannedArm], scores: Mapping[str, Scores]) -> str | None:
    """Why the arms cannot be paired; None where they can."""
    runs = [(arm.label, one) for arm in arms for one in scores[arm.name].values()]
    for label, one in runs[1:]:
        first_label, first = runs[0]
        if (
            one.split != first.split
            or not np.array_equal(one.rows, first.rows)
            or not np.array_equal(one.num_units, first.num_units)
        ):
            return (
                f"The arms are not ranked: they were evaluated on different data ({first_label}: "
                f"{first.num_units.sum()} units in {len(first.rows)} rows of {first.split}; {label}: "
                f"{one.num_units.sum()} in {len(one.rows)} of {one.split}), so there are no pairs."
            )
    return None


def _ranking(arms: Sequence[Scores], by_group: bool) -> Ranking:
    """All arms together; NaN stands for a run that is missing."""
    first = _any(arms[0])
    num_seeds = 1 + max(seed for by_seed in arms for seed in by_seed)
    nats = np.full((len(arms), num_seeds, len(first.rows)), np.nan)
    for place, by_seed in enumerate(arms):
        for seed, one in by_seed.items():
            nats[place, seed] = -one.log_p
    groups = _groups(first) if by_group else None
    return rank_arms(nats, first.num_units, groups=groups, level=LEVEL)


def _standing(by_seed: Scores, by_group: bool) -> ArmStanding:
    """One arm by itself."""
    return _ranking([by_seed], by_group).arms[0]


def _groups(scores: SequenceScores) -> np.ndarray:
    if scores.groups is None:
        raise UserError(
            f"The errors were to be clustered by group, but the rows of {scores.split} have no groups. "
            "Leave --by-group out; no run is lost."
        )
    return scores.groups


def _any(by_seed: Scores) -> SequenceScores:
    return next(iter(by_seed.values()))


def _arm_json(
    folder: SweepFolder,
    arms: Sequence[PlannedArm],
    place: int,
    standing: ArmStanding,
    by_seed: Scores,
    ranking: Ranking | None,
) -> dict[str, Any]:
    first = _any(by_seed)
    estimate = Estimate(
        value=standing.mean,
        standard_error=standing.sequence_error,
        monte_carlo_error=None,
        unit="nats per unit",
        bound=TURNED[first.bound],
        estimator=first.estimator,
        num_samples=first.num_samples,
        split=first.split,
    )
    over_best = None
    if ranking is not None and place != ranking.best:
        difference = ranking.difference(place, ranking.best).to_json()
        over_best = {key: finite_or_text(value) for key, value in difference.items()}
    return {
        "arm": arms[place].label,
        "name": arms[place].name,
        "recipe": arms[place].recipe,
        "estimate": estimate.to_json(),
        "seed_error": standing.seed_error,
        "num_seeds": standing.num_seeds,
        "by_seed": {
            str(seed): float(-one.log_p.sum() / one.num_units.sum())
            for seed, one in by_seed.items()
        },
        "over_best": over_best,
        "ranks": None if ranking is None else [standing.lowest_rank, standing.highest_rank],
        "tied_with": []
        if ranking is None
        else sorted(arms[other].label for other in standing.tied_with),
        "faults": _faults(folder, arms[place], by_seed),
    }


def _faults(folder: SweepFolder, arm: PlannedArm, seeds: Scores) -> list[str]:
    """The codes of what the doctor found in any of the arm's runs."""
    codes = set()
    for seed in seeds:
        run = folder.run(PlannedRun(arm, seed).name)
        if (run.path / "findings.json").exists():
            findings = run.read_json("findings.json")["findings"]
            codes |= {f["code"] for f in findings if f["verdict"] == "FAULT"}
    return sorted(codes)

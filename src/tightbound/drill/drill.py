"""The drill: plant every fault of the catalogue, count what is found and what is falsely alarmed.

Counting rules. *Found*: a FAULT whose code was listed for that kind beforehand, from the evidence
of steps 0 to 300; what step 0 (before training) shows is counted apart. *First cause*: the first
cause of the first finding is the one the fault names. The doctor sees model, proposal, data,
evaluator and evidence, never the fault's name or the healthy twin. Keys are repeats of a case, not
independent cases: intervals bootstrap over kind x recipe. After 300 steps no run is finished, so
TB603 (the trained bound against the baselines) is not among what is counted.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import Any

import jax
import numpy as np

from tightbound.diagnose.findings import Findings
from tightbound.diagnose.watch import gather, verdict
from tightbound.drill.fault import Examination, Fault
from tightbound.errors import UserError
from tightbound.families.lookup import find_family

STEPS = 300


@dataclass(frozen=True)
class Case:
    """One run of the drill: a recipe, healthy or with one fault, and a seed."""

    kind: str  # the fault's name, or the healthy variant's
    recipe: str
    seed: int
    healthy: bool
    trap: bool = False  # a healthy run that looks ill
    family: str = ""  # by name, or where a user's own stands


@dataclass(frozen=True)
class Row:
    """What the doctor said of one case."""

    case: Case
    found: bool
    found_before_training: bool
    first_cause: bool
    top3_cause: bool
    alarms: tuple[str, ...]  # codes of FAULTs that were not listed for the case
    said: tuple[str, ...]  # the causes given, likeliest first
    found_at: int | None = None  # the step of the first probe whose evidence was enough


def cases(
    families: Sequence[str], seeds: Sequence[int], kinds: Sequence[str] | None = None
) -> list[Case]:
    """Every fault in every subject of these families that it is planted in, and healthy runs, of which
    the traps are more than a third."""
    found = []
    for family in families:
        examined = examination(family)
        found += [
            Case(planted.fault.name, name, seed, healthy=False, family=family)
            for planted in examined.planted
            if kinds is None or planted.fault.name in kinds
            for name in planted.subjects
            for seed in seeds
        ]
        plain, traps = ([r.name for r in runs] for runs in (examined.subjects, examined.traps))
        found += [Case("healthy", n, seed, True, family=family) for n in plain for seed in seeds]
        found += [Case("trap", n, seed, True, True, family) for n in traps for seed in seeds]
    return found


def examination(family: str) -> Examination:
    """How the family of this name is examined; UserError where it is not."""
    examined = find_family(family).load("faults")
    if examined is None:
        raise UserError(
            f"The family {family!r} names no faults, so there is nothing to plant in it."
        )
    return examined


def all_faults(families: Sequence[str]) -> dict[str, Fault]:
    """The faults that these families are examined with, by name."""
    planted = [planted for family in families for planted in examination(family).planted]
    return {planted.fault.name: planted.fault for planted in planted}


def run_cases(todo: Sequence[Case], *, jobs: int, steps: int = STEPS) -> Iterator[Row]:
    """Run the cases in `jobs` processes; rows come as they are done."""
    if jobs == 1:
        for case in todo:
            yield examine(case, steps)
            jax.clear_caches()  # see below
        return
    # A process keeps every program it compiled, and the system allows it only so many pieces of
    # memory: so a few cases each, then new processes.
    few = 3 * jobs
    for first in range(0, len(todo), few):
        context = get_context("spawn")
        with ProcessPoolExecutor(jobs, mp_context=context, initializer=_compile_quickly) as pool:
            pending = [pool.submit(examine, case, steps) for case in todo[first : first + few]]
            for done in as_completed(pending):
                yield done.result()


def _compile_quickly() -> None:
    """In a drill's process, before JAX starts: 300 steps of a small model are compiled for longer
    than they run."""
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_backend_optimization_level=0".strip()


def examine(case: Case, steps: int = STEPS) -> Row:
    """Build the case, gather its evidence up to `steps`, judge, and count."""
    examined = examination(case.family)
    runs = examined.traps if case.trap else examined.subjects
    setup = next(run for run in runs if run.name == case.recipe).build(case.seed)
    fault = None if case.healthy else all_faults([case.family])[case.kind]
    if fault is not None:
        setup = fault.plant(setup)
    history = list(gather(setup, steps))
    faults = [verdict(setup, history[: last + 1]).faults for last in range(len(history))]
    row = _row(case, fault, faults[0], faults[-1])
    codes = () if fault is None else fault.codes
    found_at = (
        evidence.step
        for evidence, given in zip(history, faults, strict=True)
        if any(finding.code in codes for finding in given)
    )
    return replace(row, found_at=next(found_at, None))


def _row(case: Case, fault: Fault | None, before: Findings, after: Findings) -> Row:
    codes = () if fault is None else fault.codes
    causes = list(dict.fromkeys(cause.name for finding in after for cause in finding.causes))
    expected = None if fault is None else fault.expected.name
    return Row(
        case=case,
        found=any(finding.code in codes for finding in after),
        found_before_training=any(finding.code in codes for finding in before),
        first_cause=bool(causes) and causes[0] == expected,
        top3_cause=expected in causes[:3],
        alarms=tuple(finding.code for finding in after if finding.code not in codes),
        said=tuple(causes),
    )


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """The document `drill --json` prints, with 95 % intervals by bootstrap over kind x recipe."""
    planted = [row for row in rows if not row.case.healthy]
    healthy = [row for row in rows if row.case.healthy]
    kinds = sorted({row.case.kind for row in planted})
    by_kind = {}
    for kind in kinds:
        of_kind = [row for row in planted if row.case.kind == kind]
        by_kind[kind] = {
            "planted": len(of_kind),
            "found": sum(row.found for row in of_kind),
            "found_before_training": sum(row.found_before_training for row in of_kind),
            "first_cause": sum(row.first_cause for row in of_kind),
            "top3_cause": sum(row.top3_cause for row in of_kind),
            "other_faults": sorted({code for row in of_kind for code in row.alarms}),
        }
    shares = ("found", "found_before_training", "first_cause", "top3_cause")
    return {
        "planted": len(planted),
        **{name: sum(getattr(row, name) for row in planted) for name in shares},
        "intervals": {name: _interval(planted, name) for name in shares},
        "healthy": len(healthy),
        "traps": sum(row.case.trap for row in healthy),
        "alarms": sum(bool(row.alarms) for row in healthy),
        "kinds": by_kind,
        "families": sorted({row.case.family for row in planted}),
        "rows": [_row_json(row) for row in rows],
    }


def _interval(rows: Sequence[Row], name: str, repeats: int = 2000) -> list[float] | None:
    """95 % interval of the share of rows for which `name` holds; cases, not keys, are resampled."""
    cells: dict[tuple[str, str], list[bool]] = {}
    for row in rows:
        cells.setdefault((row.case.kind, row.case.recipe), []).append(getattr(row, name))
    if not cells:
        return None
    means = np.array([np.mean(values) for values in cells.values()])
    sizes = np.array([len(values) for values in cells.values()])
    chosen = np.random.default_rng(0).integers(len(cells), size=(repeats, len(cells)))
    shares = (means * sizes)[chosen].sum(1) / sizes[chosen].sum(1)
    return [float(q) for q in np.quantile(shares, [0.025, 0.975])]


def _row_json(row: Row) -> dict[str, Any]:
    return {
        "kind": row.case.kind,
        "recipe": row.case.recipe,
        "seed": row.case.seed,
        "healthy": row.case.healthy,
        "trap": row.case.trap,
        "found": row.found,
        "found_before_training": row.found_before_training,
        "found_at": row.found_at,
        "first_cause": row.first_cause,
        "top3_cause": row.top3_cause,
        "alarms": list(row.alarms),
        "said": list(row.said),
    }

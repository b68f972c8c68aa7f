"""The drill's counting rules on rows made by hand, and one small drill that really runs."""

import json
from dataclasses import replace

import numpy as np
import pytest

from fixtures.examinations import EXAMINATIONS, FAULTS, SUBJECTS
from tightbound.commands import drill as command
from tightbound.diagnose.evidence import Evidence
from tightbound.diagnose.finding import Cause, Finding, Verdict
from tightbound.diagnose.findings import Findings
from tightbound.drill import drill
from tightbound.drill.drill import Case, Row, cases, examine, summary
from tightbound.drill.fault import Examination, on


def row(kind="kl_missing", recipe="vae/digits", seed=0, **changes):
    """A fault that was found by its first cause; `changes` say otherwise."""
    healthy = kind in ("healthy", "trap")
    case = Case(kind, recipe, seed, healthy=healthy, trap=kind == "trap")
    right = Row(case, not healthy, not healthy, not healthy, not healthy, alarms=(), said=())
    return replace(right, **changes)


def finding(code, *causes, verdict=Verdict.FAULT):
    return Finding(
        code,
        "check",
        verdict,
        1.0,
        0.0,
        "nats",
        "here",
        "Something.",
        tuple(Cause(name, "It is so.", "Change it.") for name in causes),
    )


FAMILIES = tuple(EXAMINATIONS)
PROBES = [Evidence(step=0), Evidence(step=300)]


@pytest.fixture
def examined(monkeypatch):
    """`examine` with findings given by hand, before training and after it."""

    class Recipe:
        summary, run = "", None

        def __init__(self, name):
            self.name = name

        def build(self, seed):
            return None

    def run(case, before, after):
        said = iter([Findings(before), Findings(after)])
        runs = (Recipe(case.recipe),)
        healthy = replace(FAULTS["kl_missing"], plant=lambda setup: setup)
        made = Examination(runs, runs, on((case.recipe,), healthy))
        monkeypatch.setattr(drill, "examination", lambda family: made)
        monkeypatch.setattr(drill, "gather", lambda setup, steps: iter(PROBES))
        monkeypatch.setattr(drill, "verdict", lambda setup, history: next(said))
        return examine(case)

    return run


PLANTED = Case("kl_missing", "vae/digits", 0, healthy=False)
NAMED = finding("TB201", "kl_missing", "objective_differs")


@pytest.mark.parametrize(
    ("before", "after", "found", "found_before", "first", "top3", "alarms"),
    [
        ([NAMED], [NAMED], True, True, True, True, ()),
        ([], [NAMED], True, False, True, True, ()),
        ([NAMED], [], False, True, False, False, ()),  # what training has mended is not found
        ([], [finding("TB201", "kl_scaled", "kl_missing")], True, False, False, True, ()),
        ([], [finding("TB201", "a", "b", "c", "kl_missing")], True, False, False, False, ()),
        ([], [finding("TB401", "kl_missing")], False, False, True, True, ("TB401",)),
        ([], [finding("TB101", "a"), NAMED], True, False, False, True, ("TB101",)),
        ([], [finding("TB201", verdict=Verdict.UNDECIDED)], False, False, False, False, ()),
        ([], [], False, False, False, False, ()),
    ],
)
def test_a_planted_fault_is_counted_by_the_rules(
    examined, before, after, found, found_before, first, top3, alarms
):
    """Found by a listed code that is a FAULT; the cause by its place among all causes given."""
    row = examined(PLANTED, before, after)
    assert (row.found, row.found_before_training) == (found, found_before)
    assert (row.first_cause, row.top3_cause) == (first, top3)
    assert row.alarms == alarms
    assert row.found_at == (0 if found_before else 300 if found else None)


@pytest.mark.parametrize("kind", ["healthy", "trap"])
def test_a_healthy_run_is_alarmed_by_any_fault(examined, kind):
    """Nothing was listed for it, so whatever is a FAULT is false; nothing can be found."""
    case = Case(kind, "vae/digits", 0, healthy=True, trap=kind == "trap")
    alarmed = examined(case, [], [NAMED, finding("TB304", verdict=Verdict.UNDECIDED)])
    assert alarmed.alarms == ("TB201",)
    assert (alarmed.found, alarmed.first_cause, alarmed.top3_cause) == (False, False, False)
    assert examined(case, [], []).alarms == ()


def test_the_document_counts_rows():
    """Ten planted runs of two kinds, three healthy ones: every figure by hand."""
    rows = [row(seed=seed, found=seed < 3, first_cause=seed < 2) for seed in range(4)]
    rows += [row("wide_prior", seed=s, alarms=("TB601", "TB401")) for s in range(6)]
    rows += [row("healthy"), row("trap"), row("trap", "beta-4", alarms=("TB201", "TB401"))]
    document = summary(rows)
    assert (document["planted"], document["healthy"], document["traps"]) == (10, 3, 2)
    assert (document["found"], document["first_cause"], document["top3_cause"]) == (9, 8, 10)
    assert document["alarms"] == 1  # a run, not a finding, and healthy ones only
    assert document["kinds"]["kl_missing"]["found"] == 3
    assert document["kinds"]["wide_prior"]["other_faults"] == ["TB401", "TB601"]
    assert len(document["rows"]) == 13
    json.dumps(document)


def test_intervals_contain_the_share_and_widen_with_fewer_cases():
    """Twelve cases against three, with the same share found."""

    def interval(num_cases):
        rows = [row(f"kind {i}", found=i % 3 > 0) for i in range(num_cases)]
        document = summary(rows)
        low, high = document["intervals"]["found"]
        assert low <= document["found"] / document["planted"] <= high
        return high - low

    assert interval(3) > interval(12) > interval(120) > 0


def test_keys_are_repeats_and_make_no_interval_narrower():
    """The same cases with ten keys each: a bootstrap over rows would say three times as much."""
    few = [row(f"kind {i}", found=i % 2 > 0) for i in range(8)]
    many = [row(f"kind {i}", seed=s, found=i % 2 > 0) for i in range(8) for s in range(10)]
    one, ten = (summary(rows)["intervals"]["found"] for rows in (few, many))
    assert one == ten
    # Planted: every row a case of its own.
    as_rows = [row(f"kind {i} {s}", found=i % 2 > 0) for i in range(8) for s in range(10)]
    low, high = summary(as_rows)["intervals"]["found"]
    assert high - low < 0.5 * (one[1] - one[0])


def test_a_drill_of_healthy_runs_alone_has_no_intervals():
    assert summary([row("healthy")])["intervals"] == dict.fromkeys(
        ("found", "found_before_training", "first_cause", "top3_cause")
    )


def test_every_fault_is_drilled_on_every_recipe_it_names():
    """And at least a third of the healthy runs look ill."""
    todo = cases(FAMILIES, (0, 1))
    planted = [case for case in todo if not case.healthy]
    assert len(planted) == 2 * sum(len(fault.recipes) for fault in FAULTS.values())
    healthy = [case for case in todo if case.healthy]
    assert sum(case.trap for case in healthy) >= len(healthy) / 3
    assert len(set(todo)) == len(todo)
    chosen = [case for case in cases(FAMILIES, (0,), ["kl_missing"]) if not case.healthy]
    assert {case.kind for case in chosen} == {"kl_missing"}


# --- the command ---------------------------------------------------------------------------------


@pytest.fixture
def drilled(tmp_path, monkeypatch, capsys):
    """The command with `examine` replaced: rows at once, and a record of what was run."""
    ran = []

    def at_once(todo, *, jobs, steps):
        for case in todo:
            ran.append(case)
            yield replace(row(), case=case, said=("kl_missing",))

    monkeypatch.setattr(drill, "run_cases", at_once)
    monkeypatch.setattr(command, "use_compilation_cache", lambda: None)
    out = tmp_path / "drill.jsonl"

    def run(*arguments):
        ran.clear()
        status = command.main(["--out", str(out), "--kinds", "kl_missing", "--json", *arguments])
        assert status == 0
        return list(ran), json.loads(capsys.readouterr().out)

    run.out = out
    return run


def test_a_drill_goes_on_from_its_rows(drilled):
    """A second call runs nothing; after losing its last row and half of another, only these two."""
    first, document = drilled()
    lines = drilled.out.read_text().splitlines(keepends=True)
    assert len(lines) == len(first) == len(document["rows"])
    assert drilled() == ([], document)
    drilled.out.write_text("".join(lines[:-2]) + lines[-2][:40] + "\n")
    again, after = drilled()
    assert again == first[-2:]
    assert sorted(map(str, after["rows"])) == sorted(map(str, document["rows"]))


def test_a_row_cut_off_by_a_kill_costs_one_row(drilled):
    """The next row must not be written onto the half that is left: after going on, nothing is open."""
    first, _ = drilled()
    lines = drilled.out.read_text().splitlines(keepends=True)
    drilled.out.write_text("".join(lines[:-2]) + lines[-2][:40])
    again, _ = drilled()
    assert again == first[-2:]
    assert drilled()[0] == []


def test_rows_of_other_steps_or_seeds_are_not_taken_for_these(drilled):
    first, _ = drilled()
    assert len(drilled("--steps", "8")[0]) == len(first)
    assert len(drilled("--seeds", "1")[0]) == len(first)
    assert drilled()[0] == []


# --- one that really runs ------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_once")
def test_a_small_drill_finds_what_was_planted(monkeypatch):
    """Two faults that laws show, and a healthy run, in eight steps on a VAE with two latents."""
    recipe = SUBJECTS["vae/digits"]
    small = replace(recipe, model=replace(recipe.model, hidden_size=8, latent_size=2))
    made = replace(EXAMINATIONS["images"], subjects=(small,))
    monkeypatch.setattr(drill, "examination", lambda family: made)
    todo = [
        Case("kl_sign_flipped", "vae/digits", 0, healthy=False),
        Case("batches_dropped", "vae/digits", 0, healthy=False),
        Case("healthy", "vae/digits", 0, healthy=True),
    ]
    rows = list(drill.run_cases(todo, jobs=1, steps=8))
    assert [row.case for row in rows] == todo
    document = summary(rows)
    assert document["found"] == document["found_before_training"] == 2
    assert document["first_cause"] == 2
    assert document["alarms"] == 0
    assert np.isfinite(document["intervals"]["found"]).all()

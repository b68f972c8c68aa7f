"""A run is the same run however often it is stopped, and it stops for the reasons it is told."""

import json
import resource
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tightbound.data.batch import training_batches
from tightbound.errors import UserError
from tightbound.evaluation import evaluate
from tightbound.train.checkpoint import checkpoints, find_checkpoint, load_state
from tightbound.train.folder import RunFolder
from tightbound.train.loop import fit
from tightbound.train.run import Plateau, first_state, observe, roll_back, run, run_keys
from tightbound.train.settings import PlateauSettings


def arrays(tree):
    """Copies of all arrays of a pytree: they outlive donation."""
    return [np.array(leaf) for leaf in jax.tree.leaves(tree) if eqx.is_array(leaf)]


def copied(tree):
    """The same pytree with its arrays copied."""
    return jax.tree.map(lambda leaf: jnp.array(leaf) if eqx.is_array(leaf) else leaf, tree)


def assert_same(first, second):
    """Two pytrees hold the same arrays to the bit."""
    for one, other in zip(arrays(first), arrays(second), strict=True):
        assert_array_equal(one, other, strict=True)


def statuses(setup, folder, **options):
    """Run to the end; every step with its status."""
    return [(progress.step, progress.status) for progress in run(setup, folder, **options)]


def saved_state(setup, folder, step):
    return load_state(find_checkpoint(folder.checkpoints, step), first_state(setup))


def saved_steps(folder):
    return [checkpoint.step for checkpoint in checkpoints(folder.checkpoints)[0]]


def without_times(records):
    times = ("seconds", "compile_seconds")
    return [{k: v for k, v in record.items() if k not in times} for record in records]


@pytest.fixture
def whole(make_setup, tmp_path):
    """The folder of an uninterrupted run of 12 steps."""
    folder = RunFolder(tmp_path / "whole")
    statuses(make_setup(), folder)
    return folder


def test_a_run_yields_every_step_and_records_saves_and_evaluates_when_it_is_due(make_setup, folder):
    """By hand: records at 0, 2, 4, ...; checkpoints at 0, 3, 6, ...; evaluations at 0, 4, 8, 12."""
    progress = list(run(make_setup(), folder))
    assert [p.step for p in progress] == list(range(13))
    assert [p.status for p in progress] == ["running"] * 12 + ["finished"]
    records = folder.read_steps()
    assert [p.logged for p in progress if p.logged] == records
    assert [r["step"] for r in records] == [0, 2, 3, 4, 6, 8, 9, 10, 12]
    assert [r["step"] for r in records if "held_out" in r] == [0, 4, 8, 12]
    assert [r["step"] for r in records if "train" not in r] == [0]  # no batch was trained yet
    assert saved_steps(folder) == [0, 3, 6, 9, 12]
    assert records[4]["epoch"] == 3.0  # two batches of four from ten rows
    assert all(0 < r["compile_seconds"] <= r["seconds"] for r in records[1:])


@pytest.mark.parametrize("step", [0, 8, 9])
def test_the_held_out_bound_of_a_record_is_that_of_the_state_saved_with_it(
    make_setup, folder, step
):
    """Oracle: `evaluate` of the checkpoint of the same step, with the run's evaluation key: of the
    first state, where an evaluation is due, and where the run was stopped between two."""
    setup = make_setup(checkpoint_every=4)
    statuses(setup, folder, should_stop=StopAt(9))
    [record] = [r for r in folder.read_steps() if r["step"] == step]
    state = saved_state(setup, folder, step)
    key = run_keys(setup.seed)[2]
    expected = evaluate(state.model, state.proposal, setup.data["valid"], num_samples=2, key=key)
    report = record["held_out"]
    assert_allclose(report["bound"]["value"], expected.log_weights.mean(), rtol=1e-12)
    assert (report["bound"]["bound"], report["bound"]["split"]) == ("lower", "valid (made up)")
    sites = report["sites"]
    total = sites["z"]["log_p"] - sites["z"]["log_q"] + sites["x"]["log_p"]
    assert_allclose(total, report["bound"]["value"], rtol=1e-12)


def test_terms_that_are_no_bound_are_recorded_as_none(make_setup, folder):
    """A debugging setting may change what the terms are; no record may then claim a bound."""
    statuses(make_setup(is_bound=False, steps=4), folder)
    record = folder.read_steps()[-1]
    assert record["train"]["bound"]["bound"] == record["held_out"]["bound"]["bound"] == "none"


class StopAt:
    """`should_stop` of a run that is asked to at one step."""

    def __init__(self, step):
        self.steps_left = step

    def __call__(self):
        self.steps_left -= 1
        return self.steps_left == 0


@pytest.mark.parametrize(
    ("options", "stop", "status"),
    [
        (lambda: {"should_stop": StopAt(5)}, 5, "interrupted"),
        (lambda: {"should_stop": StopAt(6)}, 6, "interrupted"),
        (lambda: {"should_stop": StopAt(8)}, 8, "interrupted"),
        (lambda: {"max_seconds": 0.0}, 1, "out of time"),
    ],
)
def test_a_stopped_run_saves_evaluates_and_goes_on_as_if_it_had_not_stopped(
    make_setup, folder, whole, options, stop, status
):
    """Oracle: the uninterrupted run: the same parameters to the bit, the same records. Stopping adds
    the record of its own step and the evaluation of where it stopped, and nothing else."""
    setup = make_setup()
    last = list(run(setup, folder, **options()))[-1]
    assert (last.step, last.status) == (stop, status)
    stopped = folder.read_steps()[-1]
    assert saved_steps(folder)[-1] == stopped["step"] == stop
    assert last.logged == stopped
    assert "held_out" in stopped
    assert "train" in stopped
    assert statuses(setup, folder)[-1] == (12, "finished")
    assert_same(saved_state(setup, folder, 12), saved_state(setup, whole, 12))
    expected = without_times(whole.read_steps())
    evaluated = {record["step"] for record in expected if "held_out" in record}
    due = [record["step"] for record in expected]
    found = without_times(folder.read_steps())
    assert [record["step"] for record in found] == sorted({*due, stop})
    for record in found:
        if record["step"] == stop and stop not in evaluated:
            del record["held_out"]
    assert [record for record in found if record["step"] in due] == expected


def test_a_stopped_run_is_saved_before_it_is_evaluated(make_setup, folder):
    """Whoever stops a run may not wait for a long evaluation. The end comes within it: oracle, the
    folder, from which the run goes on at the step where it was stopped."""
    setup = make_setup()
    evaluator = setup.evaluator

    def cut_short(*args, **kwargs):
        if saved_steps(folder)[-1:] == [5]:
            raise KeyboardInterrupt
        return evaluator(*args, **kwargs)

    impatient = replace(setup, evaluator=cut_short)
    with pytest.raises(KeyboardInterrupt):
        statuses(impatient, folder, should_stop=StopAt(5))
    assert folder.read_steps()[-1]["step"] == 5
    assert statuses(setup, folder)[0] == (5, "running")


def test_an_evaluation_where_a_run_was_stopped_decides_nothing(make_setup, folder, tmp_path):
    """The scripted one would be the best by far. Oracle: the run that was not stopped, which counts
    its evaluations alone."""
    patience = PlateauSettings(patience=2)
    never = RunFolder(tmp_path / "never")
    due = [-5.0, -4.0, -4.5, -4.6]
    assert statuses(make_setup(bounds=[-9.0, *due], plateau=patience, steps=20), never)[-1] == (
        16,
        "plateau",
    )
    setup = make_setup(bounds=[-9.0, due[0], 7.0, *due[1:]], plateau=patience, steps=20)
    assert statuses(setup, folder, should_stop=StopAt(6))[-1] == (6, "interrupted")
    assert statuses(setup, folder)[-1] == (16, "plateau")


def test_a_run_that_falls_from_its_first_step_shows_it(make_setup, folder):
    """By hand: untrained is best, and the curve begins there. The plateau counts from training on:
    what never rose has no step to go back to."""
    setup = make_setup(
        bounds=[-2.0, -5.0, -4.0, -4.5, -4.6], plateau=PlateauSettings(patience=2), steps=20
    )
    progress = list(run(setup, folder))
    bounds = [r["held_out"]["bound"]["value"] for r in folder.read_steps() if "held_out" in r]
    assert bounds == [-2.0, -5.0, -4.0, -4.5, -4.6]
    assert (progress[-1].status, progress[-1].plateau.best_step) == ("plateau", 8)


def test_a_run_of_an_older_version_goes_on_without_an_evaluation_of_its_first_state(
    make_setup, folder, whole
):
    """Its records began after the first update. Oracle: the run that has one: the same otherwise."""
    setup = make_setup()
    statuses(setup, folder, should_stop=StopAt(4))
    path = folder.path / "steps.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    assert statuses(setup, folder)[0] == (4, "running")
    assert_same(saved_state(setup, folder, 12), saved_state(setup, whole, 12))
    assert without_times(folder.read_steps()) == without_times(whole.read_steps()[1:])


def test_a_start_that_was_killed_before_its_first_checkpoint_begins_anew(make_setup, folder, whole):
    """Oracle: the uninterrupted run. A record was written, and nothing can go on from it."""
    folder.path.mkdir()
    folder.append_step(whole.read_steps()[0])
    statuses(make_setup(), folder)
    assert without_times(folder.read_steps()) == without_times(whole.read_steps())


def test_a_consumer_that_walks_away_loses_only_what_was_not_saved(make_setup, folder, whole):
    """Oracle: the uninterrupted run; records after the newest checkpoint are taken again."""
    setup = make_setup()
    assert [p.step for p in islice(run(setup, folder), 6)][-1] == 5
    assert [record["step"] for record in folder.read_steps()] == [0, 2, 3, 4]
    assert [p.step for p in run(setup, folder)] == list(range(3, 13))
    assert_same(saved_state(setup, folder, 12), saved_state(setup, whole, 12))
    assert without_times(folder.read_steps()) == without_times(whole.read_steps())


def test_a_finished_run_takes_no_further_step_unless_it_is_given_more(make_setup, folder):
    """The same command twice is the same as once."""
    statuses(make_setup(), folder)
    records = (folder.path / "steps.jsonl").read_text()
    assert statuses(make_setup(), folder) == [(12, "finished")]
    assert (folder.path / "steps.jsonl").read_text() == records
    assert statuses(make_setup(steps=13), folder) == [(12, "running"), (13, "finished")]


def test_a_damaged_newest_checkpoint_costs_the_steps_since_the_one_before(
    make_setup, folder, whole
):
    """Oracle: the uninterrupted run, which the fallback reaches again to the bit."""
    setup = make_setup()
    statuses(setup, folder, should_stop=StopAt(8))
    (folder.checkpoints / "step-00000008" / "state.safetensors").write_bytes(b"")
    assert next(iter(run(setup, folder))).step == 6
    assert [record["step"] for record in folder.read_steps()] == [0, 2, 3, 4, 6]
    statuses(setup, folder)
    assert_same(saved_state(setup, folder, 12), saved_state(setup, whole, 12))


def test_a_run_whose_checkpoints_are_all_damaged_is_refused_and_keeps_its_records(
    make_setup, folder
):
    """Starting over in its place would throw its records away."""
    setup = make_setup(steps=3)
    statuses(setup, folder)
    for path in folder.checkpoints.iterdir():
        (path / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"none of its checkpoints is whole: .* or delete this one"):
        next(run(setup, folder))
    assert [record["step"] for record in folder.read_steps()] == [0, 2, 3]


def test_a_new_run_can_start_from_another_state_and_goes_on_from_its_step(make_setup, folder):
    """The given state is the first one saved, and the next update is the one after it."""
    setup = make_setup(steps=6)
    start = first_state(setup)
    start = replace(start, step=jnp.asarray(4, jnp.int32))
    before = arrays(start)
    assert statuses(setup, folder, start=start) == [(4, "running"), (5, "running"), (6, "finished")]
    assert_same(saved_state(setup, folder, 4), before)


@contextmanager
def no_file_longer_than(num_bytes):
    """The kernel fails longer writes, as it does on a full disk (Python ignores the signal)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_ends_the_run_in_a_sentence_and_loses_nothing_that_was_saved(
    make_setup, folder, whole
):
    """Half a record is on the disk when the write fails. Oracle, after space was made: the
    uninterrupted run."""
    setup = make_setup()
    sentence = r"could not be written to \(File too large\)\. Its last valid checkpoint is of step 3\. Free"
    going = run(setup, folder)
    list(islice(going, 5))  # steps 0 to 4 are fine
    size = (folder.path / "steps.jsonl").stat().st_size
    with no_file_longer_than(size + 100), pytest.raises(UserError, match=sentence):
        list(going)
    assert (folder.path / "steps.jsonl").stat().st_size == size + 100
    assert saved_steps(folder) == [0, 3]
    statuses(setup, folder)
    assert_same(saved_state(setup, folder, 12), saved_state(setup, whole, 12))
    assert without_times(folder.read_steps()) == without_times(whole.read_steps())


def test_a_disk_that_is_full_from_the_start_is_said_in_a_sentence(make_setup, folder):
    """Not even the first state can be saved."""
    going = run(make_setup(), folder)
    with (
        no_file_longer_than(100),
        pytest.raises(UserError, match=r"\(File too large\)\. Free space there, or make"),
    ):
        next(going)


# Plateaus. Every evaluation is scripted: `bounds` says what each of them finds.


def test_the_plateau_counts_evaluations_since_the_best():
    """By hand; an equal bound is no better, and the first is the best whatever it is."""
    plateau = Plateau()
    seen = []
    for step, bound in enumerate([-np.inf, -5.0, -4.0, -4.0, -6.0, -3.9], start=1):
        plateau = observe(plateau, bound, step)
        seen.append((plateau.best, plateau.best_step, plateau.since_best))
    assert seen == [
        (-np.inf, 1, 0),
        (-5.0, 2, 0),
        (-4.0, 3, 0),
        (-4.0, 3, 1),
        (-4.0, 3, 2),
        (-3.9, 6, 0),
    ]


def test_a_run_stops_after_its_patience_and_stays_stopped(make_setup, folder):
    """By hand: best at the second evaluation, two more without a better one."""
    setup = make_setup(
        bounds=[-9.0, -5.0, -4.0, -4.5, -4.0, 0.0],
        evaluate_every=1,
        plateau=PlateauSettings(patience=2),
    )
    assert statuses(setup, folder)[-1] == (4, "plateau")
    assert {2, 4} <= set(saved_steps(folder))  # the best and the last
    assert statuses(setup, folder) == [(4, "plateau")]


ROLLBACK = PlateauSettings(patience=2, action="rollback")
FALLING = [-5.0, -4.0, -6.0, -6.0, -3.0, -2.0]  # the best of the first four is the second


@pytest.mark.parametrize("strategy", ["restore", "reset", "keep"])
def test_a_rollback_goes_on_from_the_best_parameters_at_a_lower_rate(make_setup, folder, strategy):
    """Oracle: the best step's checkpoint, and one update of `fit` from the state so put together,
    to the bit. The optimiser's state tells the three strategies apart."""
    setup = make_setup(
        bounds=[-9.0, *FALLING],
        steps=6,
        evaluate_every=1,
        plateau=replace(ROLLBACK, decay=0.25, optimiser=strategy),
    )
    states = {}
    for progress in run(setup, folder):
        states[progress.step] = copied(progress.state)
        if progress.status == "rollback":
            rolled = copied(roll_back(setup, folder, progress.state, progress.plateau))
            kept = copied(rolled)
            batches = training_batches(setup.data["train"], 4, seed=0, start=4)
            key = run_keys(setup.seed)[1]
            [record] = fit(rolled, islice(batches, 1), setup.objective, setup.optimiser, key=key)
            expected = arrays(record.state)
            assert progress.step == 4
    best, last = states[2], states[4]
    assert_same((kept.model, kept.proposal), (best.model, best.proposal))
    fresh = setup.optimiser.init((setup.model, setup.proposal))
    source = {"restore": best.opt_state, "reset": fresh, "keep": last.opt_state}
    assert_same(kept.opt_state, source[strategy])
    assert (kept.step.item(), kept.learning_rate_scale.item()) == (4, 0.25)
    assert_same(states[5], expected)
    assert states[6].learning_rate_scale.item() == 0.25


def test_rollbacks_end_after_their_number(make_setup, folder):
    """By hand: never better than the first evaluation, so every second one acts."""
    setup = make_setup(
        bounds=[-9.0, -1.0] + [-2.0] * 11,
        evaluate_every=1,
        plateau=replace(ROLLBACK, max_rollbacks=2),
    )
    acted = [(step, status) for step, status in statuses(setup, folder) if status != "running"]
    assert acted == [(3, "rollback"), (5, "rollback"), (7, "plateau")]
    assert saved_state(setup, folder, 7).learning_rate_scale.item() == 0.25


def test_a_run_interrupted_at_a_rollback_rolls_back_when_it_goes_on(make_setup, folder, tmp_path):
    """Oracle: the run that was not interrupted, to the bit. The checkpoint of the interruption
    holds the state before the rollback, so the resumed run has to decide again."""
    uninterrupted = RunFolder(tmp_path / "whole")
    changes = {"steps": 6, "evaluate_every": 1, "plateau": ROLLBACK}
    statuses(make_setup(bounds=[-9.0, *FALLING], **changes), uninterrupted)
    setup = make_setup(bounds=[-9.0, *FALLING], **changes)
    assert statuses(setup, folder, should_stop=StopAt(4))[-1] == (4, "interrupted")
    assert statuses(setup, folder) == [(4, "rollback"), (5, "running"), (6, "finished")]
    assert_same(saved_state(setup, folder, 6), saved_state(setup, uninterrupted, 6))
    assert without_times(folder.read_steps()) == without_times(uninterrupted.read_steps())


# Values that are not finite.


def strict_records(folder):
    """The records, read as JSON that knows neither NaN nor Infinity."""

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    lines = (folder.path / "steps.jsonl").read_text().splitlines()
    return [json.loads(line, parse_constant=refuse) for line in lines]


def test_a_loss_that_is_not_finite_ends_the_run_at_the_last_good_checkpoint(make_setup, folder):
    """Update 5 is poisoned; the record of step 6 says so, and step 3 is what is left."""
    objective = make_setup().objective

    def poisoned(*args, step, **kwargs):
        surrogate, terms = objective(*args, step=step, **kwargs)
        return jnp.where(step == 4, jnp.nan, 1.0) * surrogate, terms

    setup = make_setup(objective=poisoned, evaluate_every=100)
    assert statuses(setup, folder)[-1] == (6, "not finite")
    assert saved_steps(folder) == [0, 3]
    assert all(np.isfinite(array).all() for array in arrays(saved_state(setup, folder, 3)))
    last = strict_records(folder)[-1]
    assert last["step"] == 6
    assert (last["train"]["loss"], last["train"]["bound"]["value"]) == ("nan", "nan")


def test_a_gradient_that_is_not_finite_ends_the_run_though_the_loss_is(make_setup, folder):
    """|v|^(1/2) at v = 0: the value is 0, its derivative is not a number."""
    objective = make_setup().objective

    def kinked(model, *args, step, **kwargs):
        surrogate, terms = objective(model, *args, step=step, **kwargs)
        return surrogate + jnp.sqrt(jnp.where(step == 3, 0.0, 1.0) * model.offset**2), terms

    setup = make_setup(objective=kinked, evaluate_every=100)
    assert statuses(setup, folder)[-1] == (4, "not finite")
    [last] = [record for record in strict_records(folder) if record["step"] == 4]
    assert last["train"]["gradient_norm"] == "nan"
    assert isinstance(last["train"]["loss"], float)


def test_a_held_out_bound_that_is_no_number_ends_the_run_unsaved(make_setup, folder):
    """It can neither be the best nor be compared with the best."""
    setup = make_setup(bounds=[-9.0, -4.0, np.nan, 0.0], plateau=PlateauSettings(patience=1))
    assert statuses(setup, folder)[-1] == (8, "not finite")
    assert saved_steps(folder) == [0, 3, 4, 6]
    assert strict_records(folder)[-1]["held_out"]["bound"]["value"] == "nan"


def test_a_setup_can_be_run_twice(make_setup, folder):
    """Nothing of it is given away to the compiled step, which donates what it gets."""
    setup = make_setup(steps=2, optimiser=optax.sgd(0.1, momentum=0.9))
    statuses(setup, folder)
    again = RunFolder(folder.path.parent / "again")
    statuses(setup, again)
    assert_same(saved_state(setup, folder, 2), saved_state(setup, again, 2))

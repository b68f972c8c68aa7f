"""One run of a sweep, in a process of its own: train, then evaluate the test split once.

    python -m tightbound.sweep.run SWEEP ARM SEED

`tightbound sweep` starts it; what it prints goes to `log.txt` of the run's folder.
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tightbound.errors import UserError
from tightbound.families.lookup import find_recipe
from tightbound.families.settings import with_settings
from tightbound.report.terminal import say
from tightbound.runs.compilation import use_compilation_cache
from tightbound.runs.training import TrainOptions, train
from tightbound.sweep.folder import SCORES, SweepFolder
from tightbound.sweep.job import INTERRUPTED, keep_to_cores, listen_to_sweep
from tightbound.sweep.plan import Evaluation, Plan, PlannedRun

if TYPE_CHECKING:
    from tightbound.estimators.comparison import SequenceScores
    from tightbound.train.folder import RunFolder

MANY = 100  # draws per sequence where there is anything to draw


def main(arguments: Sequence[str]) -> int:
    sweep, arm_name, seed = arguments
    keep_to_cores()  # before JAX counts them
    listen_to_sweep()
    use_compilation_cache()
    folder = SweepFolder(sweep)
    plan = folder.read_plan()
    arm = next(arm for arm in plan.arms if arm.name == arm_name)
    try:
        return run(folder, plan, PlannedRun(arm, int(seed)))
    except UserError as error:
        say(str(error))
        return 2
    except KeyboardInterrupt:
        say("Stopped at once; what was saved is whole.")
        return INTERRUPTED


def run(sweep: SweepFolder, plan: Plan, planned: PlannedRun) -> int:
    """Train, or continue, to the end; evaluate; 0 if both are done."""
    from tightbound.sweep.scores import save_scores

    arm, folder = planned.arm, sweep.run(planned.name)
    recipe = with_settings(find_recipe(arm.recipe), arm.settings)
    options = TrainOptions(
        run_dir=str(folder.path), seed=planned.seed, note=arm.label, doctor=plan.doctor
    )
    with folder.locked():
        _, status = train(recipe, arm.recipe, folder, options)
        if status == "interrupted":
            return INTERRUPTED
        if status not in ("finished", "plateau"):
            return 1
        save_scores(folder.path / SCORES, scores_of(folder, plan.evaluation))
    return 0


def scores_of(folder: "RunFolder", evaluation: Evaluation) -> "SequenceScores":
    """The run's newest checkpoint on the split, with the key that every run of the sweep has."""
    from tightbound.runs.evaluated import sequence_scores
    from tightbound.runs.opened import open_run

    num_samples = evaluation.num_samples
    if num_samples is None:
        num_samples = MANY if evaluation.bound == "iwae" and draws(folder) else 1
    evaluated = open_run(folder.path).evaluate(
        evaluation.split,
        bound=evaluation.bound,
        num_samples=num_samples,
        num_particles=evaluation.num_particles,
        max_rows=evaluation.max_rows,
    )
    return sequence_scores(evaluated)


def draws(folder: "RunFolder") -> bool:
    """Whether the run's model is evaluated with draws from a proposal: some site has a log q. Where
    all choices are summed out, one sample is exact and more would only repeat it."""
    held_out = [record["held_out"] for record in folder.read_steps() if "held_out" in record]
    return any("log_q" in site for record in held_out for site in record["sites"].values())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""TB307 and TB308: does the record of a filter agree with itself?  From its arrays alone."""

import numpy as np
from jaxtyping import Bool, Float, Int

from tightbound.diagnose.finding import Cause, Finding, Verdict, not_run

RESAMPLING_UNRECORDED = Cause(
    "resampling_unrecorded",
    "Particles change places at a step that is not marked as resampled, or continue a particle that there is "
    "not.",
    "Save the ancestors of every step as indices from 0, 0 to N - 1 where nothing is resampled, and mark the "
    "steps at which weights were made equal.",
)
WEIGHTS_NOT_RESET = Cause(
    "weights_not_reset",
    "The effective sample size is of other weights than the increments multiply to: weights went on after "
    "resampling, or the size was taken before the step.",
    "Give every particle the weight 1/N after resampling, and take the size after the step.",
)
CHOSEN_BY_OTHER_WEIGHTS = Cause(
    "chosen_by_other_weights",
    "Ancestors are chosen by weights that are not the product of the increments since the last resampling: "
    "those before the step, log-weights, or weights that were never reset.",
    "Draw ancestors in proportion to the weights after the step before, and then make all weights equal.",
)


def steps_agree(
    ancestors: Int[np.ndarray, "time particles batch"] | None,
    resampled: Bool[np.ndarray, "time batch"],
    mask: Bool[np.ndarray, "time batch"],
    stated_ess: Float[np.ndarray, "time batch"] | None,
    weights: Float[np.ndarray, "time particles batch"],
    *,
    tolerance: float = 0.01,
) -> Finding:
    """TB307. Do ancestors, resampled steps and effective sample sizes tell of one filter?

    Measured: the real steps of all sequences at which they do not: an ancestor is no particle, or is
    another one where nothing was resampled; or the stated size differs from that of `weights`, which the
    increments multiply to, by more than `tolerance` of it. Assumes the order of `StepTerms`: resampling,
    equal weights, then the step.
    """
    code, check = "TB307", "steps_agree"
    if ancestors is None or not mask.any():
        return not_run(code, check, "no step of a filter was given")
    num_particles = ancestors.shape[1]
    own = np.arange(num_particles)[:, None]
    outside = ((ancestors < 0) | (ancestors >= num_particles)).any(axis=1)
    moved = (ancestors != own).any(axis=1) & ~resampled
    misplaced = (outside | moved) & mask
    off = np.zeros_like(mask)
    if stated_ess is not None:
        with np.errstate(invalid="ignore", divide="ignore"):  # weights that are NaN
            size = 1.0 / np.square(weights).sum(axis=1)
            dead = stated_ess == 0  # all weights zero, which have no size
            off = (np.abs(stated_ess - size) > tolerance * size) & mask & ~dead
    wrong = misplaced | off
    count = int(wrong.sum())
    causes = (RESAMPLING_UNRECORDED,) if misplaced.any() else ()
    causes += (WEIGHTS_NOT_RESET,) if off.any() else ()
    where = "all real steps"
    if count:
        step, sequence = np.argwhere(wrong)[0]
        where = f"first at step {step} of sequence {sequence}"
    said = [
        f"{int(misplaced.sum())} steps have ancestors that cannot be" if misplaced.any() else "",
        f"{int(off.sum())} steps state an effective sample size of other weights"
        if off.any()
        else "",
    ]
    return Finding(
        code,
        check,
        Verdict.FAULT if count else Verdict.OK,
        float(count),
        0.0,
        "steps",
        where,
        f"{' and '.join(filter(None, said))}, of {int(mask.sum())}."
        if count
        else "Ancestors and weights are those of the steps that are marked as resampled.",
        causes,
        () if stated_ess is not None else ("the effective sample sizes: no `ess` was given",),
    )


def ancestors_follow_the_weights(
    ancestors: Int[np.ndarray, "time particles batch"] | None,
    chosen_by: Float[np.ndarray, "time particles batch"],
    resampled: Bool[np.ndarray, "time batch"],
    mask: Bool[np.ndarray, "time batch"],
    *,
    tolerance: float = 0.05,
    num_errors: float = 6.0,
    precision: float = 0.1,
) -> Finding:
    """TB308. Has a particle as many children as its weight says, on average?

        E[c_n] = N W_n   under every unbiased scheme,
        measured = sum (c_n - 1) W_n / sum (N W_n - 1) W_n

    over the particles of all resampled steps: 1 where children follow the weights `chosen_by`, 0 where
    nothing was chosen. Its standard error is that of multinomial draws, the noisiest of the usual schemes.
    Fault beyond `tolerance` and `num_errors` errors from 1; undecided where the error is above `precision`.
    Assumes that ancestors are chosen by the weights after the step before, not by looking ahead.
    """
    code, check = "TB308", "ancestors_follow_the_weights"
    chosen = resampled & mask
    chosen[:1] = False  # before the first step all weights are equal
    if ancestors is None or not chosen.any():
        return not_run(code, check, "no step was resampled")
    num_particles = ancestors.shape[1]
    steps, sequences = np.nonzero(chosen)
    weight = chosen_by[steps, :, sequences]  # chosen steps, particles
    parents = ancestors[steps, :, sequences]
    if not ((parents >= 0) & (parents < num_particles)).all():
        return not_run(code, check, "some ancestors are no particles (see TB307)")
    if not np.isfinite(weight).all():
        return not_run(code, check, "some weights are not finite (see TB301)")
    squares = np.square(weight).sum(axis=1)
    found = np.take_along_axis(weight, parents, axis=1).sum(axis=1) - 1.0  # sum_n c_n W_n - 1
    expected = float((num_particles * squares - 1.0).sum())
    if expected <= 1e-6 * len(steps):
        return not_run(code, check, "the weights were equal wherever particles were resampled")
    variance = num_particles * (np.power(weight, 3).sum(axis=1) - np.square(squares))
    measured = float(found.sum()) / expected
    error = float(np.sqrt(np.maximum(variance, 0.0).sum())) / expected
    threshold = max(tolerance, num_errors * error)
    fault = abs(measured - 1.0) > threshold
    verdict = Verdict.FAULT if fault else Verdict.OK if error <= precision else Verdict.UNDECIDED
    return Finding(
        code,
        check,
        verdict,
        abs(measured - 1.0),
        threshold,
        "of the selection",
        f"{len(steps)} resampled steps of {chosen.shape[1]} sequences",
        f"Children follow {measured:.3g} ± {error:.2g} of the weights' differences; it is 1 on average.",
        (CHOSEN_BY_OTHER_WEIGHTS,) if fault else (),
    )

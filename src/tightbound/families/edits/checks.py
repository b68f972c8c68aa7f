"""TB106 to TB110, TB203 and TB225: models whose own choices a filter sums out."""

import numpy as np
from jaxtyping import Float

from tightbound.diagnose.case import Check
from tightbound.diagnose.evidence import Choices, Evidence
from tightbound.diagnose.finding import Cause, Finding, Verdict, not_run

MASKS_DIFFER = Cause(
    "masks_only_in_training",
    "Step by step the model is another network than in training: padding is masked in one of the "
    "two only, or a mode differs.",
    "Give the step-by-step pass the masks of the teacher-forced one.",
)
CARRIED_STATE_DIFFERS = Cause(
    "carried_state_differs",
    "What a string hands on to the next is not what training hands on: a position (its end) is "
    "missing, or was overwritten.",
    "Hand on the embeddings of all positions, the end included.",
)
STATE_NOT_GATHERED = Cause(
    "state_not_gathered",
    "A particle that was copied goes on with another one's cache or embeddings: resampling gathered "
    "only a part of its state.",
    "Gather every leaf of the state by the ancestors.",
)
ARGMAX_CHOICES = Cause(
    "argmax_choices",
    "Every particle makes the same, most probable choice: what is not drawn has no weight, and the "
    "estimate belongs to no bound.",
    "Draw the choices from the proposal that is scored; for one path report log p(x, z, e).",
)
ESTIMATE_BIASED = Cause(
    "estimate_biased",
    "The mean of the estimate is not p(x, z): an increment, a normaliser or an ancestor is wrong.",
    "Compare one step's increments with log p - log q of the choice that was drawn.",
)
ONE_PATH = Cause(
    "log_q_of_one_path",
    "log q(z | x) is that of one way to take the sentence apart, where equal words allow several.",
    "Sum over all ways that lead to the same strings.",
)
PROPOSAL_NOT_NORMALISED = Cause(
    "proposal_not_normalised",
    "q(z | x) does not sum to 1 over the trajectories: rounds left out, a filter on lengths or a cap "
    "without its normaliser.",
    "Divide by the probability of what is kept.",
)
SECOND_TARGET = Cause(
    "end_has_two_targets",
    "The end of a string is trained towards two symbols at once, so that its loss cannot fall below "
    "log 2 for each.",
    "Let the targets of every position sum to 1.",
)

EMBEDDINGS_TOO_LARGE = Cause(
    "embeddings_too_large",
    "The table of word embeddings is the output layer too, and its entries are too large for that: the "
    "scores of words spread over many nats before anything is learned, and an update that turns the "
    "network's state a little moves them as far. A tenth of the learning rate does not mend it.",
    "Draw the first embeddings with standard deviation width^-1/2 (`--model.embedding-scale None`), or "
    "divide the scores of words by width^1/2.",
)

_NO_CHOICES = "the model makes no choices of its own that a filter sums out"


def particles_score_as_training_does(
    choices: Choices | None, *, tolerance: float = 1e-3
) -> Finding:
    """TB106. Does a particle score its first string as the teacher-forced pass scores it?

    Oracle: the same edits in both. Measured: the largest difference of a site's score, in nats per
    string. Ends that differ alone are TB203's.
    """
    code, check = "TB106", "particles_score_as_training_does"
    if choices is None or choices.replayed.size == 0:
        return not_run(code, check, _NO_CHOICES)
    judged = _not_left_to_ends(choices, tolerance)
    return _difference(
        code,
        check,
        float(judged[:, 0].max(initial=0.0)),
        tolerance,
        "the first string",
        "A particle scores its first string {} nats away from the teacher-forced pass.",
        MASKS_DIFFER,
    )


def strings_hand_on_what_training_does(
    choices: Choices | None, *, tolerance: float = 1e-3
) -> Finding:
    """TB107. The same for the later strings, which read what the ones before handed on. Not run
    where the first string differs already."""
    code, check = "TB107", "strings_hand_on_what_training_does"
    if choices is None or choices.replayed.size == 0:
        return not_run(code, check, _NO_CHOICES)
    if choices.replayed.shape[1] < 2:
        return not_run(code, check, "there is one string only")
    judged = _not_left_to_ends(choices, tolerance)
    if not judged[:, 0].max(initial=0.0) <= tolerance:
        return not_run(code, check, "the first string differs already")
    return _difference(
        code,
        check,
        float(judged[:, 1:].max(initial=0.0)),
        tolerance,
        "the later strings",
        "A particle scores a later string {} nats away from the teacher-forced pass.",
        CARRIED_STATE_DIFFERS,
    )


def particles_keep_their_history(choices: Choices | None, *, tolerance: float = 1e-3) -> Finding:
    """TB108. Does a particle copied from another go on with that one's whole state?

    Oracle: its own choices, teacher-forced. Measured: the difference over its whole way, in nats.
    Not run where particles that are never copied differ already.
    """
    code, check = "TB108", "particles_keep_their_history"
    if choices is None or choices.replayed.size == 0:
        return not_run(code, check, _NO_CHOICES)
    if not choices.replayed.max() <= tolerance:
        return not_run(code, check, "particles that are never copied differ already")
    return _difference(
        code,
        check,
        float(choices.after_resampling),
        tolerance,
        "four particles, resampled at every step",
        "A copied particle scores {} nats away from what its own history makes of its choices.",
        STATE_NOT_GATHERED,
    )


def estimate_is_unbiased(
    choices: Choices | None, *, tolerance: float = 0.02, num_errors: float = 6.0
) -> Finding:
    """TB109. Is the mean of the filter's estimate p(x, z)?  Oracle: all choices, enumerated.

    Measured: |mean ratio - 1| on a tiny sentence. Fault beyond `tolerance` and `num_errors` standard
    errors over draws, and, whatever the mean, where choices never vary although several are
    possible. Undecided where one standard error is larger than `tolerance`.
    """
    code, check = "TB109", "estimate_is_unbiased"
    if choices is None or len(choices.relative_estimate) < 2:
        return not_run(code, check, _NO_CHOICES if choices is None else "fewer than two draws")
    ratio = choices.relative_estimate
    with np.errstate(invalid="ignore", over="ignore"):  # inf - inf; squares of huge ratios
        mean, error = float(ratio.mean()), float(ratio.std(ddof=1) / np.sqrt(len(ratio)))
    measured = abs(mean - 1.0)
    threshold = max(tolerance, num_errors * error)
    never_vary = choices.num_paths == 1 and choices.num_possible > 1
    verdict = Verdict.FAULT if never_vary or not measured <= threshold else Verdict.OK
    if verdict is Verdict.OK and error > tolerance:
        verdict = Verdict.UNDECIDED
    causes = (ARGMAX_CHOICES, ESTIMATE_BIASED) if never_vary else (ESTIMATE_BIASED, ARGMAX_CHOICES)
    return Finding(
        code,
        check,
        verdict,
        measured,
        threshold,
        "of p(x, z)",
        f"a sentence of two words, {len(ratio)} draws",
        f"The estimate is {mean:.4g} ± {error:.2g} times p(x, z) in the mean; of "
        f"{choices.num_possible} ways to write it {choices.num_paths} were drawn.",
        causes if verdict is Verdict.FAULT else (),
    )


def proposal_sums_to_one(
    choices: Choices | None, *, claimed: bool = True, tolerance: float = 1e-3
) -> Finding:
    """TB110. Does q(z | x) sum to 1 over the latent strings?  Oracle: the sum, on "a a b".

    A run whose settings say that its number is no bound (`claimed` is False) is not held to it.
    """
    code, check = "TB110", "proposal_sums_to_one"
    if choices is None or np.isnan(choices.proposal_mass):
        return not_run(code, check, "the trajectories of the proposal could not be enumerated")
    if not claimed:
        return not_run(code, check, "the settings say that log q is that of one path, and no bound")
    measured = float(abs(choices.proposal_mass - 1.0))
    fault = not measured <= tolerance
    causes = (ONE_PATH, PROPOSAL_NOT_NORMALISED)  # one path of several is a part of the mass
    return Finding(
        code,
        check,
        Verdict.FAULT if fault else Verdict.OK,
        measured,
        tolerance,
        "of the mass",
        "every trajectory of a sentence of three words, two of them equal",
        f"q(z | x) sums to {choices.proposal_mass:.4g} over all trajectories, where it must be 1.",
        () if not fault else causes if choices.proposal_mass < 1.0 else causes[::-1],
    )


def decisions_have_one_target(choices: Choices | None, *, tolerance: float = 1e-3) -> Finding:
    """TB203. Is the end of a string trained towards one symbol?

    Oracle: the score of the same end by a particle. Measured: the mean difference of the ends, where
    ends are all that differs.
    """
    code, check = "TB203", "decisions_have_one_target"
    if choices is None or choices.replayed.size == 0:
        return not_run(code, check, _NO_CHOICES)
    if not _others_agree(choices, tolerance):
        return not_run(code, check, "not only the ends of strings differ")
    return _difference(
        code,
        check,
        abs(float(choices.end_difference)),
        tolerance,
        "the ends of all strings",
        "What is trained at the end of a string is {} nats away from log p(end), and nothing else is.",
        SECOND_TARGET,
    )


def words_start_near_uniform(
    first: Evidence, *, factor: float = 3.0, usual: float = 2.0
) -> Finding:
    """TB225. Does an untrained model choose words as one that knows nothing?

    Measured: what a word drawn uniformly costs as the first of a text, the mean of -log p over the
    vocabulary, in multiples of the log of its size, what it costs who knows nothing. Scores of words with
    a spread of 1, as usual initialisations give, stay below `usual`. Fault beyond `factor`, that of TB217;
    undecided between the two, as a narrow network with embeddings too large may be.

    Assumes an untrained model: one that has learned which words begin its training rows, so that they
    cost less than uniform ones, may be as sure as it likes; of it the check is not run.
    """
    code, check = "TB225", "words_start_near_uniform"
    words = first.words
    if words is None or first.step != 0:
        return not_run(code, check, "no untrained model that chooses words was asked for its first")
    if len(words.log_p) < 2 or len(words.written) == 0:
        return not_run(code, check, "there were no words to choose from, or none was written")
    ignorance = float(np.log(len(words.log_p)))
    with np.errstate(invalid="ignore"):  # inf - inf
        cost, written = -float(words.log_p.mean()), -float(words.written.mean())
    measured = cost / ignorance
    if measured > usual and written <= ignorance:
        return not_run(
            code, check, "the model at step 0 knows its words: it has been trained before"
        )
    if measured > factor and np.isfinite([cost, written]).all():
        verdict = Verdict.FAULT
    else:
        known = measured <= usual and np.isfinite([cost, written]).all()
        verdict = Verdict.OK if known else Verdict.UNDECIDED
    fault = verdict is Verdict.FAULT
    return Finding(
        code,
        check,
        verdict,
        measured,
        factor,
        "times uniform words",
        "step 0, the first word of a text",
        f"Before training a word costs {cost:.3g} nats, where knowing nothing costs {ignorance:.3g}.",
        (EMBEDDINGS_TOO_LARGE,) if fault else (),
    )


def _others_agree(choices: Choices, tolerance: float) -> bool:
    """Whether all sites but the ends are scored alike."""
    return bool((choices.replayed[choices.names != "end"] <= tolerance).all())


def _not_left_to_ends(choices: Choices, tolerance: float) -> Float[np.ndarray, "site string"]:
    """The differences that TB203 does not answer for: where ends alone differ in the mean, those of
    the other sites; else all."""
    only_ends = _others_agree(choices, tolerance) and not abs(choices.end_difference) <= tolerance
    return choices.replayed[choices.names != "end"] if only_ends else choices.replayed


def _difference(
    code: str,
    check: str,
    measured: float,
    tolerance: float,
    where: str,
    meaning: str,
    cause: Cause,
) -> Finding:
    fault = not measured <= tolerance
    return Finding(
        code,
        check,
        Verdict.FAULT if fault else Verdict.OK,
        measured,
        tolerance,
        "nats",
        where,
        meaning.format(f"{measured:.3g}"),
        (cause,) if fault else (),
    )


CHECKS: tuple[Check, ...] = (
    Check(
        "TB106",
        lambda case: particles_score_as_training_does(case.newest("choices")),
        after="TB105",
    ),
    Check(
        "TB107",
        lambda case: strings_hand_on_what_training_does(case.newest("choices")),
        after="TB106",
    ),
    Check(
        "TB108", lambda case: particles_keep_their_history(case.newest("choices")), after="TB107"
    ),
    Check("TB203", lambda case: decisions_have_one_target(case.newest("choices")), after="TB114"),
    Check("TB109", lambda case: estimate_is_unbiased(case.newest("choices")), after="TB203"),
    Check(
        "TB110",
        lambda case: proposal_sums_to_one(case.newest("choices"), claimed=case.is_bound),
        after="TB109",
    ),
    Check("TB225", lambda case: words_start_near_uniform(case.history[0]), after="TB215"),
)

"""TB507 and TB508: are offsets of strokes what the model thinks they are?"""

import numpy as np

from tightbound.diagnose.case import Check
from tightbound.diagnose.evidence import Transform
from tightbound.diagnose.finding import Cause, Finding, Verdict, not_run

OWN_STATISTICS = Cause(
    "held_out_statistics_used",
    "A held-out split has mean 0 and scale 1 itself, more exactly than chance allows: it was "
    "normalised by its own statistics.",
    "Apply the training split's mean and scale to every split.",
)
RAW_OFFSETS = Cause(
    "transform_does_nothing",
    "The model is given offsets in the file's units: they were normalised on a copy, or not at all.",
    "Check mean and scale of the very batch that is scored, not of the array that was transformed.",
)


OTHER_STATISTICS = Cause(
    "statistics_over_the_wrong_axis",
    "Offsets were normalised by other numbers than the stated ones: another axis, padding counted, "
    "another split.",
    "Take one mean and one scale per coordinate, over the real steps of all training rows.",
)


WRONG_INVERSE = Cause(
    "transform_inverted_wrongly",
    "Undoing the normalisation does not give back what was normalised, so everything that is drawn is "
    "distorted: (x + mean) * scale for x * scale + mean.",
    "Undo in the reverse order: multiply by the scale, then add the mean.",
)


def offsets_are_normalised(
    transform: Transform | None, *, tolerance: float = 0.02, chance: float = 0.05
) -> Finding:
    """TB507. Have offsets the mean and scale that normalising by the training split gives?

    Measured: of the training split, the largest of |mean| and |scale - 1| over coordinates; fault
    beyond `tolerance`. Where that holds, a held-out split whose means and scales are all within
    `chance` standard errors of 0 and 1 is at fault too: sampling error alone leaves more.
    """
    code, check = "TB507", "offsets_are_normalised"
    if transform is None or min(transform.mean.shape) == 0:
        return not_run(code, check, "no scale of offsets is stated")
    off = np.stack([np.abs(transform.mean), np.abs(transform.scale - 1)])
    error = np.stack([transform.mean_error, transform.scale_error])
    measured = float(off[:, 0].max())
    raw = np.abs(transform.mean[0] - transform.stated_mean) <= tolerance * transform.stated_scale
    raw &= np.abs(transform.scale[0] - transform.stated_scale) <= tolerance * transform.stated_scale
    too_exact = np.all(off <= chance * error, axis=(0, 2))
    too_exact &= np.arange(len(too_exact)) > 0  # the training split itself is exact by right
    causes: tuple[Cause, ...] = ()
    if not measured <= tolerance:
        found = (RAW_OFFSETS, OTHER_STATISTICS)
        causes = found if raw.all() else found[::-1]
    elif too_exact.any():
        causes = (OWN_STATISTICS,)
    known = (
        np.isfinite([*off.ravel(), *error.ravel()]).all()
        and np.isfinite([*transform.stated_mean, *transform.stated_scale]).all()
    )
    name = transform.split_names[int(too_exact.argmax())]
    return Finding(
        code,
        check,
        Verdict.FAULT if causes else Verdict.OK if known else Verdict.UNDECIDED,
        measured,
        tolerance,
        "of the scale",
        f"the {name} split" if causes == (OWN_STATISTICS,) else "the training split",
        f"The {name} split is normalised more exactly than the training split's statistics can do it."
        if causes == (OWN_STATISTICS,)
        else f"Normalised offsets of the training split are {measured:.3g} of a scale off mean 0 and "
        "scale 1.",
        causes,
    )


def drawing_undoes_the_transform(
    transform: Transform | None, *, tolerance: float = 1e-3
) -> Finding:
    """TB508. Does undoing the normalisation give back the offsets?  Measured: the largest
    |undo(apply(d)) - d| over made-up offsets within the clip, in units of the scale."""
    code, check = "TB508", "drawing_undoes_the_transform"
    if transform is None:
        return not_run(code, check, "no scale of offsets is stated")
    fault = not transform.round_trip <= tolerance
    return Finding(
        code,
        check,
        Verdict.FAULT if fault else Verdict.OK,
        transform.round_trip,
        tolerance,
        "of the scale",
        "offsets that were normalised and undone",
        f"An offset comes back {transform.round_trip:.3g} of a scale from where it was.",
        (WRONG_INVERSE,) if fault else (),
    )


CHECKS: tuple[Check, ...] = (
    Check("TB507", lambda case: offsets_are_normalised(case.newest("transform")), after="TB509"),
    Check(
        "TB508", lambda case: drawing_undoes_the_transform(case.newest("transform")), after="TB507"
    ),
)

"""TB4xx: are the latents used, and honestly?"""

from collections.abc import Sequence

import numpy as np

from tightbound.diagnose.evidence import Evidence, Scores
from tightbound.diagnose.finding import Cause, Finding, Verdict, not_run

COLLAPSED = Cause(
    "posterior_collapse",
    "The proposal has become the prior: z carries nothing about x.",
    "Warm the KL weight up, give free bits, or weaken the decoder.",
)
DECODER_IGNORES_Z = Cause(
    "decoder_ignores_z",
    "log p(x | z) is the same for every z: the decoder is not connected to the latents.",
    "Feed z to the decoder.",
)
IDENTITY_LATENTS = Cause(
    "identity_latents",
    "The proposal's scale is next to nothing: z is a copy of what the encoder computes, paid for "
    "with a KL that does not fall.",
    "Learn the proposal's scale, or floor it.",
)


def latents_are_used(
    history: Sequence[Evidence],
    *,
    threshold: float = 0.01,
    num_errors: float = 3.0,
    first_step: int = 200,
    asked_for: bool = False,
) -> Finding:
    """TB401. Does the proposal ignore x?  Reads KL(q(z | x) || p(z)) of held-out rows, in nats.

    Fault when the mean KL is below `threshold` by `num_errors` standard errors at the last probe
    and from `first_step` on. `asked_for` says that the stated settings make the trivial solution
    the best one (a KL weight above 1, an output noise above the data's top eigenvalue): then a
    collapse is what was asked for.
    """
    code, check = "TB401", "latents_are_used"
    last = history[-1]
    if last.sites is None or last.step < first_step:
        return not_run(code, check, f"needs {first_step} steps: a KL may be small before it rises")
    kl = last.sites.kl
    error = kl.std(ddof=1) / np.sqrt(len(kl))
    low, high = kl.mean() - num_errors * error, kl.mean() + num_errors * error
    if high < threshold and not asked_for:
        verdict = Verdict.FAULT
    elif low > threshold or asked_for:
        verdict = Verdict.OK
    else:
        verdict = Verdict.UNDECIDED
    return Finding(
        code,
        check,
        verdict,
        float(kl.mean()),
        threshold,
        "nats per sequence",
        f"step {last.step}, held-out rows",
        f"KL(q(z | x) || p(z)) is {kl.mean():.3g} nats per sequence."
        + (" The settings ask for it." if asked_for and high < threshold else ""),
        (COLLAPSED, DECODER_IGNORES_Z) if verdict is Verdict.FAULT else (),
    )


def likelihood_listens(scores: Scores | None) -> Finding:
    """TB402. Does log p(x | z) change when z does?  Measured: its largest change, in nats; exactly 0
    means that the decoder does not see z."""
    code, check = "TB402", "likelihood_listens"
    if scores is None:
        return not_run(code, check, "no draws were gathered")
    # Without noise all draws of a row are equal and nothing can change: TB102 says so.
    silent = scores.likelihood_slope == 0.0 and scores.proposal_spread > 0.0
    return Finding(
        code,
        check,
        Verdict.FAULT if silent else Verdict.OK,
        scores.likelihood_slope,
        0.0,
        "nats",
        "log p(x | z) over the draws of one row",
        f"Other draws of z change log p(x | z) by up to {scores.likelihood_slope:.3g} nats.",
        (DECODER_IGNORES_Z,) if silent else (),
    )


def latents_keep_their_noise(
    history: Sequence[Evidence], *, scale: float = 0.01, share: float = 0.5
) -> Finding:
    """TB403. Has the proposal's scale gone to nothing?  Measured: the share of latents whose scale,
    averaged over held-out rows, is below `scale` (the prior's is 1)."""
    code, check = "TB403", "latents_keep_their_noise"
    last = history[-1]
    if last.latents is None:
        return not_run(code, check, "the latents' moments were not gathered")
    mean_scale = last.latents.scale.mean(0)
    measured = float((mean_scale < scale).mean())
    no_noise_at_all = bool((last.latents.scale == 0).all())
    fault = measured > share and not no_noise_at_all  # none at all is TB102's to name
    return Finding(
        code,
        check,
        Verdict.FAULT if fault else Verdict.OK,
        measured,
        share,
        "of latents",
        f"step {last.step}, held-out rows",
        f"{measured:.0%} of the latents have a scale below {scale:g}.",
        (IDENTITY_LATENTS,) if fault else (),
    )

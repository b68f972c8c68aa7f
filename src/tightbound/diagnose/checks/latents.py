"""TB117 and TB4xx: is the KL of the latents one, are they used, and honestly?"""

from collections.abc import Sequence

import numpy as np

from tightbound.diagnose.evidence import Evidence, Scores, Sites
from tightbound.diagnose.finding import Cause, Finding, Verdict, not_run

COLLAPSED = Cause(
    "posterior_collapse",
    "The proposal has become the prior: z carries nothing about x.",
    "Warm the KL weight up, give free bits, or weaken the decoder.",
)
COLLAPSED_BY_LARGE_STEPS = Cause(
    "collapsed_by_large_steps",
    "Updates a hundredth of the parameters' size and more taught the decoder the mean of the data before z "
    "carried anything: every row is given the same reconstruction.",
    "Lower the learning rate until an update is about a thousandth of the parameters' size.",
)
DECODER_IGNORES_Z = Cause(
    "decoder_ignores_z",
    "log p(x | z) is the same for every z: the decoder is not connected to the latents.",
    "Feed z to the decoder.",
)
NO_KL = Cause(
    "log_q_or_prior_counted_wrongly",
    "log q is counted more often than it was drawn, as one value for all latents that is spread over "
    "positions is, or log p(z) is no density: the bound lies above log p(x).",
    "Compare log q and log p(z) of one draw with a library's distribution, summed over every latent once.",
)
IDENTITY_LATENTS = Cause(
    "identity_latents",
    "The proposal's scale is next to nothing: z is a copy of what the encoder computes, paid for "
    "with a KL that does not fall.",
    "Learn the proposal's scale, or floor it.",
)


def kl_is_not_negative(
    history: Sequence[Evidence],
    *,
    tolerance: float = 0.01,
    num_errors: float = 6.0,
    is_bound: bool = True,
) -> Finding:
    """TB117. Is E[log q(z | x) - log p(z)], the KL of held-out rows, at least 0?  Oracle: Gibbs' inequality.

    Measured in nats per sequence, at the last probe, with the standard error of its draws. Fault below
    -`tolerance` and by more than `num_errors` errors; undecided from half as many, or where it is not
    finite. It holds of independent draws from a normalised q and a normalised prior: not run of point
    masses, of targets that observe nothing, and of strings, whose log p is a filter's estimate.
    """
    code, check = "TB117", "kl_is_not_negative"
    sites = history[-1].sites if history else None
    if any(evidence.choices is not None for evidence in history):
        return not_run(code, check, "the latents are strings, whose log p is a filter's estimate")
    if sites is None or sites.log_q[~sites.observed].size == 0 or sites.log_q.shape[1] < 2:
        return not_run(code, check, "needs two draws of a latent site for each held-out row")
    if not is_bound or not sites.observed.any():
        return not_run(
            code, check, "the prior is not normalised, or the terms are meant to be no bound"
        )
    if any(e.scores is not None and e.scores.proposal.size == 0 for e in history):
        return not_run(code, check, "the proposal holds point masses, which have no density")
    mean, error = _kl_of_draws(sites)
    if not np.isfinite(error):
        verdict = Verdict.UNDECIDED
    elif mean >= -max(tolerance, 0.5 * num_errors * error):
        verdict = Verdict.OK
    elif mean < -max(tolerance, num_errors * error):
        verdict = Verdict.FAULT
    else:
        verdict = Verdict.UNDECIDED
    return Finding(
        code,
        check,
        verdict,
        mean,
        -max(tolerance, num_errors * error),
        "nats per sequence",
        f"step {history[-1].step}, held-out rows",
        f"E[log q(z | x) - log p(z)] is {mean:.3g} ± {error:.2g} nats per sequence; a KL is never below 0.",
        (NO_KL,) if verdict is Verdict.FAULT else (),
    )


def _kl_of_draws(sites: Sites) -> tuple[float, float]:
    """The mean of log q - log p over draws and rows, and its standard error over the draws, the rows
    given: the inequality holds for every row."""
    with np.errstate(invalid="ignore"):  # inf - inf
        each = (sites.log_q - sites.log_p)[~sites.observed].sum(0)
        error = np.sqrt(each.var(0, ddof=1).sum() / len(each)) / each.shape[1]
        return float(each.mean()), float(error)


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
    collapse is what was asked for. Assumes a proposal that could differ from the prior: not run where
    it has no parameters of its own and is the prior at every draw of every probe.
    """
    code, check = "TB401", "latents_are_used"
    if any(evidence.choices is not None for evidence in history):
        return not_run(
            code, check, "the latents are strings: what they cost is log q of the proposal"
        )
    if not history or history[-1].sites is None or history[-1].step < first_step:
        return not_run(code, check, f"needs {first_step} steps: a KL may be small before it rises")
    last, sites = history[-1], history[-1].sites
    if len(sites.num_units) < 2 or sites.log_q[~sites.observed].size == 0:
        return not_run(code, check, "needs draws of a latent site for at least two held-out rows")
    if _proposes_from_the_prior(history):
        reason = (
            "the proposal is the prior by construction: their KL is 0, and nothing has collapsed"
        )
        return not_run(code, check, reason)
    with np.errstate(invalid="ignore"):  # inf - inf
        kl = sites.kl
        error = kl.std(ddof=1) / np.sqrt(len(kl))
    if kl_is_not_negative(history).verdict is Verdict.FAULT:
        return not_run(
            code, check, "what is called the KL is below zero, so it is none (see TB117)"
        )
    low, high = kl.mean() - num_errors * error, kl.mean() + num_errors * error
    if not np.isfinite(error):
        verdict = Verdict.UNDECIDED
    elif high < threshold and not asked_for:
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
        ()
        if verdict is not Verdict.FAULT
        else (COLLAPSED_BY_LARGE_STEPS, COLLAPSED, DECODER_IGNORES_Z)
        if _steps_were_large(history)
        else (COLLAPSED, COLLAPSED_BY_LARGE_STEPS, DECODER_IGNORES_Z),
    )


def _proposes_from_the_prior(history: Sequence[Evidence], *, rounding: float = 1e-5) -> bool:
    """Whether the proposal has no parameters of its own and gives every draw of every probe the density
    that the prior gives it, but for rounding: that of a bootstrap filter does."""
    modules = [name for e in history if e.gradients is not None for name in e.gradients.modules]
    seen = [e.sites for e in history if e.sites is not None]
    drawn = [(s.log_p[~s.observed], s.log_q[~s.observed]) for s in seen]
    if not modules or any(str(name).startswith("q.") for name in modules):
        return False
    finite = all(np.isfinite(log_p).all() and np.isfinite(log_q).all() for log_p, log_q in drawn)
    return finite and all(np.allclose(p, q, rtol=rounding, atol=rounding) for p, q in drawn)


def _steps_were_large(history: Sequence[Evidence], *, ratio: float = 0.02) -> bool:
    """Whether the median module's update was ever more than this share of its parameters, from the
    fourth step on: before it, weights that start at zero have no size."""
    seen = [e.gradients for e in history if e.gradients is not None and e.step >= 4]
    found = [g.update_norm / np.maximum(g.parameter_norm, 1e-30) for g in seen]
    return any(bool(np.median(r) > ratio) for r in found if r.size and np.isfinite(r).all())


def likelihood_listens(scores: Scores | None, *, observes: bool = True) -> Finding:
    """TB402. Does log p(x | z) change when z does?  Measured: its largest change, in nats; exactly 0
    means that the decoder does not see z. Undecided where the change is not finite; not run of a target
    density, which observes nothing."""
    code, check = "TB402", "likelihood_listens"
    if not observes:
        return not_run(code, check, "the model is a density that observes nothing")
    if scores is None:
        return not_run(code, check, "no draws were gathered")
    if scores.proposal_spread == 0.0:
        return not_run(code, check, "all draws of a row are equal, so z never changed (see TB102)")
    silent = scores.likelihood_slope == 0.0
    known = np.isfinite(scores.likelihood_slope)
    return Finding(
        code,
        check,
        Verdict.FAULT if silent else Verdict.OK if known else Verdict.UNDECIDED,
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
    averaged over held-out rows, is below `scale` (the prior's is 1). Undecided where a scale is not
    finite."""
    code, check = "TB403", "latents_keep_their_noise"
    latents = history[-1].latents if history else None
    if latents is None or latents.scale.size == 0:
        return not_run(code, check, "the latents' moments were not gathered")
    if len(latents.scale) == 1:
        reason = "latents that all data share are as narrow as the data make them"
        return not_run(code, check, reason)
    if (latents.scale == 0).all():
        return not_run(code, check, "there is no noise at all to be small (see TB102)")
    measured = float((latents.scale.mean(0) < scale).mean())
    fault = measured > share
    known = np.isfinite(latents.scale).all()
    return Finding(
        code,
        check,
        Verdict.FAULT if fault else Verdict.OK if known else Verdict.UNDECIDED,
        measured,
        share,
        "of latents",
        f"step {history[-1].step}, held-out rows",
        f"{measured:.0%} of the latents have a scale below {scale:g}.",
        (IDENTITY_LATENTS,) if fault else (),
    )

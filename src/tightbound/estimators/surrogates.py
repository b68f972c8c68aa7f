"""The waist -> scalars whose *gradient* is the point. Their value is never logged.

Each is a mean over sequences, to be maximised: a loss is its negative. Two gradient estimators
have no function of their own, because they differ from a pathwise one only in how the draw is
differentiated, which is chosen where z is drawn:

- sticking the landing: `pathwise_elbo` of `weigh(..., path="stop_proposal")`;
- doubly reparameterised IWAE: `pathwise_iwae` of `weigh(..., path="doubly")`.

`vimco` and the wake phases differentiate log p and log q at draws that carry no gradient. The draws
of a discrete proposal are such; those of a reparameterised one need `weigh(..., path="stop_draw")`:
otherwise gradient flows through z as well, and the sum of both paths estimates nothing.
"""

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, ScalarLike

from tightbound.estimators.bounds import (
    elbo,
    filtering_log_marginal,
    iwae_bound,
    renyi_bound,
    step_evidence_and_weights,
)
from tightbound.terms import Kind, LogTerms, StepTerms


def pathwise_elbo(terms: LogTerms) -> Float[Array, ""]:
    """Gradient of the ELBO through a reparameterised draw.

    Kingma & Welling 2014 (arXiv:1312.6114), sec. 2.3. Sticking the landing (Roeder et al. 2017,
    arXiv:1703.09194) is the same function of terms weighed with `path="stop_proposal"`: equal in
    expectation, and free of noise where q is the posterior.
    """
    return elbo(terms.log_weights).mean()


def pathwise_iwae(terms: LogTerms) -> Float[Array, ""]:
    """Gradient of the K-sample bound through reparameterised draws.

    Burda et al. 2016 (arXiv:1509.00519), sec. 3. The proposal's signal-to-noise ratio falls
    with K. The doubly reparameterised gradient (Tucker et al. 2018, arXiv:1810.04152, eq. 8) does
    not have that fault and is the same function of terms weighed with `path="doubly"`.
    """
    return iwae_bound(terms.log_weights).mean()


def pathwise_renyi(terms: LogTerms, alpha: float | int) -> Float[Array, ""]:
    """Gradient of the sampled Rényi bound through reparameterised draws.

    Li & Turner 2016 (arXiv:1602.02311), sec. 4.1: w_k^(1 - alpha), normalised, weighs the gradient
    of each draw. For alpha < 0 it still moves the parameters, but maximises no bound.
    """
    return renyi_bound(terms.log_weights, alpha).mean()


def kl_weighted(terms: LogTerms, kl_weight: ScalarLike) -> Float[Array, ""]:
    """ELBO with the KL term scaled, for annealing or by choice; the draw is reparameterised.

        1/K sum_k log p(x | z_k) + kl_weight (log p(z_k) - log q(z_k | x))

    Bowman et al. 2016 (arXiv:1511.06349), sec. 3.1; Higgins et al. 2017 (the weight there: beta).
    Weight 1 is `pathwise_elbo`; below 1 the value is no lower bound on log p(x).
    """
    kl = terms.log_proposal - terms.log_prior
    return (terms.log_likelihood - kl_weight * kl).mean()


def tempered(terms: LogTerms, temperature: ScalarLike) -> Float[Array, ""]:
    """ELBO with log p scaled, prior and all; the draw is reparameterised.

        1/K sum_k temperature log p(x, z_k) - log q(z_k | x)

    Its maximum over q is the posterior to that power. Temperature 1 is `pathwise_elbo`; any other has
    a value that is no bound. With 1 / m on particles without a density it is SVGD (Liu & Wang 2016,
    arXiv:1608.04471, eq. 8); in cycles, annealed SVGD (D'Angelo & Fortuin 2021, arXiv:2101.09815).
    """
    return (temperature * terms.log_joint - terms.log_proposal).mean()


def free_bits(terms: LogTerms, floor: ScalarLike) -> Float[Array, ""]:
    """ELBO in which a latent pays for its KL only above `floor` nats; the draw is reparameterised.

        mean log p(x | z) - sum_g max(floor, KL_g),   KL_g = mean of log q_g - log p_g

    Kingma et al. 2016 (arXiv:1606.04934), appendix C.8: the mean is over the minibatch (and here
    the K draws) *before* the floor, so single sequences may go below it. A group is a latent site
    summed over its positions; when one of them has no log q of its own, being drawn jointly with
    another, their KLs cannot be told apart and all latent sites are one group.

    A group below the floor has no gradient at all. Floor 0 is not `pathwise_elbo` when a sampled
    KL is negative.
    """
    latents = [site for site in terms.sites if site.kind is not Kind.OBSERVED]
    kls = [site.total_log_q - site.total_log_p for site in latents]
    if any(site.log_q is None for site in latents):
        kls = [sum(kls, start=jnp.zeros(()))]
    paid = [jnp.maximum(kl.mean(), floor) for kl in kls]
    return terms.log_likelihood.mean() - sum(paid, start=jnp.zeros(()))


def vimco(terms: LogTerms) -> Float[Array, ""]:
    """Gradient of the K-sample bound by the score function, for draws that carry no gradient.

        sum_k (L_K - b_k) grad log q(z_k | x) + sum_k w~_k grad log w_k

    Mnih & Rezende 2016 (arXiv:1602.06725), eq. 9 and 10. The baseline b_k is L_K with w_k replaced
    by the geometric mean of the other weights; not depending on z_k, it changes the variance and
    not the mean. It is a K x K table per sequence: meant for K up to hundreds.

    K = 1 leaves no other draw to make a baseline from and is refused. A draw with zero weight
    takes the geometric mean to 0; where all others have zero weight the baseline would be -inf,
    and 0 nats, which depends on z_k no more, stands in for it.
    """
    log_weights = terms.log_weights
    num_samples = log_weights.shape[0]
    if num_samples < 2:
        raise ValueError(
            "`vimco` makes each draw's baseline from the others and needs at least 2 samples per "
            f"sequence, but the terms hold {num_samples}.\nRaise `num_samples` in `weigh(...)`."
        )
    bound = iwae_bound(log_weights)
    baseline = _leave_one_out_bound(log_weights)
    baseline = jnp.where(jnp.isneginf(baseline), 0.0, baseline)
    signal = stop_gradient(bound[None] - baseline)
    return ((signal * terms.log_proposal).sum(axis=0) + bound).mean()


def _leave_one_out_bound(
    log_weights: Float[Array, "samples batch"],
) -> Float[Array, "samples batch"]:
    """L_K with each draw in turn replaced by the geometric mean of the others."""
    num_samples = log_weights.shape[0]
    own = jnp.eye(num_samples, dtype=bool)[:, :, None]  # [left out, sample, sequence]
    others = jnp.where(own, 0.0, log_weights[None])
    geometric = others.sum(axis=1) / (num_samples - 1)
    replaced = jnp.where(own, geometric[:, None], log_weights[None])
    return logsumexp(replaced, axis=1) - jnp.log(num_samples)


def wake_model(terms: LogTerms) -> Float[Array, ""]:
    """Wake phase of the model: sum_k w~_k grad log p(x, z_k), w~ constant; draws carry no gradient.

    Bornschein & Bengio 2015 (arXiv:1406.2751), sec. 2. For the model's parameters this is the
    gradient of the K-sample bound; a biased estimate of grad log p(x), less so as K grows. The
    proposal gets no gradient from it.
    """
    return (_constant_weights(terms) * terms.log_joint).sum(axis=0).mean()


def wake_proposal(terms: LogTerms) -> Float[Array, ""]:
    """Wake phase of the proposal: sum_k w~_k grad log q(z_k | x), w~ constant; draws carry no gradient.

    Bornschein & Bengio 2015 (arXiv:1406.2751), sec. 2: it moves q towards the posterior in
    KL(posterior || q), the other direction than the ELBO, and is biased for finite K (at K = 1
    its mean is zero). The model gets no gradient from it.
    """
    return (_constant_weights(terms) * terms.log_proposal).sum(axis=0).mean()


def reweighted_wake_sleep(terms: LogTerms) -> Float[Array, ""]:
    """Both wake phases at once: `wake_model` for the model, `wake_proposal` for the proposal.

    They share no parameters, so one sum serves both. There is no sleep phase: it would need
    draws (x, z) of the model, which these terms do not hold.
    """
    return wake_model(terms) + wake_proposal(terms)


def _constant_weights(terms: LogTerms) -> Float[Array, "samples batch"]:
    return stop_gradient(jax.nn.softmax(terms.log_weights, axis=0))


def filtering(terms: StepTerms) -> Float[Array, ""]:
    """Gradient of the filtering bound with the terms of resampling dropped.

    Maddison et al. 2017 (arXiv:1705.09279), sec. 4: biased, since which particles survive depends on
    the parameters too, and of far lower variance than `filtering_with_resampling`.
    """
    return filtering_log_marginal(terms).mean()


def filtering_with_resampling(terms: StepTerms) -> Float[Array, ""]:
    """Gradient of the filtering bound, resampling and all.

        grad log p^ + sum_t (sum_{s >= t} log p^_s) sum_n grad log W_{t-1}(a_t^n)

    Maddison et al. 2017, eq. 8, without the evidence from before step t, which does not depend on
    the ancestors drawn there. Holds for multinomial resampling, whose ancestors are independent, when
    the rule that decides to resample is held fixed (always, or never).
    """
    evidence, log_weights = step_evidence_and_weights(terms)
    before = log_weights[:-1]
    chosen = jnp.take_along_axis(before, terms.ancestors[1:], axis=1).sum(1)
    happened = terms.resampled[1:] & terms.mask[1:]
    log_prob = jnp.where(happened, chosen, 0.0)
    ahead = jnp.cumsum(evidence[::-1], axis=0)[::-1][1:]
    return (evidence.sum(0) + (stop_gradient(ahead) * log_prob).sum(0)).mean()

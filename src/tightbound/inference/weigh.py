"""Model x proposal x batch -> `LogTerms`. The only place that maps over samples and batch."""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PRNGKeyArray, PyTree

from tightbound.data.batch import Batch
from tightbound.inference.filtered import weigh_filtered
from tightbound.inference.shapes import checked_log_q, checked_scores, numpy_is_named
from tightbound.inference.stepwise import weigh_stepwise
from tightbound.models.base import (
    AbstractModel,
    AbstractProposal,
    AbstractRegularised,
    Distribution,
    Stratified,
)
from tightbound.models.sequential import AbstractFiltered
from tightbound.models.stateful import AbstractStateful, AbstractStepwise, constant
from tightbound.terms import Kind, LogTerms, Site, mask_of

GradientPath = Literal["full", "stop_proposal", "doubly", "stop_draw"]
_NOISE = 0xD20  # folded into the key of a sequence: that of its first draw is not used twice


def weigh(
    model: AbstractModel,
    proposal: AbstractProposal,
    batch: Batch,
    *,
    num_samples: int,
    key: PRNGKeyArray,
    path: GradientPath = "full",
    training: bool = False,
) -> LogTerms:
    """Score `num_samples` draws z ~ q(. | x) of every sequence, site by site, in nats.

    The value is the same for every `path`; the gradient is not:

    - "full": through the draw and through q's parameters in log q (values, probes and `why` use it);
    - "stop_proposal": q's parameters are held constant inside log q. Sticking the landing, Roeder
      et al. 2017 (arXiv:1703.09194), eq. 8. Unbiased for the ELBO only: `Objective` refuses it
      for bounds with K > 1, where it is biased (Tucker et al. 2018, sec. 3);
    - "doubly": as above, and the cotangent of z is scaled by its normalised weight. Doubly
      reparameterised, Tucker et al. 2018 (arXiv:1810.04152), eq. 8. For the IWAE bound only;
    - "stop_draw": the draw is a constant, as the score-function and wake-sleep surrogates need it.

    The key of a draw is made from `key`, the row of its sequence and the index of the sample, so
    neither padding nor neighbours change it. With `training`, a model that is noisy in training
    (`AbstractRegularised`) is scored under that noise, one draw of it per sequence. A model whose
    own choices a filter sums out (`AbstractFiltered`) has one path: its draws are discrete. A
    stepwise proposal has all but "doubly"; so has a `Mixture`, whose draws are spread evenly over its
    components: the identity behind "doubly" holds for independent draws.
    """
    if num_samples < 1:
        raise ValueError(
            f"`num_samples` is {num_samples}, but a bound needs at least one draw per sequence. "
            "Give 1 for the ELBO, more for IWAE."
        )

    if isinstance(model, AbstractFiltered):
        if path not in ("full", "stop_draw"):
            raise ValueError(
                f"The gradient path {path!r} was asked for, but {type(model).__name__} draws strings, through "
                "which no gradient passes. Use 'full'."
            )
        return weigh_filtered(model, proposal, batch, num_samples=num_samples, key=key)
    if isinstance(model, AbstractStateful) and isinstance(proposal, AbstractStepwise):
        return weigh_stepwise(model, proposal, batch, num_samples=num_samples, key=key, path=path)

    def one_sequence(x, mask, row):
        keys = jax.random.split(jax.random.fold_in(key, row), num_samples)
        q = proposal.proposal(x)
        if path == "doubly" and isinstance(q, Stratified):
            raise ValueError(
                "The gradient path 'doubly' was combined with a mixture, whose draws are spread evenly "
                "over its components: it is biased there. Use 'full', or 'stop_proposal' with 'elbo'."
            )
        z = draws(q, keys)
        _check_names(model, q, z)
        if path == "stop_draw":
            z = constant(z)
        scored_q = constant(q) if path in ("stop_proposal", "doubly") else q
        if path == "doubly":
            z = _scale_cotangent(z, _normalised_weights(model, constant(q), x, mask, z))
        score = partial(model.score, x)
        if training and isinstance(model, AbstractRegularised):
            score = partial(score, key=jax.random.fold_in(keys[0], _NOISE))
        log_p = _over_samples(lambda z: checked_scores(model, score(z), mask.shape[-1]))(z)
        log_q = _over_samples(
            lambda z: checked_log_q(q, proposal_score(model, scored_q, z), mask.shape[-1])
        )(z)
        return log_p, log_q

    mask = jnp.asarray(batch.mask)
    with numpy_is_named(model, proposal):
        log_p, log_q = jax.vmap(one_sequence, out_axes=1)(batch.x, mask, jnp.asarray(batch.rows))
    return LogTerms(
        sites=tuple(
            _site(name, kind, log_p[name], log_q.get(name), mask)
            for name, kind in model.kinds.items()
        ),
        num_units=jnp.asarray(batch.num_units),
    )


def draws(q: Distribution, keys: Key[Array, " samples"]) -> PyTree[Array]:
    """One draw for each key, more even than one by one where the distribution can."""
    return q.sample_strata(keys) if isinstance(q, Stratified) else _over_samples(q.sample)(keys)


def _over_samples(function):
    """`jax.vmap` over a leading axis of samples. A single sample is squeezed out and put back: the
    axis of size one keeps XLA from folding the batch into one matrix product (an eighth of a VAE's gradient)."""

    def mapped(argument):
        if len(jax.tree.leaves(argument)[0]) > 1:
            return jax.vmap(function)(argument)
        result = function(jax.tree.map(lambda leaf: leaf[0], argument))
        return jax.tree.map(lambda leaf: leaf[None], result)

    return mapped


def proposal_score(
    model: AbstractModel, q: Distribution, z: PyTree[Array]
) -> dict[str, Float[Array, " time"]]:
    """log q of every latent site, in nats; a jointly scored proposal is held by the first of them."""
    log_q = q.log_prob(z)
    if isinstance(log_q, dict):
        _check_sites(model, log_q)
        return log_q
    first = next((n for n, kind in model.kinds.items() if kind is not Kind.OBSERVED), None)
    if first is None:
        raise ValueError(
            f"{type(model).__name__} has observed sites only, so there is nothing to propose. "
            "Use its `log_marginal`."
        )
    return {first: jnp.atleast_1d(log_q)}


def _check_sites(model: AbstractModel, log_q: dict[str, Array]) -> None:
    latents = [name for name, kind in model.kinds.items() if kind is Kind.LATENT]
    missing = [name for name in latents if name not in log_q]
    unknown = [name for name in log_q if name not in model.kinds]
    if missing or unknown:
        raise ValueError(
            f"The proposal scores the sites {sorted(log_q)}, but {type(model).__name__} has the latent "
            f"sites {latents}: {(missing or unknown)[0]!r} is "
            f"{'not scored' if missing else 'unknown'}, so log q would be of other choices than log p. "
            "Score every latent site, under the model's own names."
        )


def _check_names(model: AbstractModel, q: Distribution, z: PyTree[Array]) -> None:
    """Where latents are named in a dictionary, draws must have the names that the model's own have."""
    if not isinstance(z, dict):
        return
    own = jax.eval_shape(model.sample_prior, jax.random.key(0))
    if isinstance(own, dict) and set(own) != set(z):
        raise ValueError(
            f"{type(q).__name__} draws {sorted(z)}, but the latents of {type(model).__name__} are "
            f"{sorted(own)}. Draw every latent, under the model's own names."
        )


def _normalised_weights(model, q, x, mask, z) -> Float[Array, " samples"]:
    """softmax of the log-weights over the samples of one sequence, as constants."""

    def total(term):
        return jnp.where(mask_of(mask, term.shape[-1]), term, 0.0).sum()

    def log_weight(z):
        log_p, log_q = model.score(x, z), proposal_score(model, q, z)
        return sum(map(total, log_p.values())) - sum(map(total, log_q.values()))

    return jax.lax.stop_gradient(jax.nn.softmax(_over_samples(log_weight)(z)))


def _scale_cotangent(z: PyTree[Array], weight: Float[Array, " samples"]) -> PyTree[Array]:
    """z itself, to the bit (z - z is 0), but its gradient is multiplied by its sample's weight."""

    def scale(leaf):
        constant = jax.lax.stop_gradient(leaf)
        factor = weight.reshape(weight.shape + (1,) * (leaf.ndim - 1))
        return constant + factor * (leaf - constant)

    return jax.tree.map(scale, z)


def _site(name: str, kind: Kind, log_p: Array, log_q: Array | None, mask: Array) -> Site:
    """The mask has every position where one of the two has, and one where both are of the sequence."""
    longest = max(score.shape[-1] for score in (log_p, log_q) if score is not None)
    mask = jnp.broadcast_to(mask_of(mask, longest), (*log_p.shape[:-1], longest))
    return Site(name=name, kind=kind, log_p=log_p, log_q=log_q, mask=mask)

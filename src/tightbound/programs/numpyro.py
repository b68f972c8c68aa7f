"""NumPyro's SVI and SteinVI on the same yardstick as everything else: bounds, weights, findings.

Arguments of the model and the guide are passed as NumPyro takes them; `num_samples`, `key`, `plate`
and `split` are ours, and a model that has an argument so named needs `functools.partial`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree
from numpyro.contrib.einstein.steinvi import SteinVI
from numpyro.infer import SVI
from numpyro.infer.autoguide import AutoDelta

from tightbound.diagnose.checks import adapters as checks
from tightbound.diagnose.doctor import judge_weights
from tightbound.diagnose.finding import Finding
from tightbound.diagnose.findings import Findings, by_verdict
from tightbound.estimators.bounds import bound_estimate
from tightbound.estimators.estimate import Estimate
from tightbound.evaluation import Evaluation
from tightbound.programs import numpyro_probes as probes
from tightbound.programs.numpyro_fitted import Fitted, fitted, guide_trace, model_trace
from tightbound.programs.numpyro_scores import layout_of, scores
from tightbound.terms import Kind


def evaluate_svi(
    svi: SVI,
    state_or_params: Any,
    *args: Any,
    num_samples: int,
    key: PRNGKeyArray,
    plate: str | None = None,
    split: str = "the data given",
    **kwargs: Any,
) -> Evaluation:
    """Weigh `num_samples` draws of the guide, site by site, in nats per row.

    Without `plate` the data set is one row: log p and log q are summed over everything, and scales
    (N / n of a subsample, `handlers.scale`) are respected, as in NumPyro's ELBO. All draws see one
    subsample. It makes the ELBO noisy, and the IWAE value a bound for these data at that scale only.

    With `plate`, the name of the plate over data points, a datum is a row. Every site has to stand in
    that plate: with a global latent the weights of a datum are not its own, and the call is refused.
    Scales are undone, since a row stands for itself; of a subsample the rows are its indices.

    Masked scores count 0. A guide of point masses (`AutoDelta`) has no log q: see `bound_of`.
    """
    pair = fitted(svi, state_or_params, args, kwargs)
    return _evaluate(pair, num_samples, key, plate, split)


def evaluate_steinvi(
    stein: SteinVI,
    state_or_params: Any,
    *args: Any,
    num_samples: int,
    key: PRNGKeyArray,
    plate: str | None = None,
    split: str = "the data given",
    **kwargs: Any,
) -> Evaluation:
    """Weigh draws of the mixture of all m particles under its own density, in nats per row.

        log w = log p(x, z) - log 1/m sum_j q_j(z)

    Draws are spread over the components as evenly as can be. With `plate` the mixture is taken per
    datum, not over the whole batch. Temperatures of the training are left out: this is the bound of the
    model itself. Rows, scales and point masses (`SVGD`) as in `evaluate_svi`.
    """
    pair = fitted(stein, state_or_params, args, kwargs)
    return _evaluate(pair, num_samples, key, plate, split)


def bound_of(evaluation: Evaluation, bound: Literal["elbo", "iwae"] = "elbo") -> Estimate:
    """The bound with its errors, as our tables show it. Where the guide has no density the number is
    log p(x, z) of its points, and says that it is no bound.

    The error over draws takes them as independent; spread over components they are better than that.
    """
    is_bound = bool(evaluation.log_q) or Kind.LATENT not in evaluation.kinds.values()
    return bound_estimate(
        evaluation.log_weights,
        bound=bound,
        split=evaluation.split,
        kind=evaluation.kind_of_bound(is_bound),
    )


def posterior_draws(
    method: SVI | SteinVI,
    state_or_params: Any,
    *args: Any,
    num_samples: int,
    key: PRNGKeyArray,
    **kwargs: Any,
) -> dict[str, Array]:
    """Every site of the model on `num_samples` draws of every component: axes component, sample, then
    the site's own.

    Called with the data, observed sites are the data; called with None in their place, where the model
    takes that, they are predictions. Single-guide inference has one component.
    """
    pair = fitted(method, state_or_params, args, kwargs)

    def one(component: Int[Array, ""], key: PRNGKeyArray) -> dict[str, Array]:
        model_key, guide_key = jax.random.split(key)
        parameters = pair.parameters(component)
        drawn = guide_trace(pair, parameters, {}, guide_key)
        sites = model_trace(pair, parameters, drawn, model_key)
        shown = ("sample", "deterministic")
        return {name: site["value"] for name, site in sites.items() if site["type"] in shown}

    keys = jax.random.split(key, (pair.num_components, num_samples))
    over_samples = jax.vmap(one, in_axes=(None, 0))
    return jax.jit(jax.vmap(over_samples))(jnp.arange(pair.num_components), keys)


def findings(
    method: SVI | SteinVI,
    state: Any,
    *args: Any,
    num_samples: int,
    key: PRNGKeyArray,
    plate: str | None = None,
    **kwargs: Any,
) -> Findings:
    """What is wrong with a state: its weights (TB301 to TB304), and what the library itself reports,
    scores, starts from and counts (TB606 to TB609). Takes a state: parameters alone report nothing."""
    pair = fitted(method, state, args, kwargs)
    rows_key, layout_key, draw_key = jax.random.split(key, 3)
    layout = layout_of(pair, None, layout_key)
    score = partial(scores, pair, layout, num_samples, draw_key)
    log_p, log_q = score()
    whole = np.asarray(sum(log_p.values()) - sum(log_q.values()))
    bound = float(whole.mean()) if layout.has_density else None
    plain, shifted, shift = probes.reported_numbers(method, state, args, kwargs)
    found = [checks.reported_number_is_a_bound(plain, shifted, bound, shift=shift)]
    if isinstance(method, SteinVI):
        scored_by = None
        if log_q:
            scored_by = probes.parameters_the_loss_scores_with(method, state, args, kwargs)
        found += [
            _scored_as_drawn(method, pair, scored_by, log_q, score),
            checks.static_arguments_arrive(probes.lost_static_arguments(method, args, kwargs)),
            _counted(method, pair),
        ]
    else:
        found += [
            checks.mixture_is_scored_as_drawn(None, None),
            checks.static_arguments_arrive(None),
            checks.predictive_counts_the_components(None, None),
        ]
    if plate is not None:
        whole = _evaluate(pair, num_samples, rows_key, plate, "").log_weights
    # What the library does wrong explains the weights, so it stands first within a verdict.
    found += judge_weights(whole, has_latents=layout.has_latents)
    return Findings(by_verdict(found))


def _evaluate(
    pair: Fitted, num_samples: int, key: PRNGKeyArray, plate: str | None, split: str
) -> Evaluation:
    layout_key, draw_key = jax.random.split(key)
    layout = layout_of(pair, plate, layout_key)
    log_p, log_q = scores(pair, layout, num_samples, draw_key)
    return Evaluation(
        kinds=layout.kinds,
        log_p=log_p,
        log_q=log_q,
        num_units=np.ones(len(layout.rows), np.int32),
        rows=layout.rows,
        split=split,
    )


def _scored_as_drawn(
    stein: SteinVI,
    pair: Fitted,
    scored_by: dict[str, PyTree] | None,
    log_q: dict[str, Float[np.ndarray, "samples rows"]],
    score: Callable,
) -> Finding:
    """The same draws once more, under the parameters that the loss takes for the components'."""
    if scored_by is None:
        return checks.mixture_is_scored_as_drawn(None, None)
    of_loss = score(scored_by)[1]
    return checks.mixture_is_scored_as_drawn(
        np.asarray(sum(of_loss.values())),
        np.asarray(sum(log_q.values())),
        constrained_again=probes.are_constrained_again(stein, scored_by, pair.components),
    )


def _counted(stein: SteinVI, pair: Fitted) -> Finding:
    if isinstance(stein.guide, AutoDelta):  # whose draws NumPyro makes by its plain Predictive
        return checks.predictive_counts_the_components(None, None)
    counted = probes.components_counted(
        stein, pair.shared | pair.components, guide_sites=set(pair.components)
    )
    return checks.predictive_counts_the_components(counted, pair.num_components)

"""Draws of a fitted NumPyro guide, and what each is worth: log p and log q of every site, in nats."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree
from numpyro import distributions

from tightbound.errors import UserError
from tightbound.programs.numpyro_fitted import Fitted, Trace, guide_trace, model_trace, sampled
from tightbound.terms import Kind

_ROWS_AT_ONCE = 32_768  # rows x draws that are scored together


@dataclass(frozen=True)
class Layout:
    """What the sites of a model and its guide are, so that every draw agrees on it."""

    kinds: dict[str, Kind]  # of the model's sites, in its order
    plate: str | None  # over the data points, where a row is a datum
    rows: Int[np.ndarray, " rows"]
    plates: dict[str, dict[str, Any]]  # as messages to replay: all draws see one subsample
    has_density: bool  # False where every latent is a point mass, so that log q is none

    @property
    def has_latents(self) -> bool:
        return Kind.LATENT in self.kinds.values()


class Scored(NamedTuple):
    """One draw of all latents, and its scores in nats per row."""

    values: dict[str, Array]
    log_p: dict[str, Float[Array, " rows"]]
    log_q: dict[str, Float[Array, " rows"]]


def layout_of(fitted: Fitted, plate: str | None, key: PRNGKeyArray) -> Layout:
    """Look at guide and model once, and refuse what no row or no density can be made of."""
    drawn, model = _messages(fitted, key)
    sites = drawn | model
    kinds = {
        name: Kind.OBSERVED if site["is_observed"] else Kind.LATENT
        for name, site in sampled(model).items()
    }
    latents = {name for name, kind in kinds.items() if kind is Kind.LATENT}
    _check_guide_matches(latents, drawn)
    if plate is not None:
        _check_all_sites_are_inside(plate, sampled(sites))
    plates = {name: jnp.arange(site["args"][0]) for name, site in sites.items() if _is_plate(site)}
    points = set()
    if any(map(_is_subsampled, sites.values())) or any(_is_delta(drawn[n]) for n in latents):
        here, there = (_fixed_values(fitted, key) for key in jax.random.split(key))
        plates = {name: here[name] for name in plates}
        # A Delta that says the same under another key is a point mass. A function of other draws does
        # not, and has the density that NumPyro gives it, with its Jacobian.
        points = {n for n in latents & set(here) if np.array_equal(here[n], there[n])}
    if points and points != latents:
        raise UserError(
            f"The guide puts all its mass on points at {', '.join(sorted(points))} and draws the other "
            "latents, so log q is no density and there is no bound.\nGive every latent a distribution."
        )
    return Layout(
        kinds=kinds,
        plate=plate,
        rows=np.zeros(1, np.int32) if plate is None else np.asarray(plates[plate]),
        plates={name: {"type": "plate", "value": indices} for name, indices in plates.items()},
        has_density=not points,
    )


def _run_once(fitted: Fitted, key: PRNGKeyArray) -> tuple[dict, dict]:
    guide_key, model_key = jax.random.split(key)
    parameters = fitted.parameters(0)
    drawn = guide_trace(fitted, parameters, {}, guide_key)
    return drawn, model_trace(fitted, parameters, drawn, model_key)


def _messages(fitted: Fitted, key: PRNGKeyArray) -> tuple[dict, dict]:
    """The messages of guide and model, traced and not run: good for all that no value can change."""
    messages = []
    jax.eval_shape(lambda key: messages.extend(_run_once(fitted, key)), key)
    drawn, model = messages
    return drawn, model


def _fixed_values(fitted: Fitted, key: PRNGKeyArray) -> dict[str, Array]:
    """Indices of all plates, and the values of the guide's sites that are computed."""

    def run(key: PRNGKeyArray) -> dict[str, Array]:
        drawn, model = _run_once(fitted, key)
        computed = {n: site for n, site in sampled(drawn).items() if _is_delta(site)}
        plates = {n: site for n, site in (drawn | model).items() if _is_plate(site)}
        return {name: site["value"] for name, site in (computed | plates).items()}

    return jax.jit(run)(key)


def scores(
    fitted: Fitted,
    layout: Layout,
    num_samples: int,
    key: PRNGKeyArray,
    scored_by: dict[str, PyTree] | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """log p and log q of every site in nats, samples by rows, of draws that are spread over the
    components as evenly as can be: each has one more than another at most, which ones is chance."""
    if num_samples < 1:
        raise UserError(
            f"`num_samples` is {num_samples}, but a bound needs at least one draw per row. "
            "Give 1 for the ELBO, more for IWAE."
        )
    offset_key, draw_key = jax.random.split(key)
    offset = jax.random.randint(offset_key, (), 0, fitted.num_components)
    components = (jnp.arange(num_samples) + offset) % fitted.num_components

    def one(draw: tuple[PRNGKeyArray, Int[Array, ""]]):
        scored = score_draw(fitted, layout, *draw, scored_by)
        return scored.log_p, scored.log_q

    at_once = int(np.clip(_ROWS_AT_ONCE // len(layout.rows), 1, num_samples))
    run = jax.jit(lambda draws: jax.lax.map(one, draws, batch_size=at_once))
    return jax.tree.map(np.asarray, run((jax.random.split(draw_key, num_samples), components)))


def score_draw(
    fitted: Fitted,
    layout: Layout,
    key: PRNGKeyArray,
    component: Int[Array, ""],
    scored_by: dict[str, PyTree] | None = None,
) -> Scored:
    """Draw from one component, score under the model and under the whole mixture.

        log q(z) = log 1/m sum_j q_j(z)

    site by site in the guide's order: log q of a site is its mixture density given the sites before
    it, so the sites sum to the joint density. What the guide draws beside the model's latents (the
    flat vector of NumPyro's AutoContinuous guides) is counted with the latent that follows. With a
    plate the mixture is taken row by row.

    `scored_by` are other parameters of the components, under which the same draw is scored.
    """
    model_key, guide_key = jax.random.split(key)  # in the order of NumPyro's `Trace_ELBO`
    parameters = fitted.parameters(component)
    drawn = guide_trace(fitted, parameters, layout.plates, guide_key)
    model = model_trace(fitted, parameters, layout.plates | dict(drawn), model_key)
    log_p = {name: _site_score(site, layout.plate) for name, site in sampled(model).items()}
    values = {
        name: model[name]["value"] for name, kind in layout.kinds.items() if kind is Kind.LATENT
    }
    if not layout.has_density or not values:
        return Scored(values, log_p, {})
    components = fitted.components if scored_by is None else scored_by
    log_q = _mixture_score(fitted, layout, drawn, components)
    return Scored(values, log_p, _held_by_latents(log_q, values))


def _mixture_score(
    fitted: Fitted, layout: Layout, drawn: Trace, components: dict[str, PyTree]
) -> dict[str, Float[Array, " rows"]]:
    """log q of every site the guide draws, given those before it."""
    # A Delta is computed anew from what was drawn: replayed, it could miss its own point by a bit.
    given = layout.plates | {
        name: site
        for name, site in sampled(drawn).items()
        if not site["is_observed"] and not _is_delta(site)
    }
    names = list(sampled(drawn))

    def under(component: dict[str, PyTree]) -> Float[Array, "sites rows"]:
        parameters = fitted.shared | component
        sites = sampled(guide_trace(fitted, parameters, given, jax.random.key(0)))
        return jnp.stack([_site_score(sites[name], layout.plate) for name in names])

    each = jax.vmap(under, axis_size=fitted.num_components)(components)
    up_to = logsumexp(jnp.cumsum(each, axis=1), axis=0) - jnp.log(fitted.num_components)
    given_those_before = jnp.diff(up_to, axis=0, prepend=jnp.zeros_like(up_to[:1]))
    return dict(zip(names, given_those_before, strict=True))


def _held_by_latents(
    log_q: dict[str, Float[Array, " rows"]], latents: Mapping[str, Array]
) -> dict[str, Float[Array, " rows"]]:
    """What is no latent of the model is added to the latent that follows, or to the last one."""
    held, waiting = {}, jnp.zeros_like(next(iter(log_q.values())))
    for name, score in log_q.items():
        waiting = waiting + score
        if name in latents:
            held[name], waiting = waiting, jnp.zeros_like(waiting)
    held[list(held)[-1]] += waiting
    return held


def _site_score(site: dict[str, Any], plate: str | None) -> Float[Array, " rows"]:
    """log p or log q of one site, in nats per row.

    Without a plate everything is summed and the site's scale respected: N / n of a subsample. With
    one a datum counts once, so no scale is; masks hold either way.
    """
    log_prob = site["fn"].log_prob(site["value"])
    if plate is None:
        scale = 1.0 if site["scale"] is None else site["scale"]
        return jnp.sum(scale * log_prob)[None]
    axis = log_prob.ndim + _frames(site)[plate].dim
    return log_prob.sum(tuple(other for other in range(log_prob.ndim) if other != axis))


def _frames(site: dict[str, Any]) -> dict[str, Any]:
    """The plates a site stands in, by name."""
    return {frame.name: frame for frame in site["cond_indep_stack"]}


def _is_plate(site: dict[str, Any]) -> bool:
    return site["type"] == "plate"


def _is_subsampled(site: dict[str, Any]) -> bool:
    """Whether a plate sees some of its indices, drawn at random."""
    return _is_plate(site) and site["args"][1] not in (None, site["args"][0])


def _is_delta(site: dict[str, Any]) -> bool:
    """Whether a site's value is computed, not drawn, under its masks, plates and event dimensions."""
    distribution = site["fn"]
    while hasattr(distribution, "base_dist"):
        distribution = distribution.base_dist
    return isinstance(distribution, distributions.Delta)


def _check_guide_matches(latents: set[str], drawn: Trace) -> None:
    sites = sampled(drawn)
    if missing := sorted(latents - set(sites)):
        raise UserError(
            f"The model draws {', '.join(missing)}, but the guide does not: there is no log q for it.\n"
            "Add the site to the guide, observe it, or sum it out in the model."
        )
    helps = {name for name, site in sites.items() if site["infer"].get("is_auxiliary")}
    observed = {name for name, site in sites.items() if site["is_observed"]}
    if extra := sorted(set(sites) - latents - helps - observed):
        raise UserError(
            f"The guide draws {', '.join(extra)}, but the model does not: log p - log q is no bound.\n"
            'Mark a site that only helps to draw others with infer={"is_auxiliary": True}.'
        )


def _check_all_sites_are_inside(plate: str, sites: Trace) -> None:
    outside = sorted(name for name, site in sites.items() if plate not in _frames(site))
    if outside:
        raise UserError(
            f"`plate={plate!r}` makes every datum a row, but outside that plate there is "
            f"{', '.join(outside)}, whose score belongs to no single datum.\n"
            "Leave `plate` out, and one row is the data set."
        )

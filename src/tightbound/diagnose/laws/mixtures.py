"""Evidence about proposals that are mixtures: what moves their components, what each is worth, and
whether a mixture's density is the one of its components."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from tightbound.data.batch import Batch
from tightbound.diagnose import evidence as ev
from tightbound.inference.stein import Interaction, stein_force
from tightbound.inference.weigh import draws, proposal_score
from tightbound.models.base import AbstractModel, AbstractProposal
from tightbound.models.mixture import MixtureDistribution, mixtures
from tightbound.train.setup import Setup

_DRAWS = 4  # of every component


def interaction_of(setup: Setup) -> Interaction | None:
    """The force that is stated between a mixture's components: `interaction` of the family's details."""
    return getattr(setup.details, "interaction", None)


# --- what components are worth -------------------------------------------------------------------


def worth_of_components(
    model: AbstractModel, proposal: AbstractProposal, batch: Batch, key: PRNGKeyArray
) -> dict[str, Array] | None:
    """Every component's bound and share of the normalised weights, and the responsibilities' entropy,
    from draws of the proposal; None where it holds no mixture."""
    if not mixtures(proposal):
        return None
    mixture = mixtures(proposal)[0]

    def one_row(x, row):
        keys = jax.random.split(jax.random.fold_in(key, row), _DRAWS * mixture.num_components)
        q = proposal.proposal(x)
        z = draws(q, keys)

        def one_draw(z):
            log_q = sum(term.sum() for term in proposal_score(model, q, z).values())
            log_p = sum(term.sum() for term in model.score(x, z).values())
            each = mixture.proposal(x).component_log_probs(z)
            return jnp.asarray(log_p - log_q), jax.nn.log_softmax(each)

        log_weights, log_shares = jax.vmap(one_draw)(z)
        shares = jnp.exp(log_shares)
        usage = jax.nn.softmax(log_weights) @ shares
        entropy = -jnp.where(shares > 0, shares * log_shares, 0.0).sum(1).mean()
        # draw s is of component s mod m
        return log_weights.reshape(_DRAWS, -1).mean(0), usage, entropy

    bound, usage, entropy = jax.vmap(one_row)(batch.x, jnp.asarray(batch.rows))
    return {"bound": bound.mean(0), "usage": usage.mean(0), "entropy": entropy}


# --- what moves them -----------------------------------------------------------------------------


def motion_of_components(
    setup: Setup, parameters: PyTree, gradient: PyTree, update: PyTree
) -> dict[str, Array] | None:
    """Norms of every component's gradient, stated force and update, and the distances between them;
    None where nothing is a mixture. `gradient` is that of the loss."""
    if not mixtures(parameters):
        return None
    own, slope, step = (
        eqx.filter(mixtures(tree)[0].components, eqx.is_inexact_array)
        for tree in (parameters, gradient, update)
    )
    scores = jax.tree.map(lambda leaf: -leaf, slope)
    attraction, repulsion = scores, jax.tree.map(jnp.zeros_like, scores)
    acting = interaction_of(setup)
    if acting is not None:
        attraction, repulsion = stein_force(
            own,
            scores,
            acting.kernel,
            repulsion=acting.repulsion,
            num_rows=acting.num_rows,
        )
    sizes = norms(own)
    return {
        "gradient_norm": norms(slope),
        "attraction_norm": norms(attraction),
        "repulsion_norm": norms(repulsion),
        "update_ratio": norms(step) / jnp.maximum(sizes, jnp.finfo(sizes.dtype).tiny),
        "distance": distances(own) / jnp.maximum(jnp.sqrt(jnp.mean(sizes**2)), 1e-30),
    }


def norms(components: PyTree[Array]) -> Float[Array, " component"]:
    """The length of every component's parameters."""
    squares = [(leaf.reshape(len(leaf), -1) ** 2).sum(1) for leaf in jax.tree.leaves(components)]
    return jnp.sqrt(jnp.stack(squares).sum(0))


def distances(components: PyTree[Array]) -> Float[Array, "component other"]:
    """|x - y| of every pair, from differences: equal components are at a distance of exactly 0."""

    def to_all(one):
        return norms(jax.tree.map(lambda leaf, own: leaf - own[None], components, one))

    return jax.lax.map(to_all, components)


def components_on_host(
    worth: dict[str, Any] | None, motion: dict[str, Any] | None
) -> ev.Components | None:
    """What the probe's two programs found of a mixture, as evidence."""
    if worth is None or motion is None:
        return None
    return ev.Components(**{name: np.asarray(value) for name, value in (motion | worth).items()})


# --- how they act on each other ------------------------------------------------------------------


def interaction(
    setup: Setup, pair: tuple[AbstractModel, AbstractProposal], jit: Callable[..., Any]
) -> ev.Spreading | None:
    """What eight updates without any gradient do to the components, from a fresh optimiser: what is
    left then is their repulsion alone, whatever the optimiser makes of its size."""
    acting = interaction_of(setup)
    if not mixtures(pair) or acting is None:
        return None
    parameters = eqx.filter(pair, eqx.is_inexact_array)

    @jit
    def spreading(parameters):
        nothing = jax.tree.map(jnp.zeros_like, parameters)

        def one(state, _):
            update, state = setup.optimiser.update(nothing, state, parameters)
            return state, update

        _, updates = jax.lax.scan(one, setup.optimiser.init(parameters), None, length=8)
        total = jax.tree.map(lambda leaf: leaf.sum(0), updates)
        own, moved = (
            jax.tree.map(
                lambda leaf: _centred(leaf - leaf[:1]),  # exactly 0 where all are equal
                eqx.filter(mixtures(tree)[0].components, eqx.is_inexact_array),
            )
            for tree in (parameters, total)
        )
        # a repulsion of 1e-9 has a direction too: its square would be lost in 32 bits
        largest = jnp.stack([jnp.abs(leaf).max() for leaf in jax.tree.leaves(moved)]).max()
        moved = jax.tree.map(lambda leaf: leaf / jnp.where(largest > 0, largest, 1.0), moved)
        cosine = optax.tree.vdot(own, moved) / (optax.tree.norm(own) * optax.tree.norm(moved))
        still = jnp.where(optax.tree.norm(own) > 0, 0.0, jnp.nan)
        return jnp.where(largest > 0, cosine, still)

    return ev.Spreading(
        stated=float(acting.repulsion),
        num_components=mixtures(pair)[0].num_components,
        spreading=float(spreading(parameters)),
    )


def _centred(leaf: Array) -> Array:
    return leaf - leaf.mean(0, keepdims=True)


# --- their density -------------------------------------------------------------------------------


def log_q_candidates(
    pair: tuple[AbstractModel, AbstractProposal],
    batch: Batch,
    key: PRNGKeyArray,
    num_samples: int,
    jit: Callable[..., Any],
) -> tuple[float, float, float, int]:
    """Mean log q of the draws that `weigh` makes of this key, in nats per row: log-mean over
    components for every row, the same of sums over the batch, and of the component that drew alone;
    and how many components there are. NaN where the proposal holds no mixture."""
    _, proposal = pair
    if not mixtures(proposal):
        return float("nan"), float("nan"), float("nan"), 1
    num_components = mixtures(proposal)[0].num_components

    @jit
    def each_log_q(proposal, batch):
        mixture = mixtures(proposal)[0]

        def one_row(x, row):
            keys = jax.random.split(jax.random.fold_in(key, row), num_samples)
            z = draws(proposal.proposal(x), keys)
            return jax.vmap(mixture.proposal(x).component_log_probs)(z)

        return jax.vmap(one_row)(batch.x, jnp.asarray(batch.rows))

    each = each_log_q(proposal, batch)  # (rows, samples, components)
    log_m = jnp.log(num_components)
    per_datum = jax.nn.logsumexp(each, axis=2) - log_m
    over_batch = (jax.nn.logsumexp(each.sum(0), axis=1) - log_m) / len(each)
    own = jnp.nan
    if num_samples % num_components == 0:
        which = (jnp.arange(num_samples) % num_components)[None, :, None]
        own = jnp.take_along_axis(each, which, axis=2).mean()
    return float(per_datum.mean()), float(over_batch.mean()), float(own), num_components


def centred(
    q: Any, unravel: Callable[[Array], PyTree[Array]], first: Float[Array, "draw n"]
) -> Callable[[Float[Array, " n"]], Float[Array, " n"]]:
    """z less its component's centre, as a smooth function of z: the centres are means of the draws in
    `first`, and a z that several components may have drawn has a mean of theirs. Of no mixture, z less
    the mean of the draws."""
    if not isinstance(q, MixtureDistribution):
        centre = first.mean(0)
        return lambda point: point - centre
    shares = jax.vmap(lambda point: q.responsibilities(unravel(point)))(first)
    total = jnp.maximum(shares.sum(0), 1e-6)
    centres = (shares.T @ first) / total[:, None]
    return lambda point: point - q.responsibilities(unravel(point)) @ centres

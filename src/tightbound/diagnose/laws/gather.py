"""Evidence that needs no training: does a setup obey the laws of a probability model and of its parts?

Each function asks one question of a setup and answers with numbers; `diagnose.checks` judges them.
"""

import itertools
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jax.scipy.special import logsumexp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from tightbound.data.batch import Batch, Split, rows_of
from tightbound.data.labelled import Labelled, image_of
from tightbound.data.points import PointSet
from tightbound.data.sentences import Sentence
from tightbound.data.sequences import Sequence
from tightbound.diagnose import evidence as ev
from tightbound.diagnose.laws import claims as claim_laws
from tightbound.diagnose.laws.asked import Asked
from tightbound.diagnose.laws.discrete import discrete
from tightbound.diagnose.laws.filters import filters
from tightbound.diagnose.laws.joint import joint
from tightbound.diagnose.laws.mixtures import (
    centred,
    interaction,
    interaction_of,
    log_q_candidates,
    norms,
)
from tightbound.diagnose.laws.steps import steps, without_earlier_weights
from tightbound.diagnose.modules import module_names, module_of, modules
from tightbound.diagnose.probes import MANY, Pair, goes_along, make_probe, probe_batches, repeated
from tightbound.evaluation import evaluate
from tightbound.inference.stein import stein_force
from tightbound.inference.stepwise import filter_pair, stepwise_pair
from tightbound.inference.weigh import proposal_score, weigh
from tightbound.models.base import AbstractModel
from tightbound.models.mean_field import PointMass
from tightbound.models.mixture import is_mixture, mixtures
from tightbound.models.sequential import AbstractFiltered
from tightbound.models.stateful import AbstractStateful, FromPrior, proposed
from tightbound.terms import Kind, mask_of
from tightbound.train.em import MonteCarloEM, Supervised, heads_averaged_apart
from tightbound.train.filtering import FilteringObjective
from tightbound.train.loop import TrainState
from tightbound.train.objective import Objective
from tightbound.train.run import first_state
from tightbound.train.setup import Setup

_log = logging.getLogger(__name__)
Answer = TypeVar("Answer")

_TWIN_SAMPLES = 4096
_TWIN_OBSERVATIONS = 8
_TWIN_MASSES = 8  # that are compared with each other


def gather_laws(setup: Setup, state: TrainState | None = None) -> ev.Evidence:
    """Everything that can be asked before the first step (or of a state in between)."""
    state = first_state(setup) if state is None else state
    pair = (state.model, state.proposal)
    keys = _law_keys(setup)
    return replace(
        laws_of_state(setup, state, before_training=True),
        twin=_ask("the small twin", twin, setup, keys["twin"]),
        optimiser=_ask("the optimiser", optimiser, setup, pair),
        data=_ask("the data", data, setup, pair, keys["data"]),
        splits=_ask("the splits", splits, setup, keys["data"]),
    )


def laws_of_state(setup: Setup, state: TrainState, *, before_training: bool = False) -> ev.Evidence:
    """A probe with many draws, and the laws whose answer may change with the parameters: asked again of
    a trained state, they find what step 0 hides. A log-scale that was taken for a log-variance draws
    right while it is 0; an evaluator that keeps its first parameters is right until they move."""
    keys = _law_keys(setup)
    pair = (state.model, state.proposal)
    probe = _ask("many draws", make_probe(setup), state, num_samples=MANY)
    held = _ask("the objective against its claim", objective, setup, state, keys["objective"])
    asked = Asked(setup, pair, keys["family"], jit_once, before_training)
    return replace(
        probe,
        scores=_ask("scores of the draws", scores, setup, pair, keys["scores"]),
        objective=held,
        redrawn=redrawn(setup, state, held, keys["objective"]),
        joint=_ask(
            *("the weights of the record", joint, setup, state),
            *(_rows_of_record(setup, keys["joint"]), keys["joint"], jit_once),
        ),
        evaluator=_ask("the evaluation against itself", evaluator, setup, pair, keys["evaluator"]),
        discrete=_ask(
            "discrete latents", discrete, setup, pair, state.step, keys["discrete"], jit_once
        ),
        filters=_ask("filters", filters, setup, pair, keys["filters"], jit_once),
        steps=_ask(
            "steps against whole sequences",
            steps,
            setup,
            pair,
            probe_batches(setup)[0],
            keys["steps"],
            jit_once,
        ),
        interaction=_ask("the components of a mixture", interaction, setup, pair, jit_once),
    ).with_groups(_ask("what is the family's own", laws_of_family, asked))


def laws_of_family(asked: Asked) -> Mapping[str, Any]:
    """The groups of evidence that the setup's family gathers itself, by name; none without a family."""
    laws = None if asked.setup.family is None else asked.setup.family.load("laws")
    return {} if laws is None else laws(asked)


def _law_keys(setup: Setup) -> dict[str, PRNGKeyArray]:
    """A key for every law, the same at every step."""
    key = jax.random.fold_in(jax.random.key(setup.seed), 0x1A3)
    names = ("twin", "scores", "objective", "evaluator", "data")
    return dict(zip(names, jax.random.split(key, 8), strict=False)) | {
        "family": jax.random.fold_in(key, 0xC401CE),
        "steps": jax.random.fold_in(key, 0x57E9),
        "discrete": jax.random.fold_in(key, 0xD15C),
        "filters": jax.random.fold_in(key, 0xF117),
        "joint": jax.random.fold_in(key, 0x101),
    }


def _ask(what: str, question: Callable[..., Answer], *arguments: Any, **settings: Any) -> Answer:
    """The answer, after saying what is asked: some questions take a minute to compile."""
    _log.info("asking about %s", what)
    return question(*arguments, **settings)


def jit_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a program that runs once or twice: quickly, since compiling costs more than running."""
    options: dict[str, Any] = {"compiler_options": {"xla_backend_optimization_level": 0}}
    return eqx.filter_jit(function, **options)


# --- the shrunken twin ---------------------------------------------------------------------------


def twin(setup: Setup, key: PRNGKeyArray) -> ev.Twin | None:
    """The mass of p(x | z) over all x for some z, and the mean weight over its exact value for some
    x, both on the twin. Of a model without latents, the mass of p(x) under some parameters."""
    if setup.twin is None or not has_real_latents(setup.model):
        return None
    build_key, prior_key, weigh_key = jax.random.split(key, 3)
    small = setup.twin(build_key)
    has_latents = Kind.LATENT in small.model.kinds.values()
    x: Any = jax.tree.map(jnp.asarray, small.observations)
    num_observations = len(jax.tree.leaves(x)[0])
    observed = [name for name, kind in small.model.kinds.items() if kind is Kind.OBSERVED]

    @jit_once
    def masses(model):
        z = jax.vmap(model.sample_prior)(
            jax.random.split(prior_key, _TWIN_MASSES if has_latents else 1)
        )
        score = jax.vmap(jax.vmap(model.score, in_axes=(0, None)), in_axes=(None, 0))(x, z)
        return sum(score[name].sum(-1) for name in observed)

    # from the middle of a grid: far from the data no untrained proposal can be averaged
    low, high = int(0.4 * num_observations), int(0.6 * num_observations)
    some = np.unique(np.linspace(low, high, _TWIN_OBSERVATIONS, dtype=int))
    chosen = jax.tree.map(lambda leaf: leaf[some], x)

    @jit_once
    def relative(model, proposal):
        def one_row(x, row):
            keys = jax.random.split(jax.random.fold_in(weigh_key, row), _TWIN_SAMPLES)
            q = proposed(model, proposal, x)
            z = jax.vmap(q.sample)(keys)
            log_weights = jax.vmap(lambda z: log_weight(model, q, x, z))(z)
            draws = jax.vmap(lambda z: ravel_pytree(z)[0])(z)
            first, second = jnp.split(draws, 2)
            low, high = jnp.quantile(first, jnp.array([0.1, 0.9]), axis=0)
            inside = jax.vmap(lambda z: ((z > low) & (z < high)).all())(second)
            log_mass = log_mass_in_box(model, x, low, high)
            ratio = jnp.where(inside, jnp.exp(jnp.split(log_weights, 2)[1] - log_mass), 0.0)
            return ratio.mean(), ratio.std() / np.sqrt(len(ratio))

        return jax.vmap(one_row)(chosen, jnp.arange(len(some)))

    weight = error = np.zeros(0)  # nothing to weigh where there are no latents
    if has_latents:
        weight, error = relative(small.model, small.proposal)
    models = [small.model]
    if not has_latents:
        models = [setup.twin(key).model for key in jax.random.split(build_key, _TWIN_MASSES)]
    return ev.Twin(
        log_likelihood=np.concatenate([masses(model) for model in models]),
        log_cell_volume=small.log_cell_volume,
        obs_size=len(real_rows(small.observations)[0]),
        relative_weight=np.asarray(weight),
        relative_error=np.asarray(error),
    )


def log_weight(model: Any, q: Any, x: PyTree[Array], z: PyTree[Array]) -> Float[Array, ""]:
    """log p(x, z) - log q(z | x) of one draw, in nats, from the scores of both."""
    log_q = sum(term.sum() for term in proposal_score(model, q, z).values())
    return jnp.asarray(sum(term.sum() for term in model.score(x, z).values()) - log_q)


def has_real_latents(model: Any) -> bool:
    """Whether every latent is a real number, so that densities can be differentiated and integrated."""
    z = jax.eval_shape(model.sample_prior, jax.random.key(0))
    return all(jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in jax.tree.leaves(z))


def flat_rows(x: PyTree[Any]) -> np.ndarray:
    """All numbers of every row side by side; of labelled images the image only."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(image_of(x))]
    return np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)


def log_mass_in_box(
    model: Any,
    x: PyTree[Array],
    low: Float[Array, " latent"],
    high: Float[Array, " latent"],
    *,
    num_nodes: int = 48,
) -> Float[Array, ""]:
    """log of the integral of p(x, z) over a box of one or two real latents, by Gauss-Legendre.

    Uses nothing of the model but `score`: it is a referee. A box, not the whole space, because
    importance weights are bounded there: E_q[w 1(z in box)] then has a small variance whatever q is.
    """
    example, unravel = ravel_pytree(model.sample_prior(jax.random.key(0)))
    nodes, weights = np.polynomial.legendre.leggauss(num_nodes)
    grid = np.stack(np.meshgrid(*[nodes] * example.size, indexing="ij"), -1)
    log_weight = np.log(np.stack(np.meshgrid(*[weights] * example.size, indexing="ij"), -1))
    centre, half = (low + high) / 2, (high - low) / 2
    points = jax.vmap(lambda node: centre + half * node)(
        jnp.asarray(grid.reshape(-1, example.size))
    )

    def log_joint(point):
        return sum(term.sum() for term in model.score(x, unravel(point)).values())

    log_terms = jax.vmap(log_joint)(points) + jnp.asarray(log_weight.sum(-1).ravel())
    return logsumexp(log_terms) + jnp.log(half).sum()


# --- sampling and scoring ------------------------------------------------------------------------


def scores(setup: Setup, pair: Pair, key: PRNGKeyArray) -> ev.Scores | None:
    """Stein's identity for q and for the prior, on the real model; and whether x listens to z. None
    for discrete latents: there is nothing to differentiate."""
    model, proposal = pair
    if Kind.LATENT not in model.kinds.values() or not has_real_latents(model):
        return None
    noise_key, q_key, prior_key = jax.random.split(key, 3)
    batch = repeated(_few_points(probe_batches(setup)[0]), _REPEATS)
    num_draws = 64

    def identity(q, log_density, draws, real, key):
        """f d log density / dz + div f of every entry, averaged over draws, where f is z less the
        centre of what has drawn it; centres are from the other half of the draws. The divergence is
        that along a random sign of every entry, which is exact where f is z less a constant."""
        flat = jax.vmap(lambda z: ravel_pytree(z)[0])(draws)
        slope = jax.vmap(lambda z: ravel_pytree(jax.grad(log_density)(z))[0])(draws)
        first, half = flat[: num_draws // 2], slice(num_draws // 2, None)
        unravel = ravel_pytree(jax.tree.map(lambda leaf: leaf[0], draws))[1]
        field = centred(q, unravel, first)
        signs = jnp.where(jax.random.bernoulli(key, 0.5, first.shape), 1.0, -1.0)
        moved, along = jax.vmap(lambda z, sign: jax.jvp(field, (z,), (sign,)))(flat[half], signs)
        found = (moved * slope[half] + signs * along).mean(0)
        return found, real, flat

    def real_entries(x, z):
        """1 for every entry of one z, flattened, that stands at a real step of x; 0 at padding."""

        def of_leaf(leaf):
            if not goes_along(model, x, z):
                return jnp.ones_like(leaf)
            return jnp.broadcast_to(x.mask.reshape(-1, *[1] * (leaf.ndim - 1)), leaf.shape) * 1.0

        return ravel_pytree(jax.tree.map(of_leaf, z))[0]

    def total(terms, kinds, mask):
        return sum(
            jnp.where(mask_of(mask, terms[n].shape[-1]), terms[n], 0.0).sum()
            for n, kind in model.kinds.items()
            if n in terms and kind in kinds
        )

    @jit_once
    def gather(model, proposal, batch):
        if setup.noise is not None:
            batch = setup.noise(batch, noise_key)

        mask = jnp.asarray(batch.mask)

        def one_row(x, mask, row):
            q = proposed(model, proposal, x)
            z = jax.vmap(q.sample)(jax.random.split(jax.random.fold_in(q_key, row), num_draws))
            log_q = lambda z: total(proposal_score(model, q, z), set(Kind), mask)  # noqa: E731
            observed = lambda z: total(model.score(x, z), {Kind.OBSERVED}, mask)  # noqa: E731
            real = real_entries(x, jax.tree.map(lambda leaf: leaf[0], z))
            sign_key = jax.random.fold_in(q_key, -1 - row)
            return *identity(q, log_q, z, real, sign_key), jnp.ptp(jax.vmap(observed)(z))

        x0 = jax.tree.map(lambda leaf: leaf[0], batch.x)
        latent = {kind for kind in Kind if kind is not Kind.OBSERVED}
        log_prior = lambda z: total(model.score(x0, z), latent, mask[0])  # noqa: E731
        draw_prior = model.sample_prior
        if isinstance(model, AbstractStateful):  # whose prior goes along x
            draw_prior = proposed(model, FromPrior(), x0).sample

        def one_repeat(key):
            z = jax.vmap(draw_prior)(jax.random.split(key, num_draws))
            real = real_entries(x0, jax.tree.map(lambda z: z[0], z))
            return identity(None, log_prior, z, real, key)

        rows = jax.vmap(one_row)(batch.x, mask, jnp.asarray(batch.rows))
        return rows, jax.vmap(one_repeat)(jax.random.split(prior_key, 64))

    (*of_proposal, slope), of_prior = gather(model, proposal, batch)
    found, real, drawn = map(np.asarray, of_proposal)
    prior_found, prior_real, prior_drawn = map(np.asarray, of_prior)
    discrete, prior_discrete = _is_discrete(drawn), _is_discrete(prior_drawn)
    bounded = _is_bounded(prior_drawn) & ~prior_discrete
    if len(discrete) == len(prior_discrete):
        discrete = discrete | prior_discrete
    ends = (_is_bounded(_standardised(drawn)) | _sums_to_a_constant(drawn)) & ~discrete
    bounded = (bounded | _sums_to_a_constant(prior_drawn)) & ~prior_discrete
    is_points = lambda node: isinstance(node, PointMass)  # noqa: E731
    has_density = not any(map(is_points, jax.tree.leaves(proposal, is_leaf=is_points)))
    return ev.Scores(
        proposal=_mean_of(found, real, ~(discrete | ends)) if has_density else np.zeros(0),
        prior=_mean_of(prior_found, prior_real, ~(prior_discrete | bounded)),
        proposal_spread=float(drawn.std(1).max()),
        likelihood_slope=float(jnp.max(slope)),
        proposal_discrete=float(discrete.mean()),
        prior_discrete=float(prior_discrete.mean()),
        proposal_bounded=float(ends.mean()),
        prior_bounded=float(bounded.mean()),
    )


def _mean_of(
    found: Float[np.ndarray, "rows latent"],
    real: Float[np.ndarray, "rows latent"],
    kept: Bool[np.ndarray, " latent"],
) -> Float[np.ndarray, " some"]:
    """The mean over entries that are real and kept, row by row; of no row where none is kept."""
    if not kept.any():
        return np.zeros(0)
    real = real[:, kept]
    return np.where(real > 0, found[:, kept], 0.0).sum(1) / real.sum(1)


def _is_discrete(draws: Float[np.ndarray, "rows draws latent"]) -> Bool[np.ndarray, " latent"]:
    """Whether a tenth of the draws of a coordinate equal another of their row, where a row has several
    values: real numbers do not meet, and a row without noise has one value."""
    ordered = np.sort(draws, axis=1)
    equal = np.diff(ordered, axis=1) == 0
    return ((equal.mean(1) > 0.1) & ~equal.all(1)).any(0)


def _standardised(
    draws: Float[np.ndarray, "rows draws latent"],
) -> Float[np.ndarray, "rows draws latent"]:
    """Every row's draws less their median, over the width of their middle half: rows have laws of their own,
    which only then can be pooled."""
    low, middle, high = np.quantile(draws, [0.25, 0.5, 0.75], axis=1, keepdims=True)
    return (draws - middle) / np.where(high > low, high - low, 1.0)


def _sums_to_a_constant(
    draws: Float[np.ndarray, "rows draws latent"],
) -> Bool[np.ndarray, " latent"]:
    """Whether the coordinates of every draw have one sum, as those on a simplex have: then they have no
    density in all of them together. All coordinates, or none."""
    total = draws.sum(-1)
    size = np.abs(draws).sum(-1).max()
    constant = draws.shape[-1] > 1 and np.ptp(total) <= 1e-5 * size and np.ptp(draws) > 0
    return np.full(draws.shape[-1], bool(constant))


def _is_bounded(draws: Float[np.ndarray, "rows draws latent"]) -> Bool[np.ndarray, " latent"]:
    """Whether a law ends where its density does not vanish: more than 0.3 % of its draws then lie within
    2 % of their range from an end. Of a normal law it is one in a thousand or fewer."""
    ordered = np.sort(draws.reshape(-1, draws.shape[-1]), axis=0)
    low, high = ordered[0], ordered[-1]
    near = 0.02 * (high - low)
    shares = np.stack([(ordered < low + near).mean(0), (ordered > high - near).mean(0)])
    return (high > low) & (shares > 0.003).any(0)


_REPEATS = 32  # of a single row
_FEW_POINTS = 64  # of a data set, where each is scored for thousands of draws


def _few_points(batch: Batch) -> Batch:
    """The first points of a data set; other batches as they are."""
    if not isinstance(batch.x, PointSet):
        return batch
    cut = lambda leaf: leaf[:, :_FEW_POINTS]  # noqa: E731
    return eqx.tree_at(
        lambda b: (b.x, b.mask), batch, (jax.tree.map(cut, batch.x), cut(batch.mask))
    )


# --- the objective -------------------------------------------------------------------------------


def objective(setup: Setup, state: TrainState, key: PRNGKeyArray) -> ev.Objective | None:
    """The objective and its claim on the same rows and draws, alone and together."""
    claim = setup.claim
    if claim is None:
        return None
    noise_key, draw_key, direction_key = jax.random.split(key, 3)
    batch, other = _batches_of_claim(setup, noise_key)
    size = len(batch.rows)
    half = size // 2
    mixed = jax.tree.map(lambda a, b: jnp.concatenate([a[:half], b[half:]]), batch, other)
    at_step = jnp.asarray(state.step)

    @jit_once
    def both(model, proposal, batch):
        surrogate, terms = setup.objective(model, proposal, batch, key=draw_key, step=at_step)
        if setup.objective is claim:
            return surrogate, surrogate, terms.log_weights
        claimed, _ = claim(model, proposal, batch, key=draw_key, step=at_step)
        return surrogate, claimed, terms.log_weights

    pair = (state.model, state.proposal)
    alone = [
        both(*pair, jax.tree.map(lambda leaf, row=row: leaf[row : row + 1], batch))
        for row in range(size)
    ]
    together, together_mixed = both(*pair, batch), both(*pair, mixed)
    terms = jit_once(weigh)(*pair, batch, num_samples=claim.num_samples, key=draw_key, path="full")
    neighbour_change = jnp.abs(together[2] - together_mixed[2])[:, :half].max(initial=0.0)
    slopes, slope_modules = _slopes(setup, state, batch, draw_key, direction_key)
    per_datum, over_batch, own, num_components = log_q_candidates(
        pair, batch, draw_key, claim.num_samples, jit_once
    )
    agrees = abs(float(together[0] - together[1])) <= 1e-3 * max(1.0, abs(float(together[1])))
    same_draws = bool(_differences(alone).max() <= _ROUNDING)
    change, full_change = _gradient_changes(setup, state, batch, draw_key, agrees and same_draws)
    return ev.Objective(
        estimator=claim.estimator,
        kl_weight=float(claim.kl_weight(at_step)),
        surrogate=np.array([float(s) for s, _, _ in alone]),
        claimed=np.array([float(c) for _, c, _ in alone]),
        batch_surrogate=float(together[0]),
        batch_claimed=float(together[1]),
        log_likelihood=np.asarray(terms.log_likelihood),
        log_prior=np.asarray(terms.log_prior),
        log_proposal=np.asarray(terms.log_proposal),
        heads_averaged=_heads_averaged(claim, pair, batch, draw_key, at_step),
        weights_dropped=_weights_dropped(claim, pair, batch, draw_key),
        neighbour_change=float(neighbour_change),
        slopes=slopes,
        slope_modules=slope_modules,
        gradient_change=change,
        full_gradient_change=full_change,
        norms=np.zeros(0) if agrees else _norms_of_claim(setup, state, batch, draw_key),
        point_weight=float(batch.x.weight.max()) if isinstance(batch.x, PointSet) else 1.0,
        log_q_per_datum=per_datum,
        log_q_over_batch=over_batch,
        log_q_own=own,
        num_components=num_components,
    )


_ROUNDING = 1e-4  # of the value: rows that differ by more do not share their draws


def _batches_of_claim(setup: Setup, noise_key: PRNGKeyArray) -> tuple[Batch, Batch]:
    """Up to 32 training rows and as many others, under the noise of training."""
    batch, other = (repeated(b, _REPEATS) for b in probe_batches(setup)[:2])
    size = min(32, len(batch.rows))
    batch, other = (jax.tree.map(lambda leaf: jnp.asarray(leaf[:size]), b) for b in (batch, other))
    if setup.noise is not None:
        batch, other = (jit_once(setup.noise)(b, noise_key) for b in (batch, other))
    return batch, other


def _rows_of_record(setup: Setup, key: PRNGKeyArray, num_rows: int = 4) -> Batch:
    """A few training rows, under the noise of training."""
    batch, _ = _batches_of_claim(setup, key)
    return jax.tree.map(lambda leaf: leaf[:num_rows], batch)


def _differences(alone: list[tuple[Array, ...]]) -> Float[np.ndarray, " rows"]:
    """How far the objective of every row alone is from its claim, over the claim's size."""
    surrogate, claimed = (np.array([float(row[i]) for row in alone]) for i in range(2))
    return np.abs(surrogate - claimed) / max(1.0, float(np.abs(claimed).max()))


def redrawn(
    setup: Setup, state: TrainState, held: ev.Objective | None, key: PRNGKeyArray
) -> ev.Redrawn | None:
    """The objective and its claim by many keys. None where they agree by one already, and where the
    claim is not finite."""
    if held is None or setup.objective is setup.claim:
        return None
    size = max(1.0, float(np.abs(held.claimed).max()))
    if not np.isfinite(size) or np.abs(held.surrogate - held.claimed).max() <= 1e-3 * size:
        return None
    noise_key, draw_key, _ = jax.random.split(key, 3)
    batch, _ = _batches_of_claim(setup, noise_key)
    return _ask(
        *("the objective's expectation", claim_laws.redrawn),
        *(setup, state, batch, draw_key, jit_once),
    )


def _gradient_changes(
    setup: Setup, state: TrainState, batch: Batch, key: PRNGKeyArray, agrees: bool
) -> tuple[float, float]:
    """Where a claim holds parameters constant: the length of the objective's gradient less the
    claim's, on the same draws, over the claim's; and the same with nothing held constant. NaN
    where another path is claimed, or the values differ already; 0 where the objective is the claim."""
    claim = setup.claim
    if not isinstance(claim, Objective) or claim.path != "stop_proposal" or not agrees:
        return float("nan"), float("nan")
    if setup.objective is claim:
        return 0.0, float("nan")
    gradients = [
        _gradient_of(function, state, batch, key)
        for function in (setup.objective, claim, replace(claim, path="full"))
    ]
    found, claimed, full = (ravel_pytree(gradient)[0] for gradient in gradients)
    length = jnp.maximum(jnp.linalg.norm(claimed), 1e-30)
    return (
        float(jnp.linalg.norm(found - claimed) / length),
        float(jnp.linalg.norm(found - full) / length),
    )


def _gradient_of(
    function: Callable[..., Any], state: TrainState, batch: Batch, key: PRNGKeyArray
) -> PyTree:
    """The gradient of an objective's value."""
    parameters, static = eqx.partition((state.model, state.proposal), eqx.is_inexact_array)

    @jit_once
    def gradient(parameters, batch):
        def value(parameters):
            model, proposal = eqx.combine(parameters, static)
            return function(model, proposal, batch, key=key, step=jnp.asarray(state.step))[0]

        return jax.grad(value)(parameters)

    return gradient(parameters, batch)


def _norms_of_claim(
    setup: Setup, state: TrainState, batch: Batch, key: PRNGKeyArray
) -> Float[np.ndarray, " norm"]:
    """Lengths that have been shown for a bound: of the claim's gradient, of its part in the proposal,
    and of the Stein force on a mixture's components."""
    assert setup.claim is not None
    gradient = _gradient_of(setup.claim, state, batch, key)
    found = [optax.tree.norm(gradient), optax.tree.norm(gradient[1])]
    acting = interaction_of(setup)
    if acting is not None and mixtures(gradient):
        own = eqx.filter(mixtures(state.proposal)[0].components, eqx.is_inexact_array)
        force = stein_force(
            own,
            mixtures(gradient)[0].components,
            acting.kernel,
            repulsion=acting.repulsion,
            num_rows=acting.num_rows,
        )
        total = jax.tree.map(jnp.add, force.attraction, force.repulsion)
        found.append(jnp.linalg.norm(norms(total)))
    return np.array([float(norm) for norm in found])


def _heads_averaged(
    claim: Any, pair: Pair, batch: Batch, key: PRNGKeyArray, step: Array
) -> Float[np.ndarray, " rows"]:
    """What the claim would be if every head's loss were averaged over its own decisions, row by row;
    NaN for an objective that is no total of scores."""
    if not isinstance(claim, MonteCarloEM | Supervised):
        return np.full(len(batch.rows), np.nan)
    averaged = replace(claim, total=heads_averaged_apart)
    model, proposal = pair
    value = jit_once(lambda m, q, row: averaged(m, q, row, key=key, step=step)[0])
    rows = [jax.tree.map(lambda leaf, r=r: leaf[r : r + 1], batch) for r in range(len(batch.rows))]
    return np.array([float(value(model, proposal, row)) for row in rows])


def _weights_dropped(
    claim: Any, pair: Pair, batch: Batch, key: PRNGKeyArray
) -> Float[np.ndarray, " rows"]:
    """What a filter's claim would be if every step added log mean w_t, resampled or not, row by row;
    NaN for an objective that is no filter's."""
    if not isinstance(claim, FilteringObjective):
        return np.full(len(batch.rows), np.nan)

    @jit_once
    def value(model, proposal):
        terms = filter_pair(*stepwise_pair(model, proposal), batch, claim.filtering, key=key)
        return without_earlier_weights(terms)

    return np.asarray(value(*pair))


def _slopes(
    setup: Setup,
    state: TrainState,
    batch: Batch,
    key: PRNGKeyArray,
    direction_key: PRNGKeyArray,
) -> tuple[Float[np.ndarray, "directions two"], np.ndarray]:
    """The objective's slope along one random direction per module: autodiff, and a central
    difference of its value on the same draws. Only where the value itself is differentiated."""
    assert setup.claim is not None
    if setup.claim.estimator in ("vimco", "wake-sleep", "fivo") or setup.claim.path != "full":
        return np.zeros((0, 2)), np.zeros(0, np.str_)
    parameters, static = eqx.partition((state.model, state.proposal), eqx.is_inexact_array)
    names = module_names(parameters)

    def value(parameters):
        model, proposal = eqx.combine(parameters, static)
        return setup.objective(model, proposal, batch, key=key, step=jnp.asarray(state.step))[0]

    def direction(name, key):
        """A random direction of unit length within one module."""
        flat, unravel = ravel_pytree(parameters)
        noise = unravel(jax.random.normal(key, flat.shape))
        inside = jax.tree_util.tree_map_with_path(
            lambda path, leaf: leaf if module_of(path) == name else jnp.zeros_like(leaf), noise
        )
        return optax.tree.scale(1 / optax.tree.norm(inside), inside)

    @jit_once
    def slopes(parameters, direction):
        gradient = jax.grad(value)(parameters)
        autodiff = sum(
            jnp.vdot(g, d)
            for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True)
        )
        width = 0.02

        def moved(distance):
            return value(jax.tree.map(lambda p, d: p + distance * d, parameters, direction))

        return jnp.stack([autodiff, (moved(width) - moved(-width)) / (2 * width)])

    pairs = []
    for name, repeat in itertools.product(names, range(3)):
        key_here = jax.random.fold_in(direction_key, 100 * names.index(name) + repeat)
        pairs.append(np.asarray(slopes(parameters, direction(name, key_here))))
    return np.array(pairs), np.repeat(np.array(names), 3)


# --- the evaluator -------------------------------------------------------------------------------


def evaluator(setup: Setup, pair: Pair, key: PRNGKeyArray) -> ev.Evaluator:
    """The run's evaluator and the plain one, on 64 held-out rows and on images that noise leaves
    alone (every pixel empty or full)."""
    valid = setup.data["valid"]
    few = rows_of(valid, np.arange(min(64, len(valid))))
    before = [np.array(leaf) for leaf in jax.tree.leaves(eqx.filter(pair, eqx.is_array))]

    model, trained = pair
    used = setup.evaluated(trained)

    def rows_and_units(function, split, proposal=used):
        found = function(
            *(model, proposal, split),
            num_samples=4,
            key=key,
            noise=setup.noise,
            filtering=setup.filtering,
        )
        rows = [found.site_means.get(name, np.zeros(len(split))) for name in model.kinds]
        return np.stack(rows), np.asarray(found.num_units)

    reported, reported_units = rows_and_units(setup.evaluator, few)
    expected, expected_units = rows_and_units(evaluate, few)
    under_trained = expected if used is trained else rows_and_units(evaluate, few, trained)[0]
    extreme = _saturated(few)
    after = [np.array(leaf) for leaf in jax.tree.leaves(eqx.filter(pair, eqx.is_array))]
    return ev.Evaluator(
        names=np.array(list(model.kinds)),
        reported=reported,
        expected=expected,
        reported_saturated=rows_and_units(setup.evaluator, extreme)[0],
        expected_saturated=rows_and_units(evaluate, extreme)[0],
        parameters_changed=not all(map(np.array_equal, before, after)),
        num_particles=_num_particles(setup),
        trained_law=_law_of(trained),
        evaluated_law=_law_of(used),
        under_trained_law=under_trained.sum(0),
        reported_units=reported_units,
        expected_units=expected_units,
    )


def _num_particles(setup: Setup) -> int:
    """Behind one draw of the evaluator."""
    if setup.filtering is not None:
        return setup.filtering.num_particles
    return setup.model.num_particles if isinstance(setup.model, AbstractFiltered) else 1


def _law_of(proposal: Any) -> str:
    """The proposal as a reader would name it."""
    return str(getattr(proposal, "description", type(proposal).__name__))


def _saturated(split: Split) -> Split:
    """The same images with every number at its smallest or largest; other data as they are."""
    if isinstance(split.x, Sentence):
        return split
    if isinstance(split.x, Sequence) and isinstance(split.x.values, np.ndarray):
        return replace(split, x=Sequence(_extreme(split.x.values), split.x.mask))
    if not isinstance(image_of(split.x), np.ndarray):
        return split
    image = np.asarray(image_of(split.x))
    extreme = _extreme(image)
    x = Labelled(extreme, split.x.label) if isinstance(split.x, Labelled) else extreme
    return Split(split.name, x, split.mask, split.num_units, split.law)


def _extreme(values: np.ndarray) -> np.ndarray:
    low, high = values.min(), values.max()
    return np.where(values > (float(low) + float(high)) / 2, high, low).astype(values.dtype)


# --- the optimiser -------------------------------------------------------------------------------


_MOST_CALLS = 4096  # of the optimiser, in search of two updates
_MOST_ACCUMULATED = 32  # gradients in one update that are asked for sixty-four times


def optimiser(setup: Setup, pair: Pair) -> ev.Optimiser:
    """How the optimiser answers made-up gradients, from a fresh state, beyond what it does without
    any (weight decay). The components of a mixture are put where no force acts between them.

    An update is what comes of as many gradients as the optimiser waits for (accumulation), the first
    after one that moved something: a warm-up may start from a rate of 0.
    """
    parameters = _without_forces(eqx.filter(pair, eqx.is_inexact_array))
    flat, unravel = ravel_pytree(parameters)
    # sizes over six decades, both signs: whatever a clip's threshold is, some entries lie below
    sizes = 10.0 ** jax.random.uniform(jax.random.key(1), flat.shape, minval=-6.0, maxval=0.0)
    sign = jnp.where(jax.random.bernoulli(jax.random.key(2), 0.5, flat.shape), 1.0, -1.0)
    gradient = sign * sizes
    even = jnp.arange(flat.size) % 2 == 0

    def answer(states, given):
        """What the gradient changes beyond none, and the states of both."""
        updates, found = [], []
        for state, one in zip(states, (given, jnp.zeros_like(given)), strict=True):
            update, state = setup.optimiser.update(unravel(one), state, parameters)
            updates.append(ravel_pytree(update)[0])
            found.append(state)
        return tuple(found), updates[0] - updates[1]

    @jit_once
    def first_answers():
        """The calls of the first two answers to the same gradient, given again and again; what the first
        is; and the state of an optimiser that was given none until then."""
        start = setup.optimiser.init(parameters)

        def unanswered(carry):
            call, answered, *_ = carry
            return (call < _MOST_CALLS) & (answered[1] < 0)

        def ask(carry):
            call, answered, states, moved, idle = carry
            states, update = answer(states, gradient)
            found = (jnp.abs(update) > 0).any()
            is_first = found & (answered[0] < 0)
            place = jnp.where(is_first, 0, 1)
            answered = jnp.where(found, answered.at[place].set(call), answered)
            keep = lambda new, old: jnp.where(is_first, new, old)  # noqa: E731
            idle = jax.tree.map(keep, states[1], idle)
            return call + 1, answered, states, keep(jnp.abs(update), moved), idle

        carry = (jnp.zeros((), int), jnp.full(2, -1), (start, start), jnp.zeros_like(flat), start)
        _, answered, _, moved, idle = jax.lax.while_loop(unanswered, ask, carry)
        return answered, moved, idle

    answered, first, idle = first_answers()
    names = np.array(module_names(parameters))
    wait = int(answered[1] - answered[0]) if int(answered[1]) >= 0 else 0
    if not 0 < wait <= _MOST_ACCUMULATED:
        nan = float("nan")
        return ev.Optimiser(nan, nan, nan, nan, _any_motion(unravel(first)), names, wait)

    def update_by(states, given, multiples):
        """The update that comes of multiples of one gradient, as many as the optimiser waits for."""

        def one(carry, multiple):
            states, update = answer(carry[0], multiple * given)
            return (states, carry[1] + update), None

        return jax.lax.scan(one, (states, jnp.zeros_like(given)), multiples)[0]

    @jit_once
    def answers(multiples, of_even_entries):
        """The updates to a sequence of multiples of `gradient`; every other entry has its own."""

        def one(states, multiple):
            given = jnp.where(even, multiple[1], multiple[0]) * gradient
            return update_by(states, given, jnp.ones(wait))

        return jax.lax.scan(one, (idle, idle), jnp.stack([multiples, of_even_entries], 1))[1]

    @jit_once
    def sizes_of_answers(multiples):
        """The norms of the updates to multiples of `gradient`, one of them for each call."""

        def one(states, multiples):
            states, update = update_by(states, gradient, multiples)
            return states, jnp.linalg.norm(update)

        return jax.lax.scan(one, (idle, idle), multiples.reshape(-1, wait))[1]

    always = jnp.ones(8)
    constant = answers(always, always)
    # every other entry falls to a tenth: a clipped norm then gives all entries another size
    falling = answers(always, always.at[1:].set(0.1))
    moving = even & (jnp.abs(constant[1]) > 0)
    unanswered = moving & (constant[1] == falling[1])
    none = jnp.zeros(64 * wait)
    calls = wait + np.unique(np.linspace(0, max(wait - 1, 3), 4).astype(int))
    few = none[: 8 * wait] if wait > 1 else none
    single = [sizes_of_answers(few.at[call].set(1.0)) for call in calls]
    pulse = sizes_of_answers(none.at[wait : 2 * wait].set(1.0))
    largest = float(jnp.linalg.norm(constant, axis=1).max())
    # the learning rate is that of the same step: a warm-up would make a late update look large
    later, ongoing = float(pulse[30]), float(sizes_of_answers(jnp.ones_like(none))[30])
    return ev.Optimiser(
        unanswered_share=float(unanswered.sum() / jnp.maximum(moving.sum(), 1)),
        late_motion=float(pulse[-1]) / largest if largest > 0 else 0.0,
        held_motion=later / ongoing if ongoing > 0 else 0.0,
        ignored_share=float(np.mean([not norms.any() for norms in single])),
        moved=_any_motion(unravel(jnp.maximum(first, jnp.abs(constant).max(0)))),
        modules=names,
        gradients_per_update=wait,
    )


def _any_motion(update: PyTree) -> Bool[np.ndarray, " modules"]:
    """Which modules something of this size moves."""
    parts = modules(update).values()
    return np.array([max(float(leaf.max()) for leaf in leaves) > 0 for leaves in parts])


def _without_forces(parameters: PyTree) -> PyTree:
    """The same parameters with every component of a mixture at zero: radial kernels do nothing to what
    is equal, and the linear one nothing to what is at the origin."""

    def of_node(node: Any) -> Any:
        if not is_mixture(node):
            return node
        nowhere = jax.tree.map(jnp.zeros_like, node.components)
        return eqx.tree_at(lambda mixture: mixture.components, node, nowhere)

    return jax.tree.map(of_node, parameters, is_leaf=is_mixture)


# --- the data ------------------------------------------------------------------------------------


def data(setup: Setup, pair: Pair, key: PRNGKeyArray, num_rows: int = 1024) -> ev.Data | None:
    """The splits as the model sees them, duplicates within and across them, and their labels. None
    for sentences: symbols are no numbers, and a small language repeats its sentences by right; and
    where nothing is observed."""
    if isinstance(setup.data["train"].x, Sentence) or not _observes(setup.model):
        return None
    names = [name for name in ("train", "valid", "test") if name in setup.data]
    stored = {n: real_rows(setup.data[n].x) for n in names}
    rows_seen = {n: _as_seen(setup, setup.data[n], key, num_rows) for n in names}
    seen = {n: np.concatenate(rows) for n, rows in rows_seen.items()}
    hashes = {n: [row.tobytes() for row in stored[n]] for n in names}
    training = set(hashes["train"])
    accuracy, chance = _label_accuracy(setup, num_rows)
    array = lambda values: np.array(list(values))  # noqa: E731
    return ev.Data(
        split_names=np.array(names),
        scale=array(x.std() for x in seen.values()),
        smallest=array(x.min() for x in seen.values()),
        largest=array(x.max() for x in seen.values()),
        bad_rows=array(
            _first(np.array([not np.isfinite(x).all() for x in rows])) for rows in stored.values()
        ),
        empty_rows=array(_first(~np.any(setup.data[n].mask, axis=1)) for n in names),
        duplicate_share=array(1 - len(set(h)) / len(h) for h in hashes.values()),
        overlap_share=array(
            0.0 if n == "train" else float(np.mean([h in training for h in hashes[n]]))
            for n in names
        ),
        off_support_share=_off_support_share(setup, pair, key),
        label_accuracy=accuracy,
        label_chance=chance,
    )


def splits(setup: Setup, key: PRNGKeyArray, num_rows: int = 1024) -> ev.Splits | None:
    """Centre and width of every split as the model sees it, with their errors over rows. None where
    `data` is."""
    if isinstance(setup.data["train"].x, Sentence) or not _observes(setup.model):
        return None
    names = [name for name in ("train", "valid", "test") if name in setup.data]
    found = [_with_errors(_as_seen(setup, setup.data[n], key, num_rows)) for n in names]
    centre, width, centre_error, width_error = np.array(found).T
    return ev.Splits(np.array(names), centre, width, centre_error, width_error)


def _with_errors(rows: list[np.ndarray], num_groups: int = 10) -> tuple[float, float, float, float]:
    """Centre and width of the numbers of some rows; the centre's standard error and, relative, the width's,
    by leaving out one group of rows after another (Efron & Tibshirani 1993, sec. 11.5): what moves the
    window moves them too. NaN where a number is not finite, no error of a single row."""
    rows = [row for row in rows if row.size]
    if not all(np.isfinite(row).all() for row in rows):  # TB501 names the row
        return np.nan, np.nan, np.nan, np.nan
    centre, width = _centre_and_width(np.concatenate(rows))
    count = min(num_groups, len(rows))
    if count < 2:
        return centre, width, 0.0, 0.0
    left_out = [[row for i, row in enumerate(rows) if i % count != group] for group in range(count)]
    without = np.array([_centre_and_width(np.concatenate(rest)) for rest in left_out])
    centre_error, width_error = np.sqrt(count - 1) * without.std(0)
    return centre, width, float(centre_error), float(width_error / max(width, 1e-12))


def _centre_and_width(numbers: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of numbers that are pulled in to their middle 98 % and half its breadth
    on either side: of a normal law next to none is. Where the middle is one number, none is pulled in."""
    low, high = np.quantile(numbers, [0.01, 0.99])
    if high > low:
        numbers = np.clip(numbers, low - (high - low) / 2, high + (high - low) / 2)
    return float(numbers.mean()), float(numbers.std())


def _observes(model: AbstractModel) -> bool:
    return Kind.OBSERVED in model.kinds.values()


def _as_seen(setup: Setup, split: Split, key: PRNGKeyArray, num_rows: int) -> list[np.ndarray]:
    if split.pooled:  # a batch of them is one row
        return [row.astype(np.float64) for row in _alike(setup, split)[:num_rows]]
    batch = split.take(np.arange(min(num_rows, len(split))))
    if setup.noise is not None:
        batch = jit_once(setup.noise)(batch, key)
    return [row.astype(np.float64) for row in real_rows(batch.x)]


def _alike(setup: Setup, split: Split) -> np.ndarray:
    """The points of a split; of those in groups the ones whose group the validation split has too: what
    is asked elsewhere on purpose ("between" the data) has a group of its own."""
    points, known = flat_rows(split.x), setup.data["valid"].groups
    if split.groups is None or known is None:
        return points
    return points[np.isin(split.groups, known)]


def real_rows(x: PyTree[Any]) -> list[np.ndarray]:
    """The numbers of every row; of sequences those of real steps, step by step."""
    if not isinstance(x, Sequence):
        return list(np.ascontiguousarray(flat_rows(x)))
    mask = np.asarray(x.mask)
    leaves = [np.asarray(leaf).reshape(*mask.shape, -1) for leaf in jax.tree.leaves(x.values)]
    values = np.concatenate(leaves, axis=-1)
    return [row[real].ravel() for row, real in zip(values, mask, strict=True)]


def _first(flags: np.ndarray) -> int:
    """The place of the first that is true, or -1."""
    return int(flags.argmax()) if flags.any() else -1


def _off_support_share(setup: Setup, pair: Pair, key: PRNGKeyArray) -> float:
    """Of the numbers the model sees, the share that a draw of the model could never be: judged by
    whether the model's own draws are bits. Of sequences, entry by entry of an observation, and also
    the other way round: where the data are bits and the draws are not, a density has no bound."""
    model, _ = pair

    @jit_once
    def draw(model, keys):
        return jax.vmap(lambda k: model.sample(k)[1])(keys)

    of_model = draw(model, jax.random.split(key, 8))
    if setup.data["train"].pooled:  # whose inputs are given
        targets = np.asarray(of_model.points.target).ravel(), setup.data["train"].x.target.ravel()
        return float(1.0 - _are_bits(targets[1]).mean()) if _are_bits(targets[0]).all() else 0.0
    drawn = np.concatenate(real_rows(of_model))
    seen = np.concatenate(_as_seen(setup, setup.data["train"], key, 256))
    if isinstance(setup.data["train"].x, Sequence):
        values = setup.data["train"].x.values
        size = sum(int(np.prod(leaf.shape[2:])) for leaf in jax.tree.leaves(values))
        drawn_bits, seen_bits = (_are_bits(x.reshape(-1, size)).all(0) for x in (drawn, seen))
        varied = np.ptp(seen.reshape(-1, size), axis=0) > 0
        if (seen_bits & varied & ~drawn_bits).any():
            return float((seen_bits & varied & ~drawn_bits).mean())
    if not _are_bits(drawn).all():
        return 0.0
    return float(1.0 - _are_bits(seen).mean())


def _are_bits(x: np.ndarray) -> Bool[np.ndarray, "..."]:
    return np.isin(x, (0.0, 1.0))


def _label_accuracy(setup: Setup, num_rows: int) -> tuple[float, float]:
    """How often the nearest class mean of the training rows has the label that a held-out row's
    model is given, and the share of the commonest label."""
    train, valid = setup.data["train"], setup.data["valid"]
    if not (isinstance(train.x, Labelled) and isinstance(valid.x, Labelled)):
        return float("nan"), float("nan")
    x = np.asarray(train.x.image, np.float64)
    y = np.asarray(train.x.label)
    classes = np.unique(y)
    means = np.stack([x[y == c].mean(0) for c in classes])
    held_x = np.asarray(valid.x.image[:num_rows], np.float64)
    held_y = np.asarray(valid.x.label[:num_rows])
    nearest = classes[((held_x[:, None] - means) ** 2).sum(-1).argmin(1)]
    chance = np.bincount(held_y).max() / len(held_y)
    return float((nearest == held_y).mean()), float(chance)

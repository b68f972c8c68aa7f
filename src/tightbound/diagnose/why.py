"""Why did the bound move between two checkpoints?  Which term, which data, which module; and is it
more than noise?"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Key, PRNGKeyArray, PyTree

from tightbound.data.batch import Batch, Noise, Split
from tightbound.diagnose.modules import module_of, modules
from tightbound.diagnose.probes import Pair, bound_to_climb
from tightbound.estimators.estimate import Estimate, finite_or_text, number_text
from tightbound.inference.weigh import weigh
from tightbound.models.sequential import AbstractFiltered
from tightbound.train.loop import TrainState
from tightbound.train.setup import Setup

_log = logging.getLogger(__name__)

NUM_ERRORS = 2.0  # standard errors within which a change may be none
_FILTERED_ROWS = 64  # a filter's particles cost as many times more than a draw of a latent

# Three Gauss-Legendre nodes on [0, 1]: exact for the derivative of a polynomial of degree 6.
_NODES = (0.5 - np.sqrt(0.15), 0.5, 0.5 + np.sqrt(0.15))
_WEIGHTS = (5 / 18, 8 / 18, 5 / 18)


@dataclass(frozen=True)
class Explanation:
    """The change of the ELBO on the same rows and draws, taken apart three ways.

    `sites` sum to `change`. `modules[site][module]` is the part of a site's change that came
    through a module's parameters, by the path integral of its gradient along the straight line
    between the checkpoints; they sum to the change up to `quadrature_error`.
    """

    first_step: int
    last_step: int
    change: Estimate
    change_under_trained_law: Estimate | None  # where evaluation draws latents from another law
    noise_share: float  # of the change's variance over draws in its square: 1 means all noise
    sites: dict[str, Estimate]
    groups: dict[str, Estimate]
    modules: dict[str, dict[str, float]]
    quadrature_error: float  # nats per sequence
    gradient_cosine: float  # training gradient against the bound's, at the first checkpoint
    cosine_ceiling: float  # the bound's gradient on two halves of the rows

    @property
    def error(self) -> float:
        """Standard error of `change`, in nats per sequence: over rows, and over draws, which rows may
        share. Where every row has draws of its own the first holds the second, and this is too large by
        less than a factor of 1.5."""
        return float(
            np.hypot(self.change.standard_error or 0.0, self.change.monte_carlo_error or 0.0)
        )

    @property
    def is_beyond_error(self) -> bool:
        """Whether the change is more than `NUM_ERRORS` of its standard errors; never of one that is not
        finite or has no error."""
        return bool(self.error > 0 and abs(self.change.value) > NUM_ERRORS * self.error)

    @property
    def headline(self) -> str:
        """One sentence: how the ELBO changed, or that the error bars cannot tell whether it did."""
        steps = f"From step {self.first_step} to {self.last_step}"
        size, error = self.change.value, self.change.standard_error or 0.0
        draws = f"draws {number_text(self.change.monte_carlo_error or 0.0, 3)}"
        if not np.isfinite(size):
            return f"{steps} the ELBO's change is {size}: one of the two is not finite."
        if not self.is_beyond_error:
            return (
                f"{steps} no change of the ELBO that the error bars can tell: {number_text(size, 3, sign='+')} ± "
                f"{number_text(error, 3)} "
                f"nats per sequence ({draws})."
            )
        direction = "rose" if size > 0 else "fell"
        return (
            f"{steps} the ELBO {direction} by {number_text(abs(size), 3)} ± {number_text(error, 3)} nats "
            f"per sequence ({draws}; "
            f"{self.noise_share:.1%} of it may be estimator noise)."
        )

    def __str__(self) -> str:
        """As a table in plain text: a line per site with its change and the part of each module, in nats
        per sequence."""
        names = list(next(iter(self.modules.values()), {}))
        rows = [("site", "change", "± rows", *names)]
        for site, change in self.sites.items():
            parts = self.modules.get(site, {})
            error = "" if change.standard_error is None else number_text(change.standard_error, 3)
            cells = (
                number_text(parts[name], 3, sign="+") if name in parts else "" for name in names
            )
            rows.append((site, number_text(change.value, 3, sign="+"), error, *cells))
        widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
        lines = ("  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in rows)
        return "\n".join([self.headline, "[nats per sequence]", *lines])

    def _repr_html_(self) -> str:
        """How a notebook shows it: the change, then what each site adds through each module."""
        names = list(next(iter(self.modules.values())))
        head = "".join(f"<th>{escape(name)}</th>" for name in ("site", "change", *names))
        rows = "".join(
            f"<tr><td>{escape(site)}</td><td>{number_text(self.sites[site].value, 3, sign='+')}</td>"
            + "".join(f"<td>{number_text(parts[name], 3, sign='+')}</td>" for name in names)
            + "</tr>"
            for site, parts in self.modules.items()
        )
        return f"<p>{escape(self.headline)}</p>{self.change._repr_html_()}<table><tr>{head}</tr>{rows}</table>"

    def to_json(self) -> dict[str, Any]:
        """The document `why --json` prints and `why.json` holds."""
        return {
            "from": self.first_step,
            "to": self.last_step,
            "change": self.change.to_json(),
            "change_under_trained_law": None
            if self.change_under_trained_law is None
            else self.change_under_trained_law.to_json(),
            "beyond_error": self.is_beyond_error,
            "noise_share": finite_or_text(self.noise_share),
            "sites": {name: value.to_json() for name, value in self.sites.items()},
            "groups": {name: value.to_json() for name, value in self.groups.items()},
            "modules": {
                site: {name: finite_or_text(value) for name, value in parts.items()}
                for site, parts in self.modules.items()
            },
            "quadrature_error": finite_or_text(self.quadrature_error),
            "gradient_cosine": finite_or_text(self.gradient_cosine),
            "cosine_ceiling": finite_or_text(self.cosine_ceiling),
        }


def why(
    setup: Setup,
    first: TrainState,
    last: TrainState,
    *,
    split: str = "valid",
    num_rows: int = 256,
    num_repeats: int = 8,
    key: PRNGKeyArray,
) -> Explanation:
    """Explain the change of the ELBO from one state to another on rows of a split.

    Both states see the same rows, the same noise and the same draws (common random numbers), so
    most of the estimator's noise cancels; `num_repeats` keys measure what is left of it.
    """
    if int(first.step) == int(last.step):
        raise ValueError(
            f"Both checkpoints are of step {int(first.step)}, so nothing moved. Name two steps."
        )
    data = setup.data[split]
    filtered = isinstance(first.model, AbstractFiltered)
    rows = np.arange(min(num_rows, _FILTERED_ROWS if filtered else num_rows, len(data)))
    batch = data.take(rows)
    keys = jax.random.split(key, num_repeats)
    before, after = ((s.model, setup.evaluated(s.proposal)) for s in (first, last))
    names = list(first.model.kinds)

    gather = eqx.filter_jit(_sites_per_row)
    changes = np.stack(
        [
            np.asarray(gather(after, batch, k, setup.noise) - gather(before, batch, k, setup.noise))
            for k in _counted(keys, num_repeats)
        ]
    )  # repeats, sites, rows
    by_row = changes.sum(1).mean(0)
    by_repeat = changes.sum(1).mean(1)
    monte_carlo = float(by_repeat.std(ddof=1) / np.sqrt(num_repeats))
    where = f"{data.description}, {len(rows)} rows"

    def estimate(values: Float[np.ndarray, " rows"], draws: float | None = None) -> Estimate:
        error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
        mean = float(values.mean())
        return Estimate(
            mean, error, draws, "nats per sequence", "none", "elbo change", num_repeats, where
        )

    site_draws = changes.mean(2).std(0, ddof=1) / np.sqrt(num_repeats)
    _log.info("following every module from one step to the other")
    parts = _module_parts(before, after, batch, keys[0], setup.noise)
    through_modules = {
        site: {module: float(v) for module, v in values.items()}
        for site, values in zip(names, parts, strict=True)
    }
    integrated = sum(sum(values.values()) for values in through_modules.values())
    measured = float(changes[0].sum(0).mean())
    _log.info("comparing the gradients of training and of the bound")
    cosine, ceiling = _cosines(setup, first, key)
    trained = None
    if setup.evaluation_proposal is not None:
        by_key = np.stack(
            [_change_under_trained(gather, first, last, batch, k, setup.noise) for k in keys]
        )
        error = float(by_key.mean(1).std(ddof=1) / np.sqrt(num_repeats))
        trained = estimate(by_key.mean(0), error)
    return Explanation(
        first_step=int(first.step),
        last_step=int(last.step),
        change=estimate(by_row, monte_carlo),
        change_under_trained_law=trained,
        noise_share=float(min(1.0, monte_carlo**2 / max(by_row.mean() ** 2, 1e-30))),
        sites={
            name: estimate(changes[:, index].mean(0), float(site_draws[index]))
            for index, name in enumerate(names)
        },
        groups={name: estimate(by_row[members]) for name, members in _groups(data, rows).items()},
        modules=through_modules,
        quadrature_error=abs(integrated - measured),
        gradient_cosine=cosine,
        cosine_ceiling=ceiling,
    )


def _counted(keys: Key[Array, " repeats"], num_repeats: int) -> Iterator[PRNGKeyArray]:
    """The keys, saying how many are done."""
    for done, key in enumerate(keys):
        _log.info("scoring the same rows at both steps", extra={"part": (done, num_repeats)})
        yield key


def _sites_per_row(
    pair: Pair, batch: Batch, key: PRNGKeyArray, noise: Noise | None
) -> Float[Array, "sites rows"]:
    """What every site adds to the ELBO of every row: mean over draws of log p - log q."""
    noise_key, draw_key = jax.random.split(key)
    if noise is not None:
        batch = noise(batch, noise_key)
    terms = weigh(*pair, batch, num_samples=4, key=draw_key)
    return jnp.stack([(site.total_log_p - site.total_log_q).mean(0) for site in terms.sites])


def _change_under_trained(
    gather: Callable[..., Array],
    first: TrainState,
    last: TrainState,
    batch: Batch,
    key: PRNGKeyArray,
    noise: Noise | None,
) -> Float[np.ndarray, " rows"]:
    """The change of every row's ELBO with latents from the law that is trained on."""
    pairs = ((state.model, state.proposal) for state in (first, last))
    before, after = (np.asarray(gather(pair, batch, key, noise)).sum(0) for pair in pairs)
    return after - before


def _module_parts(
    before: Pair, after: Pair, batch: Batch, key: PRNGKeyArray, noise: Noise | None
) -> list[dict[str, float]]:
    """For every site: the path integral of its gradient through each module, in nats per sequence."""
    start, static = eqx.partition(before, eqx.is_inexact_array)
    end = eqx.filter(after, eqx.is_inexact_array)
    step = jax.tree.map(jnp.subtract, end, start)

    def sites_at(position):
        """The parameters at a position of the line, and the sites as a function of parameters."""

        def sites(parameters):
            pair = eqx.combine(parameters, static)
            return _sites_per_row(pair, batch, key, noise).mean(1)

        return jax.tree.map(lambda a, d: a + position * d, start, step), sites

    along = _forward if isinstance(before[0], AbstractFiltered) else _reverse
    return along(sites_at, step, len(before[0].kinds))


def _forward(sites_at: Callable[..., Any], step: PyTree, num_sites: int) -> list[dict[str, float]]:
    """In forward mode, module by module: one pass gives all sites, and keeps nothing of the steps of a
    filter, whose gradient would need every particle at every step."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(step)
    owners = [module_of(path) for path, _ in leaves]
    names = list(dict.fromkeys(owners))

    @eqx.filter_jit
    def slopes(position, chosen):
        here, sites = sites_at(position)
        direction = [
            jnp.where(chosen == names.index(owner), leaf, 0.0)
            for owner, (_, leaf) in zip(owners, leaves, strict=True)
        ]
        return jax.jvp(sites, (here,), (jax.tree.unflatten(structure, direction),))[1]

    parts: list[dict[str, float]] = [{} for _ in range(num_sites)]
    for number, name in enumerate(names):
        nodes = [np.asarray(slopes(jnp.asarray(n), jnp.asarray(number))) for n in _NODES]
        for part, values in zip(parts, np.stack(nodes, axis=1), strict=True):
            part[name] = float(np.dot(_WEIGHTS, values))
    return parts


def _reverse(sites_at: Callable[..., Any], step: PyTree, num_sites: int) -> list[dict[str, float]]:
    """In reverse mode, site by site: one pass gives all modules. Some densities have no forward mode."""

    @eqx.filter_jit
    def slopes(position, index):
        here, sites = sites_at(position)
        gradient = jax.grad(lambda parameters: sites(parameters)[index])(here)
        products = jax.tree.map(lambda g, d: (g * d).sum(), gradient, step)
        return {name: sum(leaves) for name, leaves in modules(products).items()}

    parts = []
    for index in range(num_sites):
        nodes = [slopes(jnp.asarray(n), jnp.asarray(index)) for n in _NODES]
        parts.append(
            {n: float(np.dot(_WEIGHTS, [float(node[n]) for node in nodes])) for n in nodes[0]}
        )
    return parts


def _cosines(setup: Setup, state: TrainState, key: PRNGKeyArray) -> tuple[float, float]:
    """Does training climb the bound?  The cosine of the objective's gradient with the bound's on
    256 training rows, and, as the ceiling noise leaves, the bound's on two halves of them."""
    train = setup.data["train"]
    size = min(256, len(train)) // 2 * 2
    batch = train.take(np.random.default_rng(0).permutation(len(train))[:size])
    parameters, static = eqx.partition((state.model, state.proposal), eqx.is_inexact_array)

    @eqx.filter_jit
    def directions(parameters, batch, key):
        noise_key, first_key, second_key = jax.random.split(key, 3)
        if setup.noise is not None:
            batch = setup.noise(batch, noise_key)

        def objective(parameters):
            model, proposal = eqx.combine(parameters, static)
            return setup.objective(model, proposal, batch, key=first_key, step=state.step)[0]

        def bound(parameters, half):
            model, proposal = eqx.combine(parameters, static)
            return bound_to_climb(model, proposal, half, second_key)

        halves = [
            jax.tree.map(lambda leaf, part=part: leaf[part], batch)
            for part in (slice(None, size // 2), slice(size // 2, None))
        ]
        flat: Callable[[PyTree], Array] = lambda tree: ravel_pytree(tree)[0]  # noqa: E731
        return flat(jax.grad(objective)(parameters)), *(
            flat(jax.grad(bound)(parameters, half)) for half in halves
        )

    training, one, two = directions(parameters, batch, key)
    cosine = lambda a, b: float(a @ b / (jnp.linalg.norm(a) * jnp.linalg.norm(b)))  # noqa: E731
    return cosine(training, one + two), cosine(one, two)


def _groups(split: Split, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Which of the rows belong to each of the split's groups; groups of one row are left out."""
    if split.groups is None:
        return {}
    groups = split.groups[rows]
    return {
        split.group_names[group]: np.flatnonzero(groups == group)
        for group in np.unique(groups)
        if (groups == group).sum() > 1
    }

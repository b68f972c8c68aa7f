"""Evidence about models whose own choices a filter sums out: each function asks one question of a
setup and answers with numbers; `diagnose.checks.choices` judges them."""

from itertools import combinations
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray, PyTree
from scipy.special import logsumexp

from tightbound.data.batch import Batch
from tightbound.data.sentences import NUM_MARKS, PAD, Sentence, swaps_of
from tightbound.diagnose import evidence as ev
from tightbound.diagnose.laws.asked import Asked
from tightbound.diagnose.probes import Pair
from tightbound.estimators.bounds import filtering_log_marginal
from tightbound.families.edits.exact import all_edits
from tightbound.families.edits.trajectory import Trajectory
from tightbound.inference.filter import Population, filter_particles
from tightbound.inference.filtered import draw_filtered
from tightbound.models.sequential import AbstractFiltered
from tightbound.terms import StepTerms
from tightbound.train.setup import Setup

_NUM_ROWS = 4
_NUM_FIRST_WORDS = 64
_NUM_ESTIMATES = 256
_LIKELY = 0.01  # a way of writing that 512 particles will not all miss


def laws(asked: Asked) -> dict[str, Any]:
    """Of models whose edits are summed out; the first words before training alone."""
    rest = (asked.setup, asked.pair, asked.key, asked.compile)
    words = {"words": first_words(*rest)} if asked.before_training else {}
    return {"choices": choices(*rest), **words}


def choices(setup: Setup, pair: Pair, key: PRNGKeyArray, compile: Any) -> ev.Choices | None:
    """Everything asked of a filtered model; None of any other. `compile` is the caller's jit."""
    model, proposal = pair
    if not isinstance(model, AbstractFiltered):
        return None
    replay_key, resample_key, estimate_key = jax.random.split(key, 3)
    valid = setup.data["valid"]
    batch = valid.take(np.arange(min(_NUM_ROWS, len(valid))))
    difference = compile(_replay)(model, proposal, batch, replay_key)
    names = list(difference)
    by_site = np.stack([np.asarray(difference[name]) for name in names])  # sites rows strings
    ends = by_site[[name == "end" for name in names]]
    ratios, num_paths, num_possible = _tiny_estimates(model, valid.x, estimate_key, compile)
    return ev.Choices(
        names=np.array(names),
        replayed=np.abs(by_site).max(1),
        after_resampling=_after_resampling(model, proposal, batch, resample_key, compile),
        end_difference=float(ends.mean()) if ends.size else 0.0,
        relative_estimate=ratios,
        num_paths=num_paths,
        num_possible=num_possible,
        proposal_mass=_proposal_mass(proposal, compile),
    )


def first_words(setup: Setup, pair: Pair, key: PRNGKeyArray, compile: Any) -> ev.Words | None:
    """What the model says of the first word of a trajectory, and which words those of training rows
    begin with; None of a model that writes no words, and where all rows begin with words that are given."""
    model, proposal = pair
    inner: Any = getattr(model, "inner", model)
    if not hasattr(inner, "first_words"):
        return None
    train = setup.data["train"]
    batch = train.take(np.arange(min(_NUM_FIRST_WORDS, len(train))))

    def begin(model, proposal, batch):
        def drawn(x, row):
            return proposal.proposal(x).sample(jax.random.fold_in(key, row)).strings[0, 0]

        return model.first_words(), jax.vmap(drawn)(batch.x, jnp.asarray(batch.rows))

    log_p, first = map(np.asarray, compile(begin)(inner, proposal, batch))
    own = first[np.asarray(batch.x.num_given) == 0]
    return ev.Words(log_p=log_p, written=log_p[own - NUM_MARKS]) if len(own) else None


def _replay(model: Any, proposal: Any, batch: Batch, key: PRNGKeyArray) -> dict[str, Array]:
    """By site: what a teacher-forced pass makes of the edits of one particle, less what the particle
    made of them, summed string by string."""
    alone = model.with_filter(num_particles=1, threshold=0.0)
    z, state, terms = draw_filtered(alone, proposal, batch, key=key)
    forced = jax.vmap(lambda x, z, state: alone.score(x, alone.complete(z, state)))(
        batch.x, z, state
    )
    return {
        site.name: _by_string(forced[site.name] - site.log_p[0], model)
        for site in terms.sites
        if site.name in forced
    }


def _by_string(grid: Array, model: Any) -> Array:
    """Sums over the positions of every string."""
    return grid.reshape(len(grid), model.max_steps, -1).sum(-1)


def _after_resampling(
    model: Any, proposal: Any, batch: Batch, key: PRNGKeyArray, compile: Any
) -> float:
    """The same for particles that were copied from others at every step: what they made of their
    edits, traced back through their ancestors, against what their history makes of them."""
    crowd = model.with_filter(num_particles=4, threshold=1.0)

    def run(model, proposal, batch):
        def draw(x, row):
            z = proposal.proposal(x).sample(jax.random.fold_in(key, row))
            return z, model.path(x, z)

        z, path = jax.vmap(draw)(batch.x, jnp.asarray(batch.rows))
        walk = Batch(path.values, path.mask, batch.num_units, jnp.asarray(batch.rows))
        terms, population = filter_particles(
            model.particles(),
            walk,
            num_particles=4,
            key=key,
            resampling="multinomial",  # copies even where all weights are alike
            threshold=1.0,
        )
        first = jax.tree.map(lambda leaf: leaf[:, 0], population.state)
        forced = jax.vmap(lambda x, z, state: model.score(x, model.complete(z, state)))(
            batch.x, z, first
        )
        return terms, jnp.stack([term.sum(-1) for term in forced.values()]).sum(0)

    terms, forced = compile(run)(crowd, proposal, batch)
    return float(np.abs(np.asarray(forced) - _own_history(terms)).max())


def _own_history(terms: StepTerms) -> np.ndarray:
    """What the first particle of every sequence scored on its way, in nats."""
    ancestors = np.asarray(terms.ancestors)  # time particles batch
    by_site = [np.asarray(site.log_p) for site in terms.sites]  # particles batch time
    scored = np.stack(by_site).sum(0)
    mask = np.asarray(terms.mask)
    num_steps, _, num_sequences = ancestors.shape
    particle = np.zeros(num_sequences, int)
    rows = np.arange(num_sequences)
    total = np.zeros(num_sequences)
    for time in reversed(range(num_steps)):
        total += np.where(mask[time], scored[particle, rows, time], 0.0)
        particle = np.where(mask[time], ancestors[time, particle, rows], particle)
    return total


def _tiny_estimates(
    model: Any, x: Sentence, key: PRNGKeyArray, compile: Any
) -> tuple[np.ndarray, int, int]:
    """The filter's estimate over p(x, z), enumerated, for the trajectory "a", "a a" of one word of
    the data, again and again; and how many of its edits were drawn."""
    word = int(np.asarray(x.tokens)[0, 0])
    length = np.asarray(x.tokens).shape[1]
    strings = np.full((model.max_steps, length), PAD, np.int32)
    num_steps = min(2, model.max_steps)
    strings[num_steps - 1, : min(2, length)] = word
    strings[0, :1] = word
    z = Trajectory(jnp.asarray(strings), jnp.asarray(num_steps))
    sentence = Sentence(jnp.asarray(strings[num_steps - 1]), jnp.zeros((), jnp.int32))
    edits = all_edits(getattr(model, "inner", model), z)
    score = jax.vmap(lambda edit: model.score(sentence, (z, edit)))(edits)
    log_joint = np.stack([np.asarray(term, np.float64).sum(-1) for term in score.values()]).sum(0)
    exact = float(np.asarray(logsumexp(log_joint)))
    num_possible = int((log_joint - exact > np.log(_LIKELY)).sum())

    def estimates(model):
        path = model.path(sentence, z)
        repeat = lambda leaf: jnp.broadcast_to(leaf, (_NUM_ESTIMATES, *leaf.shape))  # noqa: E731
        walk = Batch(
            jax.tree.map(repeat, path.values),
            repeat(path.mask),
            jnp.ones(_NUM_ESTIMATES, jnp.int32),
            jnp.arange(_NUM_ESTIMATES),
        )
        terms, population = filter_particles(
            model.particles(), walk, num_particles=2, key=key, threshold=0.5
        )
        return terms, _edits_made(model, z, population)

    # at another temperature a rare edit would have a weight no few draws can average
    fully_adapted = model.with_filter(num_particles=2, temperature=1.0)
    terms, drawn_edits = compile(estimates)(fully_adapted)
    ratios = np.exp(np.asarray(filtering_log_marginal(terms), np.float64) - exact)
    flat = np.concatenate(
        [np.asarray(leaf).reshape(2 * _NUM_ESTIMATES, -1) for leaf in jax.tree.leaves(drawn_edits)],
        axis=1,
    )
    return ratios, len(np.unique(flat, axis=0)), num_possible


def _edits_made(model: Any, z: Trajectory, population: Population) -> PyTree[Array]:
    complete = lambda state: model.complete(z, state)[1]  # noqa: E731
    return jax.vmap(jax.vmap(complete))(population.state)


def _proposal_mass(proposal: Any, compile: Any) -> float:
    """q(z | x) summed over every trajectory of "a a b", whose words hang from the first one: all
    chains of strings, each a part of the next, as many as the law allows. NaN where the law is not
    one of trajectories."""
    if not hasattr(proposal, "max_steps"):
        return float("nan")
    words = [NUM_MARKS + 1, NUM_MARKS + 1, NUM_MARKS + 2]
    ways = np.array(list(swaps_of(words, 3)))
    x = Sentence(jnp.array(words), jnp.zeros((), jnp.int32), jnp.array([-1, 0, 0]), jnp.array(ways))
    chains = list(_chains(tuple(words), proposal.max_steps))
    strings = np.full((len(chains), proposal.max_steps, 3), PAD, np.int32)
    for row, chain in enumerate(chains):
        for step, string in enumerate(chain):
            strings[row, step, : len(string)] = string
    num_steps = jnp.array([len(chain) for chain in chains])
    trajectories = jax.vmap(Trajectory)(jnp.asarray(strings), num_steps)

    def log_probs(proposal, trajectories):
        return jax.vmap(proposal.proposal(x).log_prob)(trajectories)

    log_q = np.asarray(compile(log_probs)(proposal, trajectories), np.float64)
    drawn = proposal.proposal(x).sample(jax.random.key(0))
    inside = any(np.array_equal(np.asarray(drawn.strings), of_chain) for of_chain in strings)
    return float(np.exp(log_q).sum()) if inside else float("nan")


def _chains(x: tuple[int, ...], max_steps: int) -> list[tuple[tuple[int, ...], ...]]:
    """Every chain of at most `max_steps` strings that ends in x, none of them empty, each what is
    left of the next when any words (or none) are taken out."""
    found: list[tuple[tuple[int, ...], ...]] = [(x,)]
    newest = found
    for _ in range(max_steps - 1):
        newest = [(part, *chain) for chain in newest for part in _parts(chain[0])]
        found = found + newest
    return found


def _parts(string: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The strings that are left when words are taken out, each once, the empty one not among them."""
    sizes = range(1, len(string) + 1)
    return sorted({part for size in sizes for part in combinations(string, size)})

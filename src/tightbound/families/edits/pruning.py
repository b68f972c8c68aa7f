"""Leaf pruning: a sentence is taken apart from the leaves of its dependency tree."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from tightbound.data.sentences import PAD, Sentence
from tightbound.families.edits.noising import (
    AbstractNoising,
    agree,
    merged,
    nested_strings,
    waiting_rounds,
)
from tightbound.families.edits.trajectory import Trajectory

LEAST_ACCEPTANCE = 1e-4  # a condition less probable is not drawn from: 10,000 attempts and more


class LeafPruning(AbstractNoising):
    """Each round removes every word without children with probability 1 - `keep`, until none is left.

        tau_v = max_{c child of v} tau_c + g_v,   g_v ~ Geometric(1 - keep) on 1, 2, ...

    is the round that removes word v, and after r rounds the words with tau > r are left. Every
    `thin`-th string counted back from x is kept (r = 0, thin, 2 thin, ...), so that the last
    h_v = ceil(tau_v / thin) strings hold word v and there are T = max_v h_v. The law is conditioned
    on `min_strings` <= T <= `max_strings`, and renormalised by the probability of that.

    Several roots are allowed: a forest. The law is of *strings*: `Sentence.swaps` says which words
    could have been each other (`None` says that no word repeats), and log q sums over them.
    Sub-word pieces are words with a head like any other. Given words are pruned like the rest.

    With `collapse`, strings equal to their neighbour are merged after the draw (the filter counts
    them unmerged). log q is then that of the one noising path which never repeated a string, no law
    of what was drawn: `is_exact` is False.
    """

    keep: float = eqx.field(static=True, default=0.5)
    thin: int = eqx.field(static=True, default=1)
    min_strings: int = eqx.field(static=True, default=1)
    max_strings: int = eqx.field(static=True, default=8)
    collapse: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        if not 0 < self.keep < 1:
            raise ValueError(
                f"A leaf is kept with probability {self.keep}; give one between 0 and 1, ends excluded."
            )
        if self.thin < 1:
            raise ValueError(
                f"`thin` is {self.thin}; give 1 to keep every string, 2 for every second."
            )
        if not 1 <= self.min_strings <= self.max_strings:
            raise ValueError(
                f"No trajectory has {self.min_strings} to {self.max_strings} strings. "
                "Give 1 <= `min_strings` <= `max_strings`."
            )

    @property
    def max_steps(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.max_strings

    @property
    def description(self) -> str:
        thinned = f", thinned by {self.thin}" if self.thin > 1 else ""
        collapsed = ", collapsed" if self.collapse else ""
        strings = f", {self.min_strings} to {self.max_strings} strings"
        return f"leaf pruning {self.keep:g}{thinned}{collapsed}{strings}"

    @property
    def is_exact(self) -> bool:
        return not self.collapse

    def proposal(self, x: Sentence) -> "LeafPruningDistribution":
        swaps = None if x.swaps is None else jnp.asarray(x.swaps)
        forest = _forest_of(x)
        log_acceptance = self._log_acceptance(forest)
        is_hopeless = log_acceptance < np.log(LEAST_ACCEPTANCE)
        return LeafPruningDistribution(
            law=self,
            tokens=jnp.asarray(x.tokens),
            swaps=swaps,
            forest=forest,
            log_acceptance=jnp.where(is_hopeless, jnp.nan, log_acceptance),
        )

    def log_acceptance(self, x: Sentence) -> Float[Array, ""]:
        """log P(min_strings <= T <= max_strings) in nats, of the unconditioned law.

        A draw takes exp(-log_acceptance) attempts on average, so sentences below `LEAST_ACCEPTANCE`
        are not attempted: leave them out. It is -inf where no draw would do.
        """
        return self._log_acceptance(_forest_of(x))

    def _log_acceptance(self, forest: "_Forest") -> Float[Array, ""]:
        """From P(tau_v <= r) = sum_{s<r} P(g_v = r - s) prod_{c child of v} P(tau_c <= s)."""
        rounds = jnp.arange(self.thin * self.max_strings + 1)
        removal = _waiting_law(rounds[None, :] - rounds[:, None], self.keep)  # [s, r]

        def visit(children_gone, node):
            gone = children_gone[node] @ removal
            factor = jnp.where(forest.is_word[node], gone, 1.0)
            return children_gone.at[forest.parents[node]].multiply(factor), None

        nodes = jnp.ones((len(forest.parents) + 1, len(rounds)))
        all_gone = jax.lax.scan(visit, nodes, forest.children_first)[0][-1]
        too_soon = all_gone[self.thin * (self.min_strings - 1)]
        return jnp.log(jnp.maximum(all_gone[-1] - too_soon, 0.0))


class LeafPruningDistribution(eqx.Module):
    """The law of the trajectories of one sentence under `LeafPruning`.

    Where a draw is accepted with a probability below `LEAST_ACCEPTANCE`, `sample` gives the sentence
    alone instead of looking for ever, and log q is NaN.
    """

    law: LeafPruning
    tokens: Int[Array, " length"]
    swaps: Int[Array, "ways length"] | None
    forest: "_Forest"
    log_acceptance: Float[Array, ""]  # NaN where it is hopeless

    def sample(self, key: PRNGKeyArray) -> Trajectory:
        """One trajectory, by drawing all removals afresh until the number of strings is accepted.

        Under `vmap` every row waits for the last one.
        """
        law, forest = self.law, self.forest
        is_possible = ~jnp.isnan(self.log_acceptance)

        def attempt(state):
            index, _ = state
            removals = forest.removals(jax.random.fold_in(key, index), 1 - law.keep)
            return index + 1, -(-removals // law.thin)

        def is_refused(state):
            num_strings = state[1].max()
            is_outside = (num_strings < law.min_strings) | (num_strings > law.max_strings)
            return is_possible & is_outside

        untouched = jnp.where(is_possible, 0, forest.is_word.astype(int))
        _, held = jax.lax.while_loop(is_refused, attempt, (jnp.asarray(0), untouched))
        if law.collapse:
            held = merged(self.tokens, held)
        return nested_strings(self.tokens, held, law.max_strings)

    def log_prob(self, value: Trajectory) -> Float[Array, ""]:
        """log q(z | x) in nats, summed over the skipped strings and over which of equal words are which.

            log q(z | x) = log sum_s P(h o s) [h o s spells z] - log m - log P(T accepted)

        with s the `swaps`, h one labelling of the words that spells z, and m = prod n! over groups of n
        equal words with equal h: each labelling is met by so many swaps.
        """
        held = first_labelling(self.tokens, value)
        if self.swaps is None:
            log_path = self._log_spelling(held, value)
        else:
            is_way = self.swaps[:, 0] >= 0
            ways = held[jnp.maximum(self.swaps, 0)]
            each = jax.vmap(lambda held: self._log_spelling(held, value))(ways)
            log_path = jax.nn.logsumexp(jnp.where(is_way, each, -jnp.inf))
            log_path = log_path - _log_repeats(self.tokens, held)
        enough = self.law.collapse | (value.num_steps >= self.law.min_strings)
        return jnp.where(enough, log_path, -jnp.inf) - self.log_acceptance

    def _log_spelling(self, held: Int[Array, " length"], value: Trajectory) -> Float[Array, ""]:
        """log P(`held`) of the unconditioned law, -inf unless it spells the strings of `value`."""
        spelled = nested_strings(self.tokens, held, self.law.max_strings)
        log_prob = self.forest.log_prob(held, self.law.keep, self.law.thin)
        return jnp.where(agree(spelled, value), log_prob, -jnp.inf)


class _Forest(eqx.Module):
    """The words' tree or trees, ready for a pass from the leaves to the roots.

    One more node, at index `length`, is the parent of all roots and of padding.
    """

    parents: Int[Array, " length"]
    children_first: Int[Array, " length"]
    is_word: Bool[Array, " length"]

    def removals(self, key: PRNGKeyArray, probability: float) -> Int[Array, " length"]:
        """tau: one draw of the round that removes each word; 0 at padding."""
        length = len(self.parents)
        waits = jnp.where(self.is_word, waiting_rounds(key, probability, length), 0)

        def visit(childless_from, node):
            tau = childless_from[node] + waits[node]
            return childless_from.at[self.parents[node]].max(tau), None

        start = jnp.zeros_like(waits, shape=length + 1)
        childless_from, _ = jax.lax.scan(visit, start, self.children_first)
        return childless_from[:-1] + waits

    def log_prob(self, held: Int[Array, " length"], keep: float, thin: int) -> Float[Array, ""]:
        """log P(ceil(tau / thin) = held) in nats.

        What is summed out is where in its window of `thin` rounds each word was removed. From the
        leaves upwards, each node holds P(tau <= r | held of its subtree) for the r of its window; of
        its children only those with the largest `held` can have been the last.
        """
        length = len(self.parents)
        last = jnp.zeros_like(held, shape=length + 1).at[self.parents].max(held)
        places = jnp.arange(thin)
        # A childless word has waited since round 0, the last place of the window before the first.
        since_start = (places == thin - 1).astype(jnp.zeros(()).dtype)
        start = jnp.where(last[:, None] == 0, since_start[None, :], 1.0)

        def visit(state, node):
            children_gone, total = state
            parent, is_word = self.parents[node], self.is_word[node]
            gap = thin * (held[node] - last[node]) + places[None, :] - places[:, None]  # [s, r]
            childless = jnp.diff(children_gone[node], prepend=jnp.zeros(1))
            removed = childless @ _waiting_law(gap, keep)
            mass = removed.sum()
            gone = jnp.cumsum(removed) / jnp.where(mass > 0, mass, 1.0)
            matters = is_word & (held[node] == last[parent])
            children_gone = children_gone.at[parent].multiply(jnp.where(matters, gone, 1.0))
            return (children_gone, total + jnp.where(is_word, jnp.log(mass), 0.0)), None

        (_, total), _ = jax.lax.scan(visit, (start, jnp.zeros(())), self.children_first)
        return total


def _forest_of(x: Sentence) -> _Forest:
    if x.heads is None:
        raise ValueError(
            "Leaf pruning needs a tree over the words, but `heads` of the sentence is None. Read the "
            "sentences from a treebank, or use `TokenDrop`."
        )
    length = len(x.heads)
    parents = jnp.where(jnp.asarray(x.heads) < 0, length, jnp.asarray(x.heads))
    return _Forest(parents, _children_first(parents), jnp.asarray(x.tokens) != PAD)


def _children_first(parents: Int[Array, " length"]) -> Int[Array, " length"]:
    """The nodes, the deepest first. Depths by pointer jumping: each pass doubles the distance seen."""
    length = len(parents)
    ancestor = jnp.concatenate([parents, jnp.full_like(parents, length, shape=1)])
    depth = jnp.where(jnp.arange(length + 1) < length, 1, 0)
    for _ in range(length.bit_length()):
        depth, ancestor = depth + depth[ancestor], ancestor[ancestor]
    return jnp.argsort(-depth[:-1])


def _waiting_law(rounds: Int[Array, "*shape"], keep: float) -> Float[Array, "*shape"]:
    """P(g = rounds) of g ~ Geometric(1 - keep) on 1, 2, ..."""
    return jnp.where(rounds >= 1, (1 - keep) * keep ** jnp.maximum(rounds - 1, 0), 0.0)


def first_labelling(tokens: Int[Array, " length"], trajectory: Trajectory) -> Int[Array, " length"]:
    """How many of the strings hold each word, if every string takes the first words it can.

    Each string is embedded leftmost in the next, so the labelling spells the trajectory whenever any
    does. It need not be one that the tree allows.
    """
    strings, is_step = trajectory.strings, trajectory.is_step
    rows = jnp.arange(len(strings))

    def read(num_taken, word):
        wanted = strings.at[rows, num_taken].get(mode="fill", fill_value=PAD)
        fits = (wanted == word) | ~is_step
        # Strings are nested: a word that a later one passed over is gone from the earlier ones.
        taken = jnp.flip(jnp.cumprod(jnp.flip(fits))).astype(bool) & is_step & (word != PAD)
        return num_taken + taken, taken.sum()

    _, held = jax.lax.scan(read, jnp.zeros_like(rows), tokens)
    return held


def _log_repeats(tokens: Int[Array, " length"], held: Int[Array, " length"]) -> Float[Array, ""]:
    """log of the product of n! over groups of n equal words held equally often."""
    alike = (tokens[:, None] == tokens[None, :]) & (held[:, None] == held[None, :])
    place_in_group = jnp.tril(alike).sum(1)  # the product of 1, ..., n over a group is n!
    return jnp.where(tokens == PAD, 0.0, jnp.log(place_in_group)).sum()

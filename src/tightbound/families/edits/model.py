"""Text written by a trajectory of edits: insert, copy, substitute, end; from nothing to the sentence."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from tightbound.data.sentences import BOS, EOS, NUM_MARKS, PAD, Sentence
from tightbound.data.sequences import Sequence
from tightbound.families.edits import FAMILY
from tightbound.families.edits.network import (
    CPY,
    END,
    INS,
    SUB,
    EditNetwork,
    HandedOn,
    Source,
)
from tightbound.families.edits.trajectory import Edits, Trajectory
from tightbound.families.family import Family
from tightbound.models.sequential import AbstractFiltered
from tightbound.nn.transformer import NormPlace
from tightbound.terms import Kind

if TYPE_CHECKING:
    from tightbound.families.edits.particles import EditParticles, Writing

OpNames = Literal["all", "insert"]
_HEADS = ("op", "token", "index")
# Adam moves every number by about the learning rate: a logit of its own, which no layer multiplies,
# would need thousands of steps for what the network's own logits do in a hundred.
_HAZARD_SCALE = 30.0


class EditModel(AbstractFiltered):
    """p(T) prod_t prod_i p(e_ti | e_t,<i, what was handed on), e_ti an edit of string t - 1.

    A string is written left to right, one edit for each word and one for its end. INS(w) writes w,
    CPY(j) word j of the string before, SUB(w, j) w in place of word j. x_0 is empty; T has a
    learned hazard for every number of strings so far; at `max_length` words the end, and at
    `max_steps` strings the stop, has probability one. So everything sums to one.

    `handed_on` says what later decisions see of an edit. With "tokens" its edits sum out exactly,
    and SUB, which then says no more than INS, is left out.

    One copy of `num_given` leading words is given, not scored: they are inserted in the first
    string and copied from then on.
    """

    family: ClassVar[Family] = FAMILY
    kinds: ClassVar[Mapping[str, Kind]] = {
        **{f"first {head}": Kind.OBSERVED for head in _HEADS},
        **dict.fromkeys(_HEADS, Kind.OBSERVED),
        "end": Kind.OBSERVED,
        "steps": Kind.OBSERVED,
        "choice": Kind.AUXILIARY,
        "proposal": Kind.LATENT,
        "reweighting": Kind.AUXILIARY,
    }

    network: EditNetwork
    step_hazard: Float[Array, " steps"]  # logit / 30 of stopping after 1, 2, ... strings
    handed_on: HandedOn = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)
    num_particles: int = eqx.field(static=True)
    threshold: float = eqx.field(static=True)
    every: int = eqx.field(static=True)
    temperature: float = eqx.field(static=True)

    def __init__(
        self,
        vocabulary_size: int,
        max_length: int,
        max_steps: int,
        *,
        size: int = 64,
        num_heads: int = 4,
        hidden_size: int = 256,
        num_layers: int = 2,
        handed_on: HandedOn = "edits",
        ops: OpNames = "all",
        condition_on_step: bool = False,
        norm_place: NormPlace = "pre",
        dropout: float = 0.0,
        embedding_scale: float | None = None,
        num_particles: int = 1,
        threshold: float = 0.5,
        every: int = 1,
        temperature: float = 1.0,
        key: PRNGKeyArray,
    ):
        if handed_on == "tokens":
            legal_ops = (INS, CPY, END) if ops == "all" else (INS, END)
        else:
            legal_ops = (INS, CPY, SUB, END) if ops == "all" else (INS, END)
        self.network = EditNetwork(
            vocabulary_size,
            max_length,
            size=size,
            num_heads=num_heads,
            hidden_size=hidden_size,
            num_layers=num_layers,
            num_steps=max_steps if condition_on_step else None,
            legal_ops=legal_ops,
            norm_place=norm_place,
            dropout=dropout,
            embedding_scale=embedding_scale,
            key=key,
        )
        self.step_hazard = jnp.zeros(max_steps)
        self.handed_on = handed_on
        self.max_steps = max_steps
        self.num_particles = num_particles
        self.threshold = threshold
        self.every = every
        self.temperature = temperature

    def with_filter(self, **changes: float | int) -> "EditModel":
        """The same model, its edits summed out by another filter: `num_particles`, `threshold`,
        `every` and `temperature` where they are named."""
        unknown = set(changes) - {"num_particles", "threshold", "every", "temperature"}
        if unknown:
            raise ValueError(f"A filter over edits has no setting {sorted(unknown)[0]!r}.")
        changed = object.__new__(type(self))  # not __init__: that would make new parameters
        for field in dataclasses.fields(self):
            value = changes.get(field.name, getattr(self, field.name))
            object.__setattr__(changed, field.name, value)
        changed.__check_init__()
        return changed

    def __check_init__(self):
        if self.num_particles < 1:
            raise ValueError(
                f"`num_particles` is {self.num_particles}, but a filter needs at least one. "
                "Give 1 or more."
            )
        if self.temperature <= 0:
            raise ValueError(
                f"The proposal's temperature is {self.temperature}; give a positive one."
            )
        if self.handed_on == "tokens" and self.temperature != 1:
            raise ValueError(
                f"The proposal's temperature is {self.temperature}, but with 'tokens' handed on the "
                "edits sum out exactly and there is nothing to flatten. Leave it at 1."
            )

    @property
    def max_length(self) -> int:
        """Words a string can have."""
        return self.network.max_length

    @property
    def num_positions(self) -> int:
        """Decisions of one string at most: its words and its end."""
        return self.max_length + 1

    # --- the number of strings -------------------------------------------------------------------

    def log_stop(self) -> Float[Array, " steps"]:
        """log p(no further string after 1, 2, ... strings), in nats; 0 at the cap."""
        return jax.nn.log_sigmoid(_HAZARD_SCALE * self.step_hazard).at[-1].set(0.0)

    def log_continue(self) -> Float[Array, " steps"]:
        """log p(another string after 1, 2, ... strings), in nats; never at the cap."""
        return jax.nn.log_sigmoid(-_HAZARD_SCALE * self.step_hazard).at[-1].set(-jnp.inf)

    def step_terms(self, num_steps: Int[Array, ""]) -> Float[Array, " steps"]:
        """What each string adds to log p(T), in nats; 0 for rows after the last."""
        index = jnp.arange(self.max_steps)
        last = num_steps - 1
        return jnp.select(
            [index < last, index == last], [self.log_continue(), self.log_stop()], 0.0
        )

    # --- complete data ---------------------------------------------------------------------------

    def score(
        self,
        x: Sentence,
        z: tuple[Trajectory, Edits],
        *,
        key: PRNGKeyArray | None = None,
        axis_name: str | None = None,
    ) -> dict[str, Float[Array, " time"]]:
        """log p of strings and edits together, site by site on the (string, position) grid: the
        M-step's value, by teacher forcing. With `key`, under dropout.

        `axis_name` names the `vmap` axis of a batch: padding that a whole batch shares is then not
        computed.
        """
        trajectory, edits = z

        def heads_of_edit(decision, symbol, op, index, source):
            del source
            writes, points = (op == INS) | (op == SUB), (op == CPY) | (op == SUB)
            return {
                "op": decision.op[op],
                "token": jnp.where(writes, decision.token[symbol], 0.0),
                "index": jnp.where(points, decision.index[index], 0.0),
            }

        heads = self._teacher_forced(trajectory, edits, heads_of_edit, key, axis_name)
        return self.sites(heads, trajectory, x.num_given)

    def sites(
        self,
        heads: dict[str, Float[Array, "steps positions"]],
        trajectory: Trajectory,
        num_given: Int[Array | np.ndarray, ""],
    ) -> dict[str, Float[Array, " time"]]:
        """The heads' terms sorted into sites: first words, other words, ends; and the steps' law."""
        first, other, end = decision_classes(trajectory, num_given)
        grid: dict[str, Array] = {}
        for name, term in heads.items():
            grid[f"first {name}"] = jnp.where(first, term, 0.0)
            grid[name] = jnp.where(other, term, 0.0)
        grid["end"] = jnp.where(end, heads["op"], 0.0)
        steps = jnp.where(trajectory.is_step, self.step_terms(trajectory.num_steps), 0.0)
        grid["steps"] = jnp.zeros_like(grid["end"]).at[:, 0].set(steps)
        return {name: grid[name].ravel() for name in self.kinds if name in grid}

    def _teacher_forced(
        self,
        trajectory: Trajectory,
        edits: Edits,
        read: Callable[..., dict[str, Array]],
        key: PRNGKeyArray | None,
        axis_name: str | None,
    ) -> dict[str, Float[Array, "steps positions"]]:
        """What `read(decision, symbol, op, index, source tokens)` makes of every decision of a
        trajectory written by these edits; 0 at padding."""
        root = framed(jnp.full(self.max_length, PAD))
        lengths = trajectory.lengths
        longest = jnp.maximum(lengths, jnp.concatenate([jnp.zeros(1, lengths.dtype), lengths[:-1]]))
        if axis_name is not None:
            longest = jax.lax.pmax(longest, axis_name)
        widths = _widths(self.max_length) if axis_name is not None else [self.max_length]
        keys = None if key is None else jax.random.split(key, self.max_steps)

        def one_string(carried, inputs):
            before, embeddings = carried
            step, string, op, index, num_words, step_key = inputs
            tokens = framed(string)
            branches = [
                jax.checkpoint(partial(self._one_string, width, read, step_key)) for width in widths
            ]
            smallest = jnp.searchsorted(jnp.array(widths), num_words)
            found, built = jax.lax.switch(
                smallest, branches, before, embeddings, step, tokens, op, index
            )
            return (tokens, self.carried(tokens, built)), found

        inputs = (jnp.arange(self.max_steps), trajectory.strings, edits.op, edits.index, longest)
        start = (root, self.network.string_embeddings(root))
        _, heads = jax.lax.scan(one_string, start, (*inputs, keys))
        return heads

    def _one_string(self, width, read, key, before, embeddings, step, tokens, op, index):
        """The decisions of one string, whose words and source have at most `width` words; and what
        its edits leave."""
        slots, positions = width + 2, width + 1
        op, index, own = op[:positions], index[:positions], tokens[:slots]
        encoder_key, decoder_key = (None, None) if key is None else jax.random.split(key)
        source = self.network.read_source(before[:slots], embeddings[:slots], step, key=encoder_key)
        built = self.built_embeddings(own, op, index, source)
        states = self.network.decode(built[:-1], source, key=decoder_key)

        def one_decision(state, position, symbol, op, index):
            decision = self.network.decide(state, position, source)
            return read(decision, symbol, op, index, source.tokens)

        at = jnp.arange(positions)
        found = jax.vmap(one_decision)(states, at, own[1:], op, index)
        rest = self.max_length - width
        return (
            {name: jnp.pad(term, (0, rest)) for name, term in found.items()},
            jnp.pad(built, ((0, rest), (0, 0))),
        )

    def built_embeddings(
        self,
        tokens: Int[Array, " slots"],
        op: Int[Array, " positions"],
        index: Int[Array, " positions"],
        source: Source,
    ) -> Float[Array, "slots size"]:
        """What the edits of a string leave at its slots: BOS, a word each, EOS."""
        if self.handed_on == "tokens":
            return self.network.string_embeddings(tokens)
        slots = jnp.arange(len(tokens))
        ops = jnp.concatenate([jnp.array([INS]), op])
        indices = jnp.concatenate([jnp.array([0]), index])
        return jax.vmap(self.network.edit_embedding, in_axes=(0, 0, 0, 0, None))(
            ops, tokens, indices, slots, source
        )

    def carried(
        self, tokens: Int[Array, " slots"], built: Float[Array, "slots size"]
    ) -> Float[Array, "slots size"]:
        """What the next string's encoder reads of this one."""
        return built if self.handed_on == "edits" else self.network.string_embeddings(tokens)

    def first_words(self) -> Float[Array, " words"]:
        """log p of every word as the first of the first string, given that one is inserted, in nats. The
        marks, which no edit writes, are left out: entry i is of symbol `NUM_MARKS` + i."""
        nothing, start = framed(jnp.full(self.max_length, PAD)), jnp.zeros((), jnp.int32)
        source = self.network.read_source(nothing, self.network.string_embeddings(nothing), start)
        begun = self.network.decode(self.network.string_embeddings(nothing[:1]), source)
        return self.network.decide(begun[0], start, source).token[NUM_MARKS:]

    # --- edits summed out ------------------------------------------------------------------------

    @property
    def sums_out(self) -> bool:
        """Whether no later decision sees which edit wrote a word."""
        return self.handed_on == "tokens"

    def summed(
        self, x: Sentence, z: Trajectory, *, axis_name: str | None = None
    ) -> dict[str, tuple[Array, Array | None]]:
        """log p(x, z) exactly, in one teacher-forced pass: at every position the log of the sum over
        the edits that write its symbol.

        Site by site as their posterior means: sum_e W_e log p(e) by head, and sum_e W_e log W_e as
        log q of "choice"; the difference is the log of the sum.
        """
        from tightbound.families.edits.particles import edits_that_write, heads_of_options

        def means_over_edits(decision, symbol, op, index, source):
            log_weights = jax.nn.log_softmax(edits_that_write(symbol, decision, source))
            weights = jnp.exp(log_weights)
            heads = heads_of_options(symbol, decision)
            means = {name: jnp.vdot(weights, term) for name, term in heads.items()}
            return means | {"choice": jnp.vdot(weights, log_weights)}

        nothing = jnp.zeros((self.max_steps, self.num_positions), jnp.int32)
        unread = Edits(op=nothing, index=nothing)
        heads = self._teacher_forced(z, unread, means_over_edits, None, axis_name)
        choice = heads.pop("choice")
        first, other, _ = decision_classes(z, x.num_given)
        scores: dict[str, tuple[Array, Array | None]] = {
            name: (term, None) for name, term in self.sites(heads, z, x.num_given).items()
        }
        log_q = jnp.where(first | other, choice, 0.0).ravel()
        return scores | {"choice": (jnp.zeros_like(log_q), log_q)}

    # --- the filter over edits -------------------------------------------------------------------

    def particles(self) -> "EditParticles":
        """One particle: a prefix of edits with all it carries."""
        from tightbound.families.edits.particles import EditParticles

        return EditParticles(self)

    def path(self, x: Sentence, z: Trajectory) -> Sequence:
        """The (string, position) grid of a trajectory. Every string begins at a multiple of the
        positions' number, so that the branch "encode the string before" is on the clock alone."""
        symbols = jax.vmap(lambda row: framed(row)[1:])(z.strings)
        position = jnp.arange(self.num_positions)[None]
        real = (position <= z.lengths[:, None]) & z.is_step[:, None]
        steps = jnp.where(position == 0, self.step_terms(z.num_steps)[:, None], 0.0)
        given = (position < x.num_given) & (symbols != EOS)
        first, _, _ = decision_classes(z, x.num_given)
        grids = (symbols, steps, given, first)
        return Sequence(PathPoint(*(grid.ravel() for grid in grids)), mask=real.ravel())

    def complete(self, z: Trajectory, state: "Writing") -> tuple[Trajectory, Edits]:
        """The trajectory with the edits a particle made of it."""
        return z, state.edits

    def with_new_words(self, key: PRNGKeyArray) -> "EditModel":
        """The same model with the embeddings of all words drawn afresh, BOS and EOS kept."""
        embedding = self.network.embedding
        fresh = self.network.size**-0.5 * jax.random.normal(key, embedding.shape, embedding.dtype)
        is_word = jnp.arange(len(embedding))[:, None] >= NUM_MARKS
        mixed = jnp.where(is_word, fresh, embedding)
        return eqx.tree_at(lambda model: model.network.embedding, self, mixed)

    # --- draws -----------------------------------------------------------------------------------

    def sample_prior(self, key: PRNGKeyArray) -> tuple[Trajectory, Edits]:
        """A trajectory and its edits, from nothing."""
        from tightbound.families.edits.generation import generate

        return generate(self, key)

    def sample_likelihood(self, z: tuple[Trajectory, Edits], key: PRNGKeyArray) -> Sentence:
        """The last string: nothing is left to chance."""
        del key
        trajectory, _ = z
        return Sentence(trajectory.last, jnp.zeros((), jnp.int32))


class PathPoint(eqx.Module):
    """One decision of a given trajectory: the symbol to be written, what its string adds to
    log p(T) (at its first position), whether it is given rather than scored, and whether it writes
    the first word that is scored."""

    symbol: Int[Array, "*time"]
    log_steps: Float[Array, "*time"]
    is_given: Bool[Array, "*time"]
    is_first: Bool[Array, "*time"]


def _widths(max_length: int) -> list[int]:
    """Numbers of words a teacher-forced pass is compiled for: few, since each is compiled."""
    return [max_length] if max_length <= 8 else [-(-max_length * n // 3) for n in (1, 2, 3)]


def framed(string: Int[Array, " length"]) -> Int[Array, " slots"]:
    """BOS, the words, EOS, padding."""
    length = (string != PAD).sum()
    slots = jnp.concatenate([jnp.array([BOS]), string, jnp.array([PAD])])
    return slots.at[length + 1].set(EOS)


def decision_classes(
    trajectory: Trajectory, num_given: Int[Array | np.ndarray, ""]
) -> tuple[Bool[Array, "steps positions"], ...]:
    """Which decisions write the first word that is not given, another word, and the end."""
    position = jnp.arange(trajectory.strings.shape[1] + 1)[None]
    lengths, is_step = trajectory.lengths[:, None], trajectory.is_step[:, None]
    word = is_step & (position < lengths) & (position >= num_given)
    first = word & (position == num_given)
    return first, word & ~first, is_step & (position == lengths)

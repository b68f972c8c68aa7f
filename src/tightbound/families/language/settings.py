"""What a language model is made of, as settings: data, context, structure, emission, latent."""

from dataclasses import dataclass, field
from typing import Literal

from tightbound.unread import refuse_unread, refuse_unread_of

ContextKind = Literal[
    "nothing", "previous", "window", "tanh", "gru", "lstm", "single-gate", "mgru", "gpt"
]
EmissionKind = Literal["vector", "matrix", "mixture"]

CELLS: tuple[ContextKind, ...] = ("tanh", "gru", "lstm", "single-gate", "mgru")
"""Contexts with a recurrent state."""

OWN_COMPONENTS = ("two-parents", "gate", "local-hmm", "word-chain", "factorial")
"""Structures whose components are summed out with their choices, and so are given no emission."""


@dataclass(frozen=True)
class TokenData:
    """Which text, in which symbols, by whose rules."""

    source: Literal[
        "multi30k", "cath", "wikitext2", "tiny-shakespeare", "iid-residues", "toy-grammar", "file"
    ] = "multi30k"
    """iid-residues and toy-grammar are drawn, and need no download."""
    path: str | None = None
    """file: any text, one sequence a line, or FASTA. Others: your own files of the published format."""
    language: Literal["en", "de"] = "en"
    """multi30k."""
    units: Literal["words", "raw-words", "characters"] = "words"
    """raw-words: separated by spaces, punctuation glued to them."""
    rules: Literal["ours", "original"] = "ours"
    """original: the split, the vocabulary and the averaging of the study that docs/dlm.md replays."""
    vocabulary_from: Literal["train", "all-splits"] = "train"
    """all-splits: no word of the test split is unknown, and the figure means less."""
    max_length: int | None = 20
    """Symbols of the longest sequence, its end among them."""
    min_count: int = 2
    """Words or characters rarer than this in the training split are one symbol, unknown; with
    the rules "original" none is."""
    max_rows: int | None = None
    """Read only the first sequences: of each split, or of a file that is split here."""


@dataclass(frozen=True)
class DropoutSettings:
    """Probabilities with which entries are dropped in training."""

    input: float = 0.0
    output: float = 0.0
    state: float = 0.0
    """Of a recurrent state, with one mask for the whole sequence; gpt: of every branch."""
    shared: bool = False
    """One mask for all positions at input and output too: variational dropout."""


@dataclass(frozen=True)
class StructureSettings:
    """What lies between context and token, summed out."""

    kind: Literal[
        "direct", "parents", "two-parents", "permutations", "maps", "gate", "local-hmm",
        "word-chain", "factorial", "slots", "slot-chain",
    ] = "direct"  # fmt: skip
    learned_prior: bool = True
    """parents: a learned P(parent | position); False is uniform."""
    num_maps: int = 1
    """maps: parallel maps; parents: kinds of transition."""
    unigram: bool = False
    """maps: one more component, which reads no context."""
    learned_weights: bool = True
    """maps: False weighs all alike."""
    num_words: int = 1
    """word-chain: words whose transitions follow each other."""
    num_slots: int = 4
    """slots, slot-chain."""
    affinity: Literal["linear", "log-softmax", "states", "log-softmax-states"] = "linear"
    """slot-chain: how a slot finds its word."""
    reads_slots: Literal["last", "lstm"] = "last"
    """slot-chain: the word of the last slot, or an LSTM over the words of all."""

    def __post_init__(self):
        read = {
            "parents": ("learned_prior", "num_maps"),
            "maps": ("num_maps", "unigram", "learned_weights"),
            "word-chain": ("num_words",),
            "slots": ("num_slots",),
            "slot-chain": ("num_slots", "affinity", "reads_slots"),
        }.get(self.kind, ())
        own = (
            *("learned_prior", "num_maps", "unigram", "learned_weights"),
            *("num_words", "num_slots", "affinity", "reads_slots"),
        )
        refuse_unread(self, "kind", *(name for name in own if name not in read))


@dataclass(frozen=True)
class LatentSettings:
    """One latent for the whole sequence, at which the decoder starts."""

    kind: Literal["none", "gaussian", "full-gaussian", "bernoulli", "ternary"] = "none"
    size: int = 128
    encoder: Literal["recurrent", "linear", "two-layer"] = "recurrent"
    decoder: Literal["recurrent", "linear", "two-layer"] = "recurrent"
    """linear and two-layer write all words at once and are given none of them."""
    global_scale: bool = False
    """gaussian: the proposal's scale is the same for all sequences, one number per dimension."""
    word_dropout: float = 0.0
    """Probability with which a word that the decoder is given is left out in training."""

    def __post_init__(self):
        if self.kind == "none":
            own = ("size", "encoder", "decoder", "global_scale", "word_dropout")
            refuse_unread(self, "kind", *own)


@dataclass(frozen=True)
class LanguageModelSettings:
    """A context, a structure, an emission."""

    context: ContextKind = "lstm"
    structure: StructureSettings = field(default_factory=StructureSettings)
    emission: EmissionKind = "mixture"
    """softmax(E y) with the embedding E; with a matrix of its own; a mixture of few softmaxes."""
    components: Literal["tied", "scaled", "free"] = "scaled"
    """mixture: softmax(E v); softmax(e^s E v / std(v)); softmax(m)."""
    num_components: int = 400
    """mixture, and states of the structures that have them."""
    normalisation: Literal["none", "feature", "running", "time"] = "feature"
    """Of the inputs. time divides by a statistic over all positions, those to come among them: a leak."""
    normalise_contexts: bool = False
    """Divide every context by the standard deviation of its entries."""
    size: int = 128
    """Of embeddings and of states."""
    window: int = 5
    """window: words; permutations: up to 5."""
    decay: bool = False
    """window: every word counts half as much as the one after it."""
    num_starts: int | None = None
    """Learned first states, a mixture over whole sequences; None starts at zero."""
    num_heads: int = 4
    num_layers: int = 2
    """gpt."""
    mutations: tuple[int, ...] = ()
    """single-gate, mgru: parts to leave out or change (docs/dlm.md lists them)."""
    dropout: DropoutSettings = field(default_factory=DropoutSettings)
    latent: LatentSettings = field(default_factory=LatentSettings)

    def __post_init__(self):
        if self.context != "window":
            refuse_unread(self, "context", "window", "decay")
        elif self.structure.kind == "permutations":
            refuse_unread_of(self, "structure.kind", "permutations", ("decay",))
        if self.context != "gpt":
            refuse_unread(self, "context", "num_heads", "num_layers")
        kind = self.structure.kind
        if kind in OWN_COMPONENTS:  # they take the place of an emission
            refuse_unread_of(self, "structure.kind", kind, ("emission",))
        elif self.emission != "mixture":
            refuse_unread(self, "emission", "components")
            if kind != "slot-chain":
                refuse_unread(self, "emission", "num_components")
        if kind == "gate":
            refuse_unread_of(self, "structure.kind", kind, ("components",))
        if self.context not in CELLS:
            state = self.dropout.state if self.context != "gpt" else 0.0
            refuse_unread_of(DropoutSettings(state=state), "context", self.context, ("state",))

"""Settings of texts written by edits: where sentences come from, how they are taken apart, the network."""

from dataclasses import dataclass
from typing import Literal

from tightbound.unread import refuse_unread
from tightbound.values import (
    Count,
    Doublings,
    Draws,
    Few,
    Fraction,
    Name,
    Positive,
    Rows,
    Share,
    Size,
    require_meant,
)


@dataclass(frozen=True)
class _Strings:
    """What made-up strings have in common; never made itself."""

    source: str = ""
    held_out_letters: bool = False
    """Valid and test are written with x, y, z; training always with a, b, c."""

    def __post_init__(self):
        require_meant(self)


@dataclass(frozen=True)
class _Sentences:
    """What sentences from files have in common; never made itself."""

    source: str = ""
    path: Name | None = None
    units: Literal["words", "sub-words"] = "words"
    min_count: Count = 3
    """words: those rarer in the training split are one symbol, unknown."""
    vocabulary_size: Count = 4000
    """sub-words: number of symbols."""
    max_length: Count = 24
    """Longer sentences are dropped, and counted."""
    max_rows: Count | None = None
    """Read only the first sentences of each file."""

    def __post_init__(self):
        require_meant(self)


@dataclass(frozen=True)
class DoublingData(_Strings):
    """A letter, doubled again and again."""

    source: Literal["doubling"] = "doubling"
    """Others, with settings of their own: prefix-doubling, remap; ewt, conllu (trees of yours);
    multi30k, text (a text of yours). For instance `--data.source text --help`."""
    doublings: Doublings = 3
    """A letter is repeated 2 to this power times."""


@dataclass(frozen=True)
class PrefixDoublingData(_Strings):
    """Random strings of two letters, doubled again and again; the first string is given."""

    source: Literal["prefix-doubling"] = "prefix-doubling"
    """Others, with settings of their own: doubling, remap; ewt, conllu; multi30k, text."""
    doublings: Doublings = 3
    """A string is repeated 2 to this power times."""
    num_strings: Rows = 64
    """In each split."""


@dataclass(frozen=True)
class RemapData(_Strings):
    """Random strings, whose letters are replaced by their images."""

    source: Literal["remap"] = "remap"
    """Others, with settings of their own: doubling, prefix-doubling; ewt, conllu; multi30k, text."""
    num_strings: Rows = 64
    """In each split."""


@dataclass(frozen=True)
class TreebankData(_Sentences):
    """Sentences with their dependency trees."""

    source: Literal["ewt", "conllu"] = "ewt"
    """conllu: a treebank of yours. Others, with settings of their own: doubling, prefix-doubling, remap;
    multi30k, text."""
    path: Name | None = None
    """A file in CoNLL-U, or a folder of `.conllu`; ewt: None takes the published files."""
    max_swaps: Count = 24
    """Sentences whose equal words can be rearranged in more ways are dropped, and counted."""


@dataclass(frozen=True)
class CaptionData(_Sentences):
    """Captions of pictures, without trees."""

    source: Literal["multi30k"] = "multi30k"
    """Others, with settings of their own: text; ewt, conllu; doubling, prefix-doubling, remap."""
    path: Name | None = None
    """A folder with files of the published names; None takes the published files."""
    language: Literal["en", "de"] = "en"


@dataclass(frozen=True)
class TextFileData(_Sentences):
    """A text of your own, one sentence a line."""

    source: Literal["text"] = "text"
    """Others, with settings of their own: ewt, conllu; multi30k; doubling, prefix-doubling, remap."""
    path: Name | None = None
    """A text, plain, `.gz` or `.xz`, or a folder of `.txt`."""


Text = TreebankData | CaptionData | TextFileData
TextData = DoublingData | PrefixDoublingData | RemapData | TreebankData | CaptionData | TextFileData


@dataclass(frozen=True)
class NoisingSettings:
    """q(z | x): how a sentence is taken apart, backwards, down to nothing."""

    law: Literal["halving", "token-drop", "leaf-pruning", "prefix-growth", "remap", "one-step"] = (
        "halving"
    )
    max_steps: Few = 4
    """Strings of a trajectory at most."""
    drop: Fraction = 0.5
    """token-drop: probability of every word, in every round."""
    keep: Fraction = 0.5
    """leaf-pruning: probability with which a leaf stays for another round."""
    thin: Count = 2
    """leaf-pruning: every how many rounds a string is kept, counted back from the sentence."""
    min_strings: Count = 3
    """leaf-pruning: shorter trajectories are not drawn."""
    chunk: Count = 1
    """prefix-growth: words added by each string."""
    collapse: bool = False
    """token-drop, leaf-pruning: leave out rounds that change nothing. With leaf-pruning log q is then
    that of one path, and the bound is none."""

    def __post_init__(self):
        require_meant(self)
        read = {
            "token-drop": ("drop", "collapse"),
            "leaf-pruning": ("keep", "thin", "min_strings", "collapse"),
            "prefix-growth": ("chunk",),
        }.get(self.law, ())
        own = ("drop", "keep", "thin", "min_strings", "chunk", "collapse")
        refuse_unread(self, "law", *(name for name in own if name not in read))


@dataclass(frozen=True)
class EditModelSettings:
    """Sizes of the network, what an edit hands on, and the filter that sums edits out."""

    handed_on: Literal["edits", "edits-within", "tokens"] = "edits"
    """Deep; static (Markov in the strings); words alone, where edits sum out exactly."""
    ops: Literal["all", "insert"] = "all"
    """insert: every string is written word by word, as by an autoregressive decoder."""
    size: Size = 64
    num_heads: Few = 4
    hidden_size: Size = 256
    num_layers: Few = 2
    condition_on_step: bool = False
    """Tell the encoder which string it reads."""
    norm_place: Literal["pre", "post"] = "pre"
    dropout: Share = 0.0
    embedding_scale: Positive | None = None
    """Standard deviation of the first embeddings; None is size^-1/2, as large as position signals."""
    exchangeable: bool = False
    """Draw the words' embeddings anew for every batch, so that none is known."""
    num_particles: Draws = 3
    threshold: Fraction = 0.5
    """Share of the particles below which the effective sample size makes them resample."""
    resample_every: Count = 1
    temperature: Positive = 1.0
    """Of the proposal of edits; 1 is fully adapted."""

    def __post_init__(self):
        require_meant(self)
        if self.handed_on == "tokens":  # edits are summed out: there is no filter
            refuse_unread(
                self,
                "handed_on",
                *("num_particles", "threshold", "resample_every", "temperature"),
            )


@dataclass(frozen=True)
class EditTraining:
    """What is differentiated."""

    method: Literal["monte-carlo-em", "supervised", "exact"] = "monte-carlo-em"
    """Edits drawn by the filter; edits of a cheapest alignment; edits summed out ("tokens" only)."""
    num_samples: Draws = 1
    """Trajectories per sentence and step: averaged by monte-carlo-em; with exact, more than one
    raises the importance-weighted bound."""

    def __post_init__(self):
        require_meant(self)

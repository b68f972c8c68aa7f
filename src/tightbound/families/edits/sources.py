"""From settings to sentences, and to the law of their trajectories."""

import os
from typing import TYPE_CHECKING, Any

from tightbound.errors import UserError
from tightbound.families.edits.settings import (
    CaptionData,
    DoublingData,
    NoisingSettings,
    PrefixDoublingData,
    RemapData,
    Text,
    TextData,
    TextFileData,
    TreebankData,
)

if TYPE_CHECKING:  # a recipe is looked up without JAX; only `build` needs it
    from tightbound.data.batch import Split
    from tightbound.data.vocabulary import Vocabulary
    from tightbound.families.edits.noising import AbstractNoising


_TREES_ONLY = "leaf-pruning"


def load(
    data: TextData, noising: NoisingSettings
) -> "tuple[dict[str, Split], Vocabulary, tuple[str, ...]]":
    """The splits, their symbols, and what is to be said of the sentences left out."""
    from tightbound.data.toys import strings as toys

    if noising.law == _TREES_ONLY and not isinstance(data, TreebankData):
        raise UserError(
            f"The noising law 'leaf-pruning' was asked for on {data.source!r}, whose sentences have "
            "no trees. Use 'ewt' or 'conllu', or the law 'token-drop'."
        )
    match data:
        case DoublingData():
            splits, vocabulary = toys.doubling_toy(
                held_out=data.held_out_letters, doublings=data.doublings
            )
        case PrefixDoublingData():
            splits, vocabulary = toys.prefix_doubling_toy(
                held_out=data.held_out_letters, doublings=data.doublings, num_rows=data.num_strings
            )
        case RemapData():
            splits, vocabulary = toys.remap_toy(
                held_out=data.held_out_letters, num_rows=data.num_strings
            )
        case TreebankData() | CaptionData() | TextFileData():
            return _load_text(data, noising)
    return splits, vocabulary, ()


def _load_text(
    data: Text, noising: NoisingSettings
) -> "tuple[dict[str, Split], Vocabulary, tuple[str, ...]]":
    from tightbound.data.formats.own_sentences import load_text_sentences, load_treebank
    from tightbound.data.sets.english_web import load_ewt
    from tightbound.data.sets.multi30k import load_multi30k

    words: Any = {"units": data.units, "min_count": data.min_count, "max_rows": data.max_rows}
    words |= {"vocabulary_size": data.vocabulary_size, "max_length": data.max_length}
    how = None
    match data:
        case TreebankData(source="ewt", path=None):
            loaded = load_ewt(**words, max_swaps=data.max_swaps)
        case TreebankData():
            loaded, how = load_treebank(_own(data), **words, max_swaps=data.max_swaps)
        case TextFileData():
            loaded, how = load_text_sentences(_own(data), **words)
        case CaptionData():
            if data.path is not None and os.path.isfile(data.path):
                raise UserError(
                    f"{data.path} is one file, but the captions of 'multi30k' are six: --data.path names "
                    "their folder. For a text of yours give --data.source text too."
                )
            loaded = load_multi30k(data.path, **words, language=data.language)
    splits, vocabulary, dropped = loaded
    notes = ([how] if how else []) + [f"{name}: {count}." for name, count in dropped.items()]
    if noising.law == _TREES_ONLY:
        splits, refused = _with_likely_lengths(splits, noising)
        notes.append(refused)
    return splits, vocabulary, tuple(notes)


def _own(data: TreebankData | TextFileData) -> str:
    """The path of sentences of one's own."""
    if data.path is None:
        raise UserError(
            f"The data source {data.source!r} reads a file or a folder of yours: give it as "
            "--data.path."
        )
    return data.path


_LEAST_ACCEPTANCE = 0.01  # of the draws: below it a sentence costs too much to draw trajectories of


def _with_likely_lengths(
    splits: "dict[str, Split]", settings: NoisingSettings
) -> "tuple[dict[str, Split], str]":
    """The sentences whose trajectories have an allowed length often enough, and how many had not."""
    import jax
    import numpy as np

    from tightbound.data.batch import rows_of
    from tightbound.data.sentences import Sentence

    noising = _pruning(settings)
    accept = jax.jit(jax.vmap(noising.log_acceptance))
    kept, refused = {}, []
    for name, split in splits.items():
        trees = Sentence(split.x.tokens, split.x.num_given, split.x.heads)
        likely = np.exp(np.asarray(accept(trees))) >= _LEAST_ACCEPTANCE
        kept[name] = rows_of(split, np.flatnonzero(likely))
        refused.append(f"{(~likely).sum():,} {name}")
    return kept, (
        f"Left out, since fewer than {_LEAST_ACCEPTANCE:.0%} of their trajectories have "
        f"{settings.min_strings} to {settings.max_steps} strings: {', '.join(refused)}."
    )


def _pruning(settings: NoisingSettings):
    from tightbound.families.edits.pruning import LeafPruning

    law: Any = LeafPruning  # its `max_steps` is a property
    return law(
        keep=settings.keep,
        thin=settings.thin,
        min_strings=settings.min_strings,
        max_strings=settings.max_steps,
        collapse=settings.collapse,
    )


def noising_of(settings: NoisingSettings, vocabulary: "Vocabulary") -> "AbstractNoising":
    """The law of the trajectories."""
    from tightbound.data.toys.strings import TRAINED, UNSEEN, shifted, symbol_images
    from tightbound.families.edits.deterministic import Halving, OneShot, PrefixGrowth, Remap
    from tightbound.families.edits.token_drop import TokenDrop

    steps = settings.max_steps
    match settings.law:
        case "halving":
            return Halving(max_steps=steps)
        case "token-drop":
            return TokenDrop(probability=settings.drop, max_steps=steps, collapse=settings.collapse)
        case "leaf-pruning":
            return _pruning(settings)
        case "prefix-growth":
            return PrefixGrowth(chunk=settings.chunk, max_steps=steps)
        case "remap":
            images = shifted(TRAINED, 1) | shifted(UNSEEN, 1)
            back = {image: letter for letter, image in images.items()}
            return Remap(inverse=tuple(symbol_images(back, vocabulary)), max_steps=steps)
        case "one-step":
            return OneShot(max_steps=steps)

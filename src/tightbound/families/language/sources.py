"""From settings to texts, and what it costs to order their words."""

import os
from typing import TYPE_CHECKING

from tightbound.errors import UserError
from tightbound.families.language.settings import (
    TokenData,
)

if TYPE_CHECKING:  # a recipe is looked up without JAX; only `build` needs it
    from tightbound.data.batch import Split
    from tightbound.data.token_corpora import Corpus


def load(data: TokenData) -> "Corpus":
    from tightbound.data.token_corpora import load_tokens

    if data.source == "file" and data.path is None:
        raise UserError("The data source 'file' reads a text of yours: give it as --data.path.")
    if data.source in ("multi30k", "wikitext2") and data.path and os.path.isfile(data.path):
        raise UserError(
            f"{data.path} is one file, but {data.source!r} is a folder of them. For a text of yours "
            "give --data.source file too."
        )
    return load_tokens(
        data.source,
        path=data.path,
        language=data.language,
        units=data.units,
        rules=data.rules,
        vocabulary_from=data.vocabulary_from,
        max_length=data.max_length,
        min_count=data.min_count,
        max_rows=data.max_rows,
    )


def bag_note(held_out: "Split") -> str:
    """What it costs to order known words: no baseline, since no model of sequences is given the bag."""
    from tightbound.data.baselines.sequences import baseline_estimates
    from tightbound.data.baselines.tokens import bag_of_tokens

    nats = bag_of_tokens(held_out)
    estimate = baseline_estimates({"bag-of-tokens": nats}, held_out)["bag-of-tokens"]
    per_token = -float(nats.sum() / held_out.num_units.sum())
    return (
        f"Ordering the known symbols of a sequence costs {-estimate.value:.2f} nats per sequence, "
        f"{per_token:.3f} per token: where order carries nothing, as in residues, a model near it has "
        "seen what is to come."
    )

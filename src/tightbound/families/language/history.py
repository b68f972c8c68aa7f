"""How parts of a language model changed over training, from its checkpoints."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Int

from tightbound.data.batch import Split
from tightbound.data.sentences import PAD
from tightbound.families.language.model import LanguageModel
from tightbound.families.language.parts import alignment_priors, distance_priors
from tightbound.families.language.sequence_vae import SequenceVAE
from tightbound.models.base import AbstractModel
from tightbound.report.json_numbers import numbers

_MAPS = 6  # checkpoints whose priors are drawn
_BANDS = 4
_QUANTILES = (0.1, 0.5, 0.9)


def language_history(
    models: Iterable[tuple[int, AbstractModel]], steps: Sequence[int], train: Split
) -> dict[str, Any]:
    """Norms of embeddings at every checkpoint, and learned priors at some of them, the first and the
    last among them. `models` are those of the `steps`, one at a time."""
    priors, distances, norms, bands = [], [], [], []
    drawn = set(evenly_chosen(steps, _MAPS))
    for step, model in models:
        network = model.network if isinstance(model, SequenceVAE) else model
        assert isinstance(network, LanguageModel)
        if not bands:
            bands = frequency_bands(_counts(train, len(network.embedding)))
        quantiles = norm_quantiles(np.asarray(network.embedding), [b for _, b in bands])
        norms.append({"step": step, "quantiles": _rounded(quantiles)})
        if step in drawn:
            for name, prior in alignment_priors(network.structure).items():
                priors.append({"step": step, "name": name, "values": _rounded(prior)})
            by_distance = distance_priors(network.structure)
            if by_distance is not None:
                distances.append({"step": step, "values": _rounded(by_distance)})
    history = {
        "embedding_norms": {
            "bands": [name for name, _ in bands],
            "probabilities": list(_QUANTILES),
            "steps": norms,
        },
        "alignments": priors,
        "distances": distances,
    }
    return {name: value for name, value in history.items() if value}


def evenly_chosen(steps: Sequence[int], count: int) -> list[int]:
    """At most `count` of them, evenly spaced in their order, with the first and the last."""
    if len(steps) <= count:
        return list(steps)
    return [steps[i] for i in np.linspace(0, len(steps) - 1, count).round().astype(int)]


def frequency_bands(
    counts: Int[np.ndarray, " symbols"],
) -> list[tuple[str, Int[np.ndarray, " band"]]]:
    """The symbols that occur, in bands of like size from the most frequent to the rarest, each with
    how often its symbols occur; in one band where they are few."""
    by_count = np.argsort(-counts, kind="stable")
    by_rank = by_count[counts[by_count] > 0]
    num_bands = _BANDS if len(by_rank) >= 2 * _BANDS else 1
    bands = np.array_split(by_rank, num_bands)
    return [(f"seen {counts[b[-1]]:,} to {counts[b[0]]:,} times", b) for b in bands]


def norm_quantiles(
    embedding: Float[np.ndarray, "symbols size"], bands: Sequence[Int[np.ndarray, "_"]]
) -> Float[np.ndarray, "bands quantiles"]:
    """Of the lengths of the rows of each band."""
    norms = np.linalg.norm(embedding.astype(float), axis=1)
    return np.array([np.quantile(norms[band], _QUANTILES) for band in bands])


def _counts(train: Split, num_symbols: int) -> Int[np.ndarray, " symbols"]:
    """How often each symbol stands in the split; padding does not count."""
    tokens = np.asarray(train.x.values)[np.asarray(train.mask)]
    counts = np.bincount(tokens, minlength=num_symbols)
    counts[PAD] = 0
    return counts


def _rounded(values: Float[Array | np.ndarray, "rows columns"]) -> list[list[float | None]]:
    return [numbers(row) for row in np.asarray(values)]

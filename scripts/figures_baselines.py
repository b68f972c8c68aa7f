"""The figures of laws that need no training, on the test splits, for `verify.py`: each function is one check."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from tightbound.data.batch import Split
from tightbound.families.lookup import find_recipe

Figure = dict[str, float | None]  # nats, and their standard error over sequences

TEXTS: Mapping[str, Mapping[str, Any]] = {
    "multi30k en, words that occur twice, whole": {"source": "multi30k", "max_length": None},
    "multi30k de, the same": {"source": "multi30k", "language": "de", "max_length": None},
    "multi30k en, first 100 characters": {
        "source": "multi30k", "units": "characters", "max_length": 100},
    "cath, first 20 residues": {"source": "cath"},
    "cath, first 100 residues": {"source": "cath", "max_length": 100},
    "wikitext2, windows of 64 words": {"source": "wikitext2", "max_length": 64},
    "tiny-shakespeare, windows of 100 characters": {
        "source": "tiny-shakespeare", "units": "characters", "max_length": 100,
    },
    "iid-residues": {"source": "iid-residues"},
    "toy-grammar": {"source": "toy-grammar"},
}  # fmt: skip


def images() -> dict[str, Any]:
    """In nats per image."""
    from tightbound.data.baselines.images import image_baselines
    from tightbound.data.images import load_images

    found = {}
    for name, likelihood in (
        ("vae/digits", "bernoulli"),
        ("vae/mnist", "bernoulli"),
        ("vae/mnist-static", "bernoulli"),
        ("vae/digits", "gaussian"),
        ("vae/mnist", "gaussian"),
    ):
        data = find_recipe(name).data
        if likelihood == "gaussian":
            data = replace(data, law="grey")
        splits, _, levels = load_images(data, conditional=False)
        baselines = image_baselines(splits["train"], splits["test"], likelihood, levels)
        found[f"{name}, {splits['test'].description}"] = {
            law: {"nats": estimate.value, "standard error": estimate.standard_error}
            for law, estimate in baselines.items()
        }
    return found


def sequences() -> dict[str, Any]:
    """In nats per sequence."""
    names = ("vrnn/omniglot", "vrnn/handwriting", "vrnn/jsb", "vrnn/muse")
    return {name: of_rows(name) for name in (*names, "ssm/stochastic-volatility", "ssm/nutria")}


def points() -> dict[str, Any]:
    """In nats per point."""
    return {
        f"stein/{name}": of_rows(f"stein/{name}")
        for name in ("yacht", "energy", "concrete", "wine", "protein")
    }


def of_rows(recipe: str) -> dict[str, Figure]:
    """A recipe's own baselines."""
    setup = find_recipe(recipe).build(0)
    assert setup.baseline_rows is not None
    laws = setup.baseline_rows(setup.data["test"])
    return {law: figure(nats, np.ones(len(nats))) for law, nats in laws.items()}


def tokens() -> dict[str, Any]:
    """In nats per token: sums over the corpus, the end counted; what the order of known words costs
    is per token without the end."""
    from tightbound.data.baselines.tokens import bag_of_tokens, token_references
    from tightbound.data.token_corpora import load_tokens

    found: dict[str, Any] = {}
    for name, changes in TEXTS.items():
        corpus = load_tokens(**{"max_length": 20, "min_count": 2, **changes})
        train, test = corpus.splits["train"], corpus.splits["test"]
        laws = token_references(train, test, vocabulary_size=len(corpus.vocabulary))
        found[name] = {law: per_token(nats, test) for law, nats in laws.items()}
        found[name]["bag of tokens"] = per_token(bag_of_tokens(test), test)
        if corpus.entropy is not None:
            found[name]["entropy"] = corpus.entropy.value
    return found


def per_token(nats: np.ndarray, split: Split) -> Figure:
    """Minus log p over units, with the perplexity."""
    found = figure(-nats, np.asarray(split.num_units, float))
    return {**found, "perplexity": float(np.exp(found["nats"] or 0.0))}


def figure(nats: np.ndarray, units: np.ndarray) -> Figure:
    """Sum over sum, and its standard error over sequences by the delta method; None for one sequence."""
    mean = float(nats.sum() / units.sum())
    if len(nats) < 2:
        return {"nats": mean, "standard error": None}
    spread = (nats - mean * units) / units.mean()
    return {"nats": mean, "standard error": float(spread.std(ddof=1) / np.sqrt(len(nats)))}

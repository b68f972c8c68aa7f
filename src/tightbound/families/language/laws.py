"""Evidence about models of tokens: whether the components of a mixture differ, and whether the training
split has every symbol that the others have."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from tightbound.data.batch import Split
from tightbound.data.sentences import EOS, NUM_MARKS, UNKNOWN
from tightbound.data.sequences import Sequence
from tightbound.diagnose import evidence as ev
from tightbound.diagnose.laws.asked import Asked
from tightbound.families.language.details import vocabulary_of
from tightbound.families.language.emissions import Components
from tightbound.families.language.model import LanguageModel
from tightbound.train.setup import Setup


def laws(asked: Asked) -> dict[str, Any]:
    """Symbols of the splits, before training alone."""
    return {"symbols": new_symbols(asked.setup)} if asked.before_training else {}


class Probe:
    """What every probe asks of a language model: how far the components of its mixtures are apart."""

    def during_update(self, model: PyTree[Any], gradient: PyTree[Any]) -> dict[str, Any]:
        return component_differences(model, gradient)

    def on_host(self, model: PyTree[Any], found: dict[str, Any]) -> dict[str, Any]:
        return {"mixtures": mixtures_on_host(model, found)}


# --- components ----------------------------------------------------------------------------------


def component_differences(
    model: PyTree[Any], gradient: PyTree[Any]
) -> dict[str, tuple[Float[Array, ""], Float[Array, ""]]]:
    """Of every mixture in the language models that a model consists of: the largest difference between
    components of log p(class | k), in nats; and that of its slope along the gradient, as a share of
    the largest slope (0 where nothing has any)."""
    parameters, static = eqx.partition(model, eqx.is_inexact_array)

    def log_probs(parameters):
        found = _mixtures(eqx.combine(parameters, static))
        return {
            name: components.log_probs(jnp.arange(len(table)), table)
            for name, (components, table) in found.items()
        }

    at, along = jax.jvp(log_probs, (parameters,), (gradient,))
    return {
        name: (_largest_difference(at[name]), _largest_difference(slope) / _size(slope))
        for name, slope in along.items()
    }


def _largest_difference(values: Float[Array, "components classes"]) -> Float[Array, ""]:
    return jnp.ptp(values, axis=0).max()


def _size(values: Float[Array, "components classes"]) -> Float[Array, ""]:
    return jnp.maximum(jnp.abs(values).max(), jnp.finfo(values.dtype).tiny)


def mixtures_on_host(
    model: PyTree[Any], found: dict[str, tuple[np.ndarray, np.ndarray]]
) -> ev.Mixtures | None:
    """What `component_differences` gave of this model, as evidence; None where there is no mixture."""
    if not found:
        return None
    mixtures = _mixtures(model)
    return ev.Mixtures(
        names=np.array(list(found)),
        num_components=np.array([len(mixtures[name][0].vectors) for name in found]),
        difference=np.array([difference for difference, _ in found.values()]),
        motion=np.array([motion for _, motion in found.values()]),
    )


def _mixtures(model: PyTree[Any]) -> dict[str, tuple[Components, Float[Array, "classes size"]]]:
    """The components of every mixture and the embeddings of its classes, by the path of the field."""
    return {
        ".".join(filter(None, (place, path))): (components, network.embedding[EOS:])
        for place, network in _parts(model, LanguageModel).items()
        for path, components in _parts(network, Components).items()
    }


def _parts(tree: PyTree[Any], kind: type) -> dict[str, Any]:
    """The modules of a kind within a tree, by their paths."""
    is_part = lambda leaf: isinstance(leaf, kind)  # noqa: E731
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_part)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf
        for path, leaf in leaves
        if is_part(leaf)
    }


# --- symbols -------------------------------------------------------------------------------------


def new_symbols(setup: Setup) -> ev.Symbols | None:
    """The words that a split has and the training split has not; None where the data are no sequences
    of a vocabulary's symbols."""
    if vocabulary_of(setup) is None or not isinstance(setup.data["train"].x, Sequence):
        return None
    names = [name for name in ("train", "valid", "test") if name in setup.data]
    words = {name: _words(setup.data[name]) for name in names}
    known = np.unique(words["train"])
    new = {name: found[~np.isin(found, known)] for name, found in words.items()}
    return ev.Symbols(
        split_names=np.array(names),
        num_new=np.array([len(np.unique(found)) for found in new.values()]),
        new_share=np.array([len(new[name]) / max(len(words[name]), 1) for name in names]),
    )


def _words(split: Split) -> np.ndarray:
    """All words of a split that are known: no marks, and not the unknown one."""
    values = np.asarray(split.x.values)[split.mask]
    return values[(values >= NUM_MARKS) & (values != UNKNOWN)]

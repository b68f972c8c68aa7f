"""Every short string of a tiny language, what a model says of it, and its formulas in NumPy."""

from collections.abc import Callable
from itertools import product
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tightbound.data.sentences import EOS, PAD
from tightbound.data.sequences import Sequence
from tightbound.families.language.contexts import Window
from tightbound.families.language.emissions import Components, MixtureEmission
from tightbound.families.language.model import LanguageModel

WORDS = (3, 4, 5)
NUM_SYMBOLS = 6
NUM_CLASSES = NUM_SYMBOLS - EOS
SIZE = 4
LENGTH = 4
_GARBAGE = 5  # a word that stands where nothing is real
_TINY = 1e-8  # keeps a division by a root mean square or a deviation finite


class Strings(NamedTuple):
    """Rows of tokens, one string each, by groups."""

    x: Sequence
    ended: slice  # up to two words and their end
    unended: slice  # three words and no end
    whole: slice  # four words
    garbled: slice  # ended and unended again, with words where there was padding


class Said(NamedTuple):
    """What a model says of `Strings`, in nats."""

    log_p: np.ndarray  # rows, time
    distributions: np.ndarray  # rows, time, classes


def every_string() -> Strings:
    ended = [(*w, EOS) for size in range(LENGTH - 1) for w in product(WORDS, repeat=size)]
    unended = list(product(WORDS, repeat=LENGTH - 1))
    whole = list(product(WORDS, repeat=LENGTH))
    rows = [*ended, *unended, *whole, *ended, *unended]
    num_short, num_read = len(ended) + len(unended), len(ended) + len(unended) + len(whole)
    tokens = np.full((len(rows), LENGTH), PAD, np.int32)
    tokens[num_read:] = _GARBAGE
    for row, string in zip(tokens, rows, strict=True):
        row[: len(string)] = string
    lengths = np.array([len(string) for string in rows])
    return Strings(
        Sequence(tokens, np.arange(LENGTH) < lengths[:, None]),
        slice(0, len(ended)),
        slice(len(ended), num_short),
        slice(num_short, num_read),
        slice(num_read, len(rows)),
    )


@eqx.filter_jit
def _say(model, x):
    return jax.vmap(lambda x: (model.score(x, None)["token"], model.distributions(x)))(x)


def say(model: LanguageModel, x: Sequence) -> Said:
    """Scores and distributions of every row, from one program."""
    return Said(*(np.asarray(part) for part in _say(model, x)))


class Plain:
    """The formulas of the parts, for one vector at a time, in NumPy; of modules held `in_numpy`."""

    @staticmethod
    def in_numpy(module: Any) -> Any:
        """The same module, its arrays NumPy's."""
        return jax.tree.map(np.asarray, module)

    @staticmethod
    def softmax(logits: np.ndarray) -> np.ndarray:
        odds = np.exp(logits - logits.max())
        return odds / odds.sum()

    @staticmethod
    def table(model: LanguageModel) -> np.ndarray:
        """The embeddings of the classes."""
        return np.asarray(model.embedding)[EOS:]

    @staticmethod
    def contexts(model: LanguageModel, tokens: np.ndarray, num_words: int = 1) -> np.ndarray:
        """The last words before every position, newest first, each over its root mean square."""
        size = model.embedding.shape[1]
        embedding = size**0.5 * np.asarray(model.embedding)
        words = [np.ones(size), *(embedding[token] for token in tokens[:-1])]
        words = [word / np.sqrt(np.square(word).mean() + _TINY) for word in words]
        padded = [np.zeros(size)] * (num_words - 1) + words
        newest_first = [padded[i : i + num_words][::-1] for i in range(len(tokens))]
        return np.array([np.concatenate(window) for window in newest_first])

    @staticmethod
    def components(components: Any, table: np.ndarray) -> np.ndarray:
        """p(class | k), k by k: scaled components."""
        rows = zip(components.vectors, np.exp(components.log_scale), strict=True)
        deviation = lambda v: np.sqrt(v.var() + _TINY)  # noqa: E731
        return np.array([Plain.softmax(s * table @ (v / deviation(v))) for v, s in rows])

    @staticmethod
    def emission(emission: Any, features: np.ndarray, table: np.ndarray) -> np.ndarray:
        """p(class | features): a mixture of scaled components, or a tied softmax."""
        if isinstance(emission, MixtureEmission):
            weights = Plain.softmax(emission.weights @ features + emission.weight_bias)
            return weights @ Plain.components(emission.components, table)
        return Plain.softmax(table @ (emission.map @ features) + emission.bias)


def largest_difference(
    model: LanguageModel,
    strings: Strings,
    probabilities: Callable[[np.ndarray, int], np.ndarray],
    num_words: int = 1,
) -> float:
    """Between a model's distributions and `probabilities(contexts, position)` over all strings of
    four words, in nats. Given the words, the choices at one position are independent of those at
    the others: summed position by position they are all summed."""
    rows = strings.x.values[strings.whole]
    wanted = [
        [np.log(probabilities(contexts, i)) for i in range(LENGTH)]
        for contexts in (Plain.contexts(model, tokens, num_words) for tokens in rows)
    ]
    found = say(model, strings.x).distributions[strings.whole]
    return float(np.abs(found - np.array(wanted)).max())


def make_model(structure: Any, context: Any = None, **settings: Any) -> LanguageModel:
    """A model of the tiny language, with tables for one more position than its strings have."""
    return LanguageModel(
        NUM_SYMBOLS,
        SIZE,
        Window(SIZE, 1) if context is None else context,
        structure,
        num_positions=LENGTH + 1,
        key=jax.random.key(11),
        **settings,
    )


def make_components(num_components: int = 3) -> Components:
    key, scale_key = jax.random.split(jax.random.key(12))
    components = Components("scaled", num_components, SIZE, NUM_CLASSES, key=key)
    scale = 0.5 * jax.random.normal(scale_key, (num_components,))
    return eqx.tree_at(lambda c: c.log_scale, components, scale)


def make_mixture(num_features: int = SIZE, num_components: int = 3) -> MixtureEmission:
    return MixtureEmission(num_features, make_components(num_components), key=jax.random.key(13))


def shaken(module: Any, size: float = 0.5) -> Any:
    """The same module with every number moved: biases, priors and weights that start at 0 count."""
    random = np.random.default_rng(18)

    def moved(leaf):
        if not eqx.is_inexact_array(leaf):
            return leaf
        return leaf + jnp.asarray(size * random.normal(size=leaf.shape), leaf.dtype)

    return jax.tree.map(moved, module)


class Tiny(NamedTuple):
    """What the tests of one structure are made of."""

    strings: Strings
    say: Callable = say
    model: Callable = make_model
    components: Callable = make_components
    mixture: Callable = make_mixture
    shaken: Callable = shaken
    largest_difference: Callable = largest_difference
    plain: type[Plain] = Plain
    size: int = SIZE
    length: int = LENGTH
    num_positions: int = LENGTH + 1
    num_classes: int = NUM_CLASSES
    num_symbols: int = NUM_SYMBOLS


@pytest.fixture(scope="session")
def tiny() -> Tiny:
    """The tiny language and its makers."""
    return Tiny(every_string())

"""Are the splits clean and alike, and could a draw of the model be a row of the data?"""

import jax
import numpy as np
from jaxtyping import Bool, PRNGKeyArray

from tightbound.data.batch import Split
from tightbound.data.labelled import Labelled
from tightbound.data.sentences import Sentence
from tightbound.data.sequences import Sequence
from tightbound.diagnose import evidence as ev
from tightbound.diagnose.laws.compiled import jit_once
from tightbound.diagnose.laws.rows import flat_rows, real_rows
from tightbound.diagnose.probes import Pair
from tightbound.models.base import AbstractModel
from tightbound.terms import Kind
from tightbound.train.setup import Setup


def data(setup: Setup, pair: Pair, key: PRNGKeyArray, num_rows: int = 1024) -> ev.Data | None:
    """The splits as the model sees them, duplicates within and across them, and their labels. None
    for sentences: symbols are no numbers, and a small language repeats its sentences by right; and
    where nothing is observed."""
    if isinstance(setup.data["train"].x, Sentence) or not _observes(setup.model):
        return None
    names = [name for name in ("train", "valid", "test") if name in setup.data]
    stored = {n: real_rows(setup.data[n].x) for n in names}
    rows_of = {n: _model_inputs(setup, setup.data[n], key, num_rows) for n in names}
    numbers = {n: np.concatenate(rows) for n, rows in rows_of.items()}
    hashes = {n: [row.tobytes() for row in stored[n]] for n in names}
    training = set(hashes["train"])
    accuracy, chance = _label_accuracy(setup, num_rows)
    array = lambda values: np.array(list(values))  # noqa: E731
    return ev.Data(
        split_names=np.array(names),
        scale=array(x.std() for x in numbers.values()),
        smallest=array(x.min() for x in numbers.values()),
        largest=array(x.max() for x in numbers.values()),
        bad_rows=array(
            _first(np.array([not np.isfinite(x).all() for x in rows])) for rows in stored.values()
        ),
        empty_rows=array(_first(~np.any(setup.data[n].mask, axis=1)) for n in names),
        duplicate_share=array(1 - len(set(h)) / len(h) for h in hashes.values()),
        overlap_share=array(
            0.0 if n == "train" else float(np.mean([h in training for h in hashes[n]]))
            for n in names
        ),
        off_support_share=_off_support_share(setup, pair, key),
        label_accuracy=accuracy,
        label_chance=chance,
    )


def splits(setup: Setup, key: PRNGKeyArray, num_rows: int = 1024) -> ev.Splits | None:
    """Centre and width of every split as the model sees it, with their errors over rows. None where
    `data` is."""
    if isinstance(setup.data["train"].x, Sentence) or not _observes(setup.model):
        return None
    names = [name for name in ("train", "valid", "test") if name in setup.data]
    found = [_with_errors(_model_inputs(setup, setup.data[n], key, num_rows)) for n in names]
    centre, width, centre_error, width_error = np.array(found).T
    return ev.Splits(np.array(names), centre, width, centre_error, width_error)


def _with_errors(rows: list[np.ndarray], num_groups: int = 10) -> tuple[float, float, float, float]:
    """Centre and width of the numbers of some rows; the centre's standard error and, relative, the width's,
    by leaving out one group of rows after another (Efron & Tibshirani 1993, sec. 11.5): what moves the
    window moves them too. NaN where a number is not finite, no error of a single row."""
    rows = [row for row in rows if row.size]
    if not all(np.isfinite(row).all() for row in rows):  # TB501 names the row
        return np.nan, np.nan, np.nan, np.nan
    centre, width = _centre_and_width(np.concatenate(rows))
    count = min(num_groups, len(rows))
    if count < 2:
        return centre, width, 0.0, 0.0
    left_out = [[row for i, row in enumerate(rows) if i % count != group] for group in range(count)]
    without = np.array([_centre_and_width(np.concatenate(rest)) for rest in left_out])
    centre_error, width_error = np.sqrt(count - 1) * without.std(0)
    return centre, width, float(centre_error), float(width_error / max(width, 1e-12))


def _centre_and_width(numbers: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of numbers that are pulled in to their middle 98 % and half its breadth
    on either side: of a normal law next to none is. Where the middle is one number, none is pulled in."""
    low, high = np.quantile(numbers, [0.01, 0.99])
    if high > low:
        numbers = np.clip(numbers, low - (high - low) / 2, high + (high - low) / 2)
    return float(numbers.mean()), float(numbers.std())


def _observes(model: AbstractModel) -> bool:
    return Kind.OBSERVED in model.kinds.values()


def _model_inputs(setup: Setup, split: Split, key: PRNGKeyArray, num_rows: int) -> list[np.ndarray]:
    if split.pooled:  # a batch of them is one row
        return [row.astype(np.float64) for row in _alike(setup, split)[:num_rows]]
    batch = split.take(np.arange(min(num_rows, len(split))))
    if setup.noise is not None:
        batch = jit_once(setup.noise)(batch, key)
    return [row.astype(np.float64) for row in real_rows(batch.x)]


def _alike(setup: Setup, split: Split) -> np.ndarray:
    """The points of a split; of those in groups the ones whose group the validation split has too: what
    is asked elsewhere on purpose ("between" the data) has a group of its own."""
    points, known = flat_rows(split.x), setup.data["valid"].groups
    if split.groups is None or known is None:
        return points
    return points[np.isin(split.groups, known)]


def _first(flags: np.ndarray) -> int:
    """The place of the first that is true, or -1."""
    return int(flags.argmax()) if flags.any() else -1


def _off_support_share(setup: Setup, pair: Pair, key: PRNGKeyArray) -> float:
    """Of the numbers the model sees, the share that a draw of the model could never be: judged by
    whether the model's own draws are bits. Of sequences, entry by entry of an observation, and also
    the other way round: where the data are bits and the draws are not, a density has no bound."""
    model, _ = pair

    @jit_once
    def draw(model, keys):
        return jax.vmap(lambda k: model.sample(k)[1])(keys)

    of_model = draw(model, jax.random.split(key, 8))
    if setup.data["train"].pooled:  # whose inputs are given
        targets = np.asarray(of_model.points.target).ravel(), setup.data["train"].x.target.ravel()
        return float(1.0 - _are_bits(targets[1]).mean()) if _are_bits(targets[0]).all() else 0.0
    drawn = np.concatenate(real_rows(of_model))
    inputs = np.concatenate(_model_inputs(setup, setup.data["train"], key, 256))
    if isinstance(setup.data["train"].x, Sequence):
        values = setup.data["train"].x.values
        size = sum(int(np.prod(leaf.shape[2:])) for leaf in jax.tree.leaves(values))
        drawn_bits, input_bits = (_are_bits(x.reshape(-1, size)).all(0) for x in (drawn, inputs))
        varied = np.ptp(inputs.reshape(-1, size), axis=0) > 0
        if (input_bits & varied & ~drawn_bits).any():
            return float((input_bits & varied & ~drawn_bits).mean())
    if not _are_bits(drawn).all():
        return 0.0
    return float(1.0 - _are_bits(inputs).mean())


def _are_bits(x: np.ndarray) -> Bool[np.ndarray, "..."]:
    return np.isin(x, (0.0, 1.0))


def _label_accuracy(setup: Setup, num_rows: int) -> tuple[float, float]:
    """How often the nearest class mean of the training rows has the label that a held-out row's
    model is given, and the share of the commonest label."""
    train, valid = setup.data["train"], setup.data["valid"]
    if not (isinstance(train.x, Labelled) and isinstance(valid.x, Labelled)):
        return float("nan"), float("nan")
    x = np.asarray(train.x.image, np.float64)
    y = np.asarray(train.x.label)
    classes = np.unique(y)
    means = np.stack([x[y == c].mean(0) for c in classes])
    held_x = np.asarray(valid.x.image[:num_rows], np.float64)
    held_y = np.asarray(valid.x.label[:num_rows])
    nearest = classes[((held_x[:, None] - means) ** 2).sum(-1).argmin(1)]
    chance = np.bincount(held_y).max() / len(held_y)
    return float((nearest == held_y).mean()), float(chance)

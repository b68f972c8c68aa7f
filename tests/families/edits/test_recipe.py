"""The edit recipes: every toy trains in one compiled shape, and settings without meaning are refused."""

import os
from dataclasses import replace

import jax
import numpy as np
import pytest

from tightbound.data.batch import training_batches
from tightbound.errors import UserError
from tightbound.families.edits.details import vocabulary_of
from tightbound.families.edits.recipe import (
    RECIPES,
    DoublingData,
    EditModelSettings,
    EditTraining,
    NoisingSettings,
)
from tightbound.families.sources import with_source
from tightbound.train.loop import compile_step
from tightbound.train.run import first_state, run_keys
from tightbound.unread import replaced

SMALL = EditModelSettings(size=8, hidden_size=8, num_heads=2, num_layers=1)
TOYS = ("edits/doubling-exchangeable", "edits/prefix-doubling")

needs_data = pytest.mark.skipif(
    "TIGHTBOUND_DATA" not in os.environ, reason="TIGHTBOUND_DATA names no folder of real data"
)


def small(name, **changes):
    """The recipe with a tiny network that keeps what is special about its own."""
    recipe = RECIPES[name]
    kept = {
        field: getattr(recipe.model, field)
        for field in ("handed_on", "ops", "exchangeable", "temperature")
    }
    size = replace(SMALL, **kept)
    run = replace(recipe.run, batch_size=2)
    return replace(recipe, **{"model": size, "run": run} | changes)


def losses(setup, steps):
    """The losses of a few steps, and how often the step was traced."""
    traced = 0
    objective = setup.objective

    def counting(*args, **kwargs):
        nonlocal traced
        traced += 1
        return objective(*args, **kwargs)

    state = first_state(setup)
    leaves, _, step = compile_step(state, counting, setup.optimiser)
    batches = training_batches(setup.data["train"], setup.run.batch_size, seed=0)
    _, key, _ = run_keys(0)
    found = []
    for batch, _ in zip(batches, range(steps), strict=False):
        leaves, evidence = step(leaves, batch, key)
        found.append(float(evidence.loss))
    return np.array(found), traced


@pytest.mark.parametrize("name", TOYS)
def test_a_toy_is_compiled_once_however_many_epochs(name):
    """Oracle: the number of times the objective is traced, over more steps than an epoch has."""
    setup = small(name).build(0)
    found, traced = losses(setup, 4)
    assert np.isfinite(found).all()
    assert traced == 1


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"training": EditTraining("exact")}, "do not sum out"),
        ({"training": EditTraining("supervised", num_samples=2)}, "Leave `num_samples` at 1"),
        ({"noising": NoisingSettings("leaf-pruning")}, "no trees"),
        ({"model": replace(SMALL, handed_on="edits", num_particles=0)}, "at least one"),
        ({"model": replace(SMALL, temperature=0.0)}, "positive"),
        ({"model": replace(SMALL, num_heads=3)}, "give a multiple"),
        ({"noising": NoisingSettings("token-drop", drop=1.5)}, "1.5"),
    ],
)
def test_settings_without_meaning_are_refused_in_a_sentence(changes, part):
    with pytest.raises((UserError, ValueError), match=part):
        replace(RECIPES["edits/doubling"], **changes).build(0)


def test_a_temperature_is_refused_where_edits_are_summed_out():
    with pytest.raises(UserError, match=r"`temperature` was set to 0\.5, but nothing reads it"):
        replace(SMALL, handed_on="tokens", temperature=0.5)


def test_evaluation_under_another_law_says_so():
    setup = replace(RECIPES["edits/doubling"], evaluate_law="token-drop", model=SMALL).build(0)
    assert "token drop" in setup.data["valid"].description
    assert setup.data["train"].description == "train"
    assert setup.evaluated(setup.proposal) is not setup.proposal


def test_held_out_letters_are_not_those_of_training():
    setup = replace(
        RECIPES["edits/doubling"], data=DoublingData(held_out_letters=True), model=SMALL
    ).build(0)
    train, valid = (set(np.unique(setup.data[n].x.tokens)) for n in ("train", "valid"))
    assert not train & valid


@needs_data
@pytest.mark.parametrize("source", ["ewt", "multi30k"])
def test_real_text_trains_and_says_what_was_left_out(source):
    """Oracle: what is kept and dropped adds up to the file; the loss is finite."""
    recipe = RECIPES[f"edits/{source}"]
    data = replace(recipe.data, max_rows=60, max_length=8, min_count=1)
    setup = small(f"edits/{source}", data=data).build(0)
    assert "of 60 sentences kept" in setup.notes[0]
    found, _ = losses(setup, 1)
    assert np.isfinite(found).all()


WORDS = ("the", "cat", "sat", "on", "a", "mat", "and", "dog")


def sentences(count, seed=0):
    random = np.random.default_rng(seed)
    return [list(random.permutation(WORDS)[: 3 + row % 4]) for row in range(count)]


def conllu(rows):
    """The first word is the root, and every other word hangs from the one before."""
    return "\n".join(
        "".join(
            "\t".join([str(n + 1), word, "_", "_", "_", "_", str(n), "_", "_", "_"]) + "\n"
            for n, word in enumerate(row)
        )
        for row in rows
    )


def text(rows):
    return "\n\n".join(" ".join(row).capitalize() + "." for row in rows)


@pytest.mark.parametrize(
    ("recipe", "source", "write", "ending"),
    [
        ("edits/ewt", "conllu", conllu, "conllu"),
        ("edits/ewt", "ewt", conllu, "conllu"),
        ("edits/multi30k", "text", text, "txt"),
    ],
)
@pytest.mark.parametrize("split", [False, True])
def test_sentences_of_ones_own_are_read_with_or_without_splits(
    tmp_path, recipe, source, write, ending, split
):
    """Oracle: the sentences that were written, in lower case, each in one split; of trees, the heads."""
    rows = sentences(20)
    if split:
        parts = {"train": rows[:14], "dev": rows[14:17], "test": rows[17:]}
        for name, part in parts.items():
            (tmp_path / f"en_own-ud-{name}.{ending}").write_text(write(part))
        path = tmp_path
    else:
        path = tmp_path / "any-name"
        path.write_text(write(rows))
    changed = with_source(RECIPES[recipe], "data", source)
    data = replace(changed.data, path=str(path), min_count=1, max_length=8)
    noising = replaced(changed.noising, min_strings=1)
    setup = small(recipe, data=data, noising=noising).build(0)
    sizes = [len(split) for split in setup.data.values()]
    assert sizes == ([14, 3, 3] if split else [16, 2, 2])
    assert setup.notes[0].startswith("Split by the names" if split else "Shuffled into 80 %")
    found = [
        vocabulary_of(setup).decode(tokens[:length]).split()
        for part in setup.data.values()
        for tokens, length in zip(part.x.tokens, part.num_units, strict=True)
    ]
    expected = [[*row, "."] if write is text else row for row in rows]
    assert sorted(found) == sorted(expected)
    if write is conllu:
        assert setup.data["train"].x.heads[0, :3].tolist() == [-1, 0, 1]


@pytest.mark.parametrize(
    ("recipe", "source", "content", "sentence"),
    [
        (
            "edits/ewt",
            "conllu",
            None,
            "'conllu' reads a file or a folder of yours: give it as --data",
        ),
        ("edits/multi30k", "text", None, "'text' reads a file or a folder of yours"),
        (
            "edits/multi30k",
            "multi30k",
            "a b c",
            r"is one file, but .* For a text of yours give --data",
        ),
        ("edits/ewt", "text", "a b c", r"whose sentences have no trees. Use 'ewt' or 'conllu'"),
        ("edits/ewt", "ewt", "no tree\n" * 20, "has 1 columns separated by tabs, expected 10"),
        ("edits/multi30k", "text", " \n" * 9, "has no line with text"),
        ("edits/multi30k", "text", "a b\n" * 2, "has 2 sequences: too few"),
        ("edits/multi30k", "text", b"\xff\xfe" * 9, "is not UTF-8"),
    ],
)
def test_files_without_sentences_are_refused(tmp_path, recipe, source, content, sentence):
    changed = with_source(RECIPES[recipe], "data", source)
    if content is not None:
        path = tmp_path / "own"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        changed = replace(changed, data=replace(changed.data, path=str(path)))
    with pytest.raises(UserError, match=sentence):
        changed.build(0)


def test_batches_of_text_hold_sentences_of_like_length():
    """Oracle: the same rows, each once an epoch, and less padding than in random order."""
    setup = small("edits/remap").build(0)
    train = setup.data["train"]
    batches = training_batches(train, 2, seed=0)
    epoch = [next(batches) for _ in range(len(train) // 2)]
    rows = np.concatenate([batch.rows for batch in epoch])
    assert sorted(rows) == list(range(len(train)))
    spread = np.mean([np.ptp(batch.num_units) for batch in epoch])
    random = np.random.default_rng(0).permutation(train.num_units).reshape(-1, 2)
    assert spread < 0.5 * np.ptp(random, axis=1).mean()
    lengths = np.array([batch.num_units.mean() for batch in epoch])
    assert np.abs(np.corrcoef(lengths, np.arange(len(lengths)))[0, 1]) < 0.5
    assert jax.tree.leaves(epoch[0].x)[0].shape[0] == 2

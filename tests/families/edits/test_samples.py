"""Texts drawn from a run, in words and in pictures, with what each decision cost."""

import json
from dataclasses import replace
from xml.etree import ElementTree as ET

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.image import imread

from tightbound.data.sentences import PAD, Sentence
from tightbound.data.vocabulary import word_vocabulary
from tightbound.errors import UserError
from tightbound.families.edits import explained as trajectory_samples
from tightbound.families.edits.details import vocabulary_of
from tightbound.families.edits.explained import explain, read_start, search
from tightbound.families.edits.in_words import DrawnTrajectory
from tightbound.families.edits.network import CPY, END, INS, SUB
from tightbound.families.edits.samples import bound_by_string, note_trajectory
from tightbound.families.edits.trajectory import Edits, Trajectory
from tightbound.families.lookup import find_recipe
from tightbound.families.settings import with_settings
from tightbound.runs.training import TrainOptions, begin
from tightbound.train.folder import RunFolder
from tightbound.train.run import Plateau, Progress, first_state, run

SETTINGS = {
    "data": {"doublings": 1},
    "noising": {"law": "token-drop", "max_steps": 3},
    "model": {"size": 8, "num_heads": 1, "hidden_size": 8, "num_layers": 1},
}


@pytest.fixture(scope="module")
def setup():
    """Two equal letters, taken apart by token drop, and a tiny model."""
    return with_settings(find_recipe("edits/doubling"), SETTINGS).build(0)


@pytest.fixture(scope="module")
def text_run(setup, tmp_path_factory):
    """A run of it that has just begun: its first checkpoint is there, and no step is compiled."""
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "text")
    recipe = with_settings(find_recipe("edits/doubling"), SETTINGS)
    begin(recipe, "edits/doubling", folder, TrainOptions(), setup)
    next(iter(run(setup, folder)))
    return folder.path


@pytest.fixture(scope="module")
def sampled(tightbound, text_run):
    """Three texts that go on from given strings, and an explained one."""
    given = ["--prefix", "a", "--start", "a | ab", "--temperature", "0.5", "--row", "1"]
    result = tightbound("sample", text_run, "--num", "3", *given, "--json")
    assert result.code == 0, result.err
    return result.document


def as_written(drawn, model, vocabulary):
    """The strings and edits of a document, as the model reads them."""
    strings = np.full((model.max_steps, model.max_length), PAD)
    table = np.zeros((2, model.max_steps, model.num_positions), int)
    numbers = {"INS": INS, "CPY": CPY, "SUB": SUB, "EOS": END}
    for step, string in enumerate(drawn.strings):
        words = vocabulary.encode([edit.word for edit in string.edits[:-1]])
        strings[step, : len(words)] = words
        for position, edit in enumerate(string.edits):
            table[:, step, position] = numbers[edit.op], edit.source
    num_steps = jnp.asarray(len(drawn.strings))
    return Trajectory(jnp.asarray(strings), num_steps), Edits(*map(jnp.asarray, table))


def test_the_total_of_a_drawn_text_is_the_models_log_p_of_it(sampled, setup):
    """Identity: read back from the document and scored by teacher forcing, words given left out."""
    model = setup.model
    score = jax.jit(lambda x, z: sum(term.sum() for term in model.score(x, z).values()))
    for document in sampled["trajectories"]:
        drawn = DrawnTrajectory.from_json(document)
        trajectory, edits = as_written(drawn, model, vocabulary_of(setup))
        log_p = score(Sentence(trajectory.last, jnp.asarray(1)), (trajectory, edits))
        assert document["total"] == drawn.total == pytest.approx(float(log_p), abs=1e-9)
        wrong = replace(drawn, strings=drawn.strings[:-1])  # the planted bug: a string left out
        assert abs(wrong.total - float(log_p)) > 0.1


def test_what_is_given_is_written_and_costs_nothing(sampled):
    """Every string begins with the prefix; the first strings are those of the start."""
    for document in sampled["trajectories"]:
        strings = DrawnTrajectory.from_json(document).strings
        assert [string.text for string in strings[:2]] == ["a", "ab"]
        assert all(string.text.startswith("a") for string in strings)
        assert strings[0].edits[0].name == "INS(a)"
        assert all(string.edits[0].name == "CPY(1)" for string in strings[2:])
        assert all(string.edits[0].weight is None for string in strings)
        assert all(edit.weight is not None for s in strings for edit in s.edits[1:])


def test_the_files_are_text_documents_and_pictures(sampled, text_run):
    """Oracle: other readers. What is printed without --json is what the text files hold."""
    folder = text_run / "samples"
    names = {f"{n}-step-00000000" for n in ("trajectories", "explained")}
    files = [f"{name}.{end}" for name in names for end in ("txt", "json", "svg", "png")]
    assert {str(folder / name) for name in [*files, "by_step.json"]} == set(sampled["files"])
    for name in names:
        ET.parse(folder / f"{name}.svg")
        assert imread(folder / f"{name}.png").std() > 0.01
    document = json.loads((folder / "trajectories-step-00000000.json").read_text())
    assert document["trajectories"] == sampled["trajectories"]
    text = (folder / "trajectories-step-00000000.txt").read_text()
    assert text.count("drawn at temperature 0.5, log p at 1") == 3
    assert "held-out sentence 1" in (folder / "explained-step-00000000.txt").read_text()


def test_an_explained_sentence_is_one_draw_of_the_elbo(setup):
    """Identity: all weights less log q(z | x) are the log-weight of the same draw; and so are, over
    all sentences, the strings' classes and log q together."""
    batch = setup.data["valid"].take(np.arange(3))
    drawn, terms = explain(
        setup.model, setup.proposal, vocabulary_of(setup), batch, jax.random.key(0)
    )
    log_weights = np.asarray(terms.log_weights)
    assert drawn.total == pytest.approx(log_weights[0, 0], abs=1e-9)
    edits = [edit for string in drawn.strings for edit in string.edits]
    assert abs(sum(edit.log_q for edit in edits)) > 0.1  # the planted bug: the choice left out
    assert drawn.log_q
    found = bound_by_string(setup.model, terms, np.asarray(batch.x.num_given), "valid")
    parts = [c["value"] for s in found["strings"] for c in s["classes"].values()]
    assert sum(parts) + found["proposal"]["value"] == pytest.approx(log_weights.mean(), abs=1e-9)
    totals = [string["total"]["value"] for string in found["strings"]]
    assert sum(totals) == pytest.approx(sum(parts), abs=1e-9)
    assert found["strings"][0]["rows"] == found["num_rows"] == 3


def test_training_notes_a_text_at_every_evaluation_compiled_once(setup, monkeypatch, tmp_path):
    """One line per evaluation, always with the same key; a step done again replaces its line and
    later ones. Tracing is counted where the sampler calls the generator."""
    traced, generate = [], trajectory_samples.generate
    monkeypatch.setattr(
        trajectory_samples, "generate", lambda *a, **k: traced.append(1) or generate(*a, **k)
    )
    folder = RunFolder(tmp_path)
    first = first_state(setup)
    learned = eqx.tree_at(lambda s: s.model.step_hazard, first, setup.model.step_hazard + 0.01)
    states = {10: first, 20: learned, 30: first}
    noted = [note_trajectory(setup, Progress(n, s, Plateau()), folder) for n, s in states.items()]
    lines = [line.removeprefix("A text drawn at ") for line in noted]
    path = folder.samples / "trajectories.txt"
    assert path.read_text() == "\n".join(lines) + "\n"
    assert [line.split(":")[0] for line in lines] == ["step 10", "step 20", "step 30"]
    texts = [line.split(": ", 1)[1] for line in lines]
    assert texts[0] == texts[2] != texts[1]
    assert (
        note_trajectory(setup, Progress(20, learned, Plateau()), folder)
        == f"A text drawn at {lines[1]}"
    )
    assert path.read_text() == "\n".join(lines[:2]) + "\n"
    assert len(traced) == 1


def test_a_run_without_words_notes_none(setup, tmp_path):
    """Nothing is written for runs on images."""
    progress = Progress(0, first_state(setup), Plateau())
    wordless = replace(setup, details=None)
    assert note_trajectory(wordless, progress, RunFolder(tmp_path)) == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--prefix", "aq"], "`q` is not a letter"),
        (["--prefix", "aaa"], "at most 2"),
        (["--start", "a | a | a | a"], "at most 3"),
        (["--start", "a |  | a"], "an empty string"),
        (["--prefix", "b", "--start", "a"], "does not begin with the words of --prefix"),
        (["--temperature", "0"], "--temperature 0 was asked for"),
        (["--temperature", "nan"], "--temperature nan was asked for"),
        (["--num", "0"], "--num 0 was asked for"),
        (["--row", "3"], "the rows 0 to 2"),
        (["--columns", "2"], "--columns is for runs on images"),
    ],
)
def test_what_cannot_be_sampled_is_refused(tightbound, text_run, options, words):
    """One sentence, exit code 2."""
    result = tightbound("sample", text_run, *options)
    assert result.code == 2
    assert words in result.err
    assert "Traceback" not in result.err


def test_unknown_words_are_named(setup):
    """Where a word may be unknown to the model, it may not be asked for."""
    vocabulary = word_vocabulary([["the", "end"]])
    with pytest.raises(UserError, match="--prefix has 'start', which this run's vocabulary"):
        read_start(setup.model, vocabulary, "the start", "")


def test_a_beam_lists_likely_texts_best_first(setup):
    """Oracle: every total is the model's log p of what was written, and none is below the next."""
    vocabulary = vocabulary_of(setup)
    found = search(setup.model, vocabulary, 3, start=read_start(setup.model, vocabulary, "a", ""))
    totals = [drawn.total for drawn in found]
    assert totals == sorted(totals, reverse=True)
    for drawn in found:
        written = as_written(drawn, setup.model, vocabulary)
        x = Sentence(written[0].last, jnp.asarray(1))
        scores = setup.model.score(x, written)
        assert drawn.total == pytest.approx(sum(float(term.sum()) for term in scores.values()))

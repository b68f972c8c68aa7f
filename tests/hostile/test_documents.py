"""JSON documents of the wrong shape in a run folder: every entry of every document.

Oracle: the exit code, one sentence that names the file, and the files before and after.
"""

import json
import shutil

import pytest

from fixtures.command_line import call
from hostile.checked import assert_refused, checked, entries, everything_in, replaced_at
from hostile.made_run import documents
from tightbound.train.checkpoint import checkpoints

READERS = {
    "recipe.json": ("doctor", "report"),
    "environment.json": ("report",),
    "baselines.json": ("doctor", "report"),
    "source.json": ("doctor",),
    "findings.json": ("doctor", "report"),
    "why.json": ("report",),
}
# Runs of these families read the documents that samples leave.
FAMILIES = {
    "texts": "dlm/toy-grammar",
    "language": "dlm/toy-grammar",
    "prediction": "stein/line",
    "target": "stein/gaussian",
    "profile": "vrnn/toy-strokes",
    "trajectories": "edits/doubling",
    "by_step": "edits/doubling",
}
WHOLES = {
    "empty": b"",
    "cut off": b'{"step": ',
    "no text": b"\xff\xfe\x00",
    "a list": b"[]",
    "a number": b"3",
    "a word": b'"x"',
    "nothing": b"null",
    "not a number": b"NaN",
    "lists in lists": b"[" * 200_000,
    "half a pair": b'{"step": "\\ud800"}',
}
# entries that no reader asks for, and those that another test is about
UNREAD = {"schema", "advice", "settings", "change_under_trained_law", "processors", "device"}
WRONG = {"hostile": ["\x1b]0;owned\x07"]}
RIGHT = documents()


def cases():
    for name, document in RIGHT.items():
        for what, content in WHOLES.items():
            yield pytest.param(name, content, id=f"{name} is {what}")
        for path in entries(document):
            if not UNREAD & set(path) and path != ("versions",):
                value = 7 if isinstance(value_at(document, path), dict | list | str) else WRONG
                content = json.dumps(replaced_at(document, path, value)).encode()
                yield pytest.param(name, content, id=f"{name} {'.'.join(map(str, path))}")


def value_at(document, path):
    for key in path:
        document = document[key]
    return document


def of_family(run, name):
    """The folder as one of the family whose samples leave this document."""
    recipe = FAMILIES.get(name.split("/")[-1].split("-")[0].removesuffix(".json"))
    if recipe is not None:
        document = RIGHT["recipe.json"] | {"recipe": recipe}
        (run / "recipe.json").write_text(json.dumps(document))


def test_the_folder_that_all_cases_are_made_from_is_right(run):
    for name in RIGHT:
        of_family(run, name)
        for command in READERS.get(name.split("/")[-1], ("report",)):
            options = ["--no-samples"] if command == "report" else []
            assert call([command, run, *options]).code in (0, 1)
    assert "made by hand" in call(["runs", run.parent]).out


@pytest.mark.parametrize(("name", "content"), list(cases()))
def test_a_document_of_another_shape_is_named_in_a_sentence(run, name, content):
    of_family(run, name)
    (run / name).write_bytes(content)
    before = everything_in(run.parent)
    if name.endswith("manifest.json"):  # read before anything is built of it
        valid, (says,) = checkpoints(run / "checkpoints")
        assert (valid, str(run / name) in says) == ([], True)
        return
    for command in READERS.get(name.split("/")[-1], ("report",)):
        options = ["--no-samples"] if command == "report" else []
        assert_refused(checked(command, run, *options), command, name.split("/")[-1])
    assert everything_in(run.parent) == before


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"recipe": 3}'])
@pytest.mark.parametrize("name", ["recipe.json", "findings.json"])
def test_one_bad_folder_does_not_break_the_list(run, right, name, content):
    """The others are listed, and the bad one is named."""
    (run / name).write_bytes(content)
    shutil.copytree(right, run.parent / "other")
    listed = checked("runs", run.parent, "--json")
    assert [row["run"] for row in listed.document["runs"]] == [str(run.parent / "other")]
    assert f"Left out: {run / name}" in listed.err


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"step": "x"}', "`step`"),
        ("[]", "Expected `object`"),
        ("NaN", "no record"),
        ('{"step": 9, "note": "\x1b"}', "no record"),
        ('{"step": -1}', "`step`"),
        ('{"step": 9, "held_out": []}', "`held_out`"),
        ('{"step": 9, "held_out": {"bound": 3, "sites": {}}}', "bound"),
        ('{"step": 9, "train": {"bound": null, "sites": []}}', "bound"),
    ],
)
def test_a_record_of_another_shape_is_left_out_with_its_line_named(run, caplog, line, says):
    with open(run / "steps.jsonl", "a") as file:
        file.write(line + "\n")
    assert checked("report", run, "--no-samples").code == 0
    assert "Line 3 of" in caplog.text
    assert says in caplog.text
    assert checked("doctor", run).code in (0, 1)
    assert checked("runs", run.parent, "--json").document["runs"][0]["step"] == 4


SETTINGS = RIGHT["recipe.json"]["settings"]


@pytest.mark.parametrize(
    "path", [path for path in entries(SETTINGS) if value_at(SETTINGS, path) is not None], ids=str
)
def test_a_saved_setting_of_another_type_is_named(run, path):
    """Oracle: the setting's dotted name. Nothing is built."""
    document = replaced_at(RIGHT["recipe.json"], ("settings", *path), WRONG)
    if isinstance(value_at(SETTINGS, path), dict):
        document = replaced_at(RIGHT["recipe.json"], ("settings", *path), 7)
    (run / "recipe.json").write_text(json.dumps(document))
    assert_refused(checked("evaluate", run), "evaluate", ".".join(path))

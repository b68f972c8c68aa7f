"""Folders from somebody else: they run no code, lead nowhere else, and are shown, not obeyed.

Oracle: a file that the code would make, the files outside before and after, and what a parser of HTML and
a terminal would make of the output.
"""

import json
import os
import shutil
import socket
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from fixtures.command_line import call
from hostile.checked import OBEYED, assert_refused, checked, everything_in
from hostile.made_run import documents
from tightbound.errors import UserError
from tightbound.families.own_modules import own_path
from tightbound.runs.opened import open_run
from tightbound.runs.started_here import remember
from tightbound.train.checkpoint import checkpoints

RIGHT = documents()
READING = ("doctor", "report", "why", "evaluate", "sample")
ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202eevil\r"
MARKUP = (
    "</script><script>alert(1)</script><meta http-equiv=refresh content='0;url=//x'>"
    "<base href=//x><img src=x onerror=alert(2)><form action=//x>\"'&"
)


def options(command):
    return ["--no-samples"] if command == "report" else []


# No code


@pytest.fixture
def evil(tmp_path):
    """A recipe file, and a package, that leave a mark when they are run; and where the mark would be."""
    mark = tmp_path / "executed"
    source = f"open({str(mark)!r}, 'w').close()\n"
    (tmp_path / "evil.py").write_text(source)
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text(source)
    return mark


def named(run, recipe):
    (run / "recipe.json").write_text(json.dumps(RIGHT["recipe.json"] | {"recipe": str(recipe)}))


@pytest.mark.parametrize("what", ["evil.py:recipe", "package:recipe", "./evil.py:__name__"])
@pytest.mark.parametrize("command", [*READING, "compare", "runs", "doctor --laws"])
def test_a_recipe_that_a_folder_names_is_not_run(run, evil, what, command, monkeypatch):
    monkeypatch.chdir(run.parent)
    named(run, what)
    name, *rest = command.split()
    places = [run.parent] if name == "runs" else [run, run] if name == "compare" else [run]
    result = checked(name, *places, *rest, *options(name))
    assert not evil.exists()
    if command in ("doctor", "report", "runs"):
        assert result.code in (0, 1)  # they need none of it
    else:
        assert_refused(result, name, "--trust-recipe")


@pytest.mark.parametrize("command", ["doctor", "report"])
def test_even_a_recipe_that_was_trained_with_here_is_not_run_by_what_only_reads(run, evil, command):
    named(run, f"{evil.parent / 'evil.py'}:recipe")
    remember(f"{evil.parent / 'evil.py'}:recipe")
    assert checked(command, run, *options(command)).code in (0, 1)
    assert not evil.exists()


OWN = "class Recipe: build = None\nrecipe = Recipe()\n"


def test_a_recipe_file_is_known_by_its_path_and_its_content(run):
    """Written down outside the folder; a changed file, and the same file elsewhere, are others."""
    mine, theirs = run.parent / "mine.py", run.parent / "other" / "mine.py"
    theirs.parent.mkdir()
    for path in (mine, theirs):
        path.write_text(OWN)
    remember(f"{mine}:recipe")
    named(run, f"{mine}:recipe")
    assert open_run(run).how_to_trust
    with pytest.raises(UserError, match="was meant"):  # it was run, and is no dataclass
        _ = open_run(run).recipe
    named(run, f"{theirs}:recipe")
    assert_refused(checked("evaluate", run), "evaluate", str(theirs), "--trust-recipe")
    named(run, f"{mine}:recipe")
    mine.write_text(OWN + "# changed\n")
    assert_refused(checked("evaluate", run), "evaluate", "has changed since")


def test_the_file_that_the_user_trusts_is_run_and_not_the_one_that_the_folder_names(run, evil):
    mine = run.parent / "mine" / "evil.py"
    mine.parent.mkdir()
    mine.write_text(f"open({str(run.parent / 'mine-was-run')!r}, 'w').close()\n{OWN}")
    named(run, f"{evil.parent / 'evil.py'}:recipe")
    with pytest.raises(UserError, match="was meant"):
        _ = open_run(run, trust_recipe=[str(mine)]).recipe
    assert (run.parent / "mine-was-run").exists()
    assert not evil.exists()


def test_what_is_run_is_the_source_and_not_the_bytecode_beside_it(run, evil):
    """A cache with the time and the size of a harmless source, as Python trusts it."""
    import importlib.util
    import py_compile

    mine = run.parent / "mine.py"
    source = (run.parent / "evil.py").read_text()
    mine.write_text(source)
    cache = Path(importlib.util.cache_from_source(str(mine)))
    py_compile.compile(str(mine), cfile=str(cache))
    status = mine.stat()
    mine.write_text(OWN.ljust(len(source))[: len(source)].rstrip() + "\n")
    mine.write_text(mine.read_text().rstrip("\n").ljust(len(source) - 1) + "\n")
    os.utime(mine, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert mine.stat().st_size == status.st_size
    named(run, f"{mine}:recipe")
    with pytest.raises(UserError, match="was meant"):
        _ = open_run(run, trust_recipe=[str(mine)]).recipe
    assert not evil.exists()


def test_an_arm_of_a_sweep_that_names_a_file_is_refused_before_anything_runs(tmp_path, evil):
    asked = ["sweep", "vae/digits", "--vary", "run.steps=[1]", "--sweep-dir", tmp_path / "sweep"]
    write_sweep(tmp_path / "sweep", recipe=f"{tmp_path / 'evil.py'}:recipe")
    assert_refused(checked(*asked, "--seeds", "1"), "sweep", "evil.py", "--trust-recipe")
    other = tmp_path / "mine" / "evil.py"
    other.parent.mkdir()
    other.write_text("")
    assert_refused(checked(*asked, "--seeds", "1", "--trust-recipe", other), "sweep", "evil.py")
    assert not evil.exists()


def write_sweep(folder, **changes):
    """A sweep's folder as `sweep vae/digits --vary run.steps=[1] --seeds 1` begins it, but for an arm."""
    from tightbound.commands.sweep import SweepOptions, plan_of
    from tightbound.families.lookup import find_recipe
    from tightbound.sweep.folder import SweepFolder

    asked = SweepOptions(vary=("run.steps=[1]",), seeds=1)
    plan = plan_of("vae/digits", find_recipe("vae/digits"), {}, asked)
    folder.mkdir()
    SweepFolder(folder).extend(plan)
    document = json.loads((folder / "sweep.json").read_text())
    document["arms"][0] |= {"name": "hostile", **changes}
    (folder / "sweep.json").write_text(json.dumps(document))
    return document


@pytest.mark.parametrize(
    "name", ["../../../outside", "/tmp/outside", "..", ".", "", "a/b", "a\n", "\x1b[2J", "a" * 300]
)
def test_an_arm_is_named_by_no_path(tmp_path, name):
    write_sweep(tmp_path / "sweep", name=name)
    before = everything_in(tmp_path)
    asked = ["sweep", "vae/digits", "--vary", "run.steps=[1]", "--sweep-dir", tmp_path / "sweep"]
    assert_refused(checked(*asked, "--seeds", "1"), "sweep", "sweep.json", "arms[0].name")
    after = everything_in(tmp_path)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) <= {"sweep/lock"}


@pytest.mark.parametrize(
    "entry",
    [
        {"num_seeds": 10**9},
        {"num_seeds": 0},
        {"num_seeds": "3"},
        {"arms": {}},
        {"evaluation": {"split": "test"}},
        {"doctor": "yes"},
        {"shared": 3},
    ],
    ids=str,
)
def test_a_sweep_of_another_shape_is_named(tmp_path, entry):
    document = write_sweep(tmp_path / "sweep")
    (tmp_path / "sweep" / "sweep.json").write_text(json.dumps(document | entry))
    asked = ["sweep", "vae/digits", "--vary", "run.steps=[1]", "--sweep-dir", tmp_path / "sweep"]
    assert_refused(checked(*asked, "--seeds", "1"), "sweep", "sweep.json")


# Nowhere else


LINKED = {
    "bound.png": "report",
    ".bound.png.partial": "report",
    "report.html": "report",
    ".report.html.partial": "report",
    "samples/prior-step-00000004.png": "report",
    "samples/a.png": "report",
    "samples/texts-step-00000009.json": "report",
    "recipe.json": "doctor",
    "findings.json": "doctor",
    "steps.jsonl": "doctor",
    "evidence/step-00000004.npz": "doctor",
    "evidence/.step-00000004.npz.partial": "doctor",
    "checkpoints/step-00000004/state.safetensors": "report",
    "checkpoints/step-00000004/manifest.json": "report",
    "checkpoints/.partial-00000008": "report",
    "why.json": "why",
    "lock": "train",
    ".recipe.json.partial": "train",
    "tensorboard": "train",
    "samples": "sample",
    "evidence": "doctor",
    "checkpoints": "evaluate",
}


def called(command, run):
    if command == "train":
        return checked("train", "vae/digits", "--run-dir", run)
    return checked(command, run, *options(command))


@pytest.mark.parametrize("name", LINKED)
def test_nothing_is_read_or_written_through_a_link(run, name):
    """The file, or the folder, that the link stands for is as it was; the page has nothing of it."""
    outside = run.parent / "outside"
    if name in ("samples", "evidence", "checkpoints", "tensorboard"):
        shutil.copytree(run / "samples", outside)
    else:
        outside.write_bytes(b"\x89PNG\r\n\x1a\nsecret")
    place = run / name
    shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
    place.symlink_to(outside)
    before = everything_in(run.parent)
    assert_refused(called(LINKED[name], run), LINKED[name], place.name, "is a link")
    assert everything_in(run.parent) == before
    listed = checked("runs", run.parent)
    assert "is a link" in listed.err
    assert everything_in(run.parent) == before


@pytest.mark.parametrize("kind", ["pipe", "socket"])
@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("recipe.json", "doctor"),
        ("steps.jsonl", "report"),
        ("evidence/step-00000004.npz", "doctor"),
        ("samples/a.png", "report"),
        ("checkpoints/step-00000004/state.safetensors", "evaluate"),
        ("lock", "train"),
    ],
)
def test_what_may_never_end_is_not_opened(run, name, command, kind, monkeypatch):
    place = run / name
    place.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(place)
    else:
        monkeypatch.chdir(place.parent)  # the name of a socket may not be long
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(place.name)
    assert_refused(called(command, run), command, place.name, f"is a {kind}")


@pytest.mark.parametrize("name", ["/dev/zero", "../../../outside", "other"])
def test_a_manifest_reads_no_file_but_the_checkpoints_own(run, name):
    manifest = run / "checkpoints" / "step-00000004" / "manifest.json"
    document = json.loads(manifest.read_text()) | {"sha256": {name: "0" * 64}}
    manifest.write_text(json.dumps(document))
    valid, (says,) = checkpoints(run / "checkpoints")
    assert valid == []
    assert "must say the sha256 of" in says


@pytest.mark.parametrize("content", [b"secret", b"GIF89a", b"<svg onload=alert(1)>", b""])
def test_a_picture_that_is_none_does_not_come_into_the_page(run, content):
    (run / "samples" / "a.png").write_bytes(content)
    assert_refused(checked("report", run, "--no-samples"), "report", "a.png is no PNG")


# Shown, not obeyed


class Page(HTMLParser):
    """The elements and attributes that a browser would act on."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.acts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name.startswith("on") or (name in ("href", "action", "srcdoc") and value):
                self.acts.append((tag, name, value))
            if name == "src" and not str(value).startswith("data:image/png;base64,"):
                self.acts.append((tag, name, value))


def with_text(document, text):
    """The document with every text in it replaced that is free."""
    kept = ("format", "sha256", "family", "kind", "verdict", "bound", "op", "recipe", "settings")
    if isinstance(document, dict):
        return {
            (key if key in KEYS else text): value if key in kept else with_text(value, text)
            for key, value in document.items()
        }
    if isinstance(document, list):
        return [with_text(one, text) for one in document]
    if isinstance(document, str) and document not in ("nan", "inf", "-inf"):
        return text
    return document


def keys_of(document):
    if isinstance(document, dict):
        return set(document) | {key for value in document.values() for key in keys_of(value)}
    if isinstance(document, list):
        return {key for one in document for key in keys_of(one)}
    return set()


# names that the documents must have; others (of sites, groups, baselines) are free
FREE = {"uniform", "independent-pixel", "x", "z", "model.decoder", "proposal.encoder", "end", "jax"}
KEYS = {key for one in RIGHT.values() for key in keys_of(one)} - FREE - set("0123456789")


@pytest.mark.parametrize(
    "recipe", ["vae/digits", "dlm/toy-grammar", "stein/line", "vrnn/toy-strokes"]
)
def test_every_text_of_a_folder_is_escaped_in_the_page(run, recipe):
    """Notes, tokens, names of sites, of baselines and of modules, units, causes, versions."""
    for name, document in RIGHT.items():
        (run / name).write_text(json.dumps(with_text(document, MARKUP)))
    document = RIGHT["recipe.json"] | {"recipe": recipe, "note": MARKUP, "name": MARKUP}
    (run / "recipe.json").write_text(json.dumps(document | {"settings": {MARKUP: MARKUP}}))
    assert checked("report", run, "--no-samples").code == 0
    text = (run / "report.html").read_text()
    page = Page(text)
    assert page.acts == []
    assert page.tags.count("script") == 1
    assert page.tags.count("meta") == 3
    assert not {"base", "form", "iframe", "object", "link"} & set(page.tags)
    assert "base-uri 'none'; form-action 'none'" in text.replace("&#x27;", "'")


@pytest.mark.parametrize("command", ["doctor", "runs", "evaluate"])
def test_a_terminal_obeys_nothing_that_a_folder_says(run, command):
    for name, document in RIGHT.items():
        (run / name).write_text(json.dumps(with_text(document, ESCAPES)))
    recipe = {"recipe": "vae/digits" if command != "evaluate" else ESCAPES, "note": ESCAPES}
    (run / "recipe.json").write_text(json.dumps(RIGHT["recipe.json"] | recipe))
    for form in (
        [],
        ["--format", "markdown"],
        ["--format", "csv"],
        ["--format", "json"],
        ["--json"],
    ):
        if not form or command == "runs" or form == ["--json"]:
            place = run.parent if command == "runs" else run
            result = checked(command, place, *form)
            assert result.code == (2 if command == "evaluate" else result.code)


def test_the_names_of_files_and_of_arrays_are_shown_and_not_obeyed(tmp_path):
    path = tmp_path / f"{ESCAPES[:8]}weights.npz"
    np.savez(path, **{f"{ESCAPES}array": np.zeros(3)})
    assert_refused(checked("doctor", path), "doctor", "\\x1b]0;", "has no array `log_weights`")
    folder = tmp_path / "\x1b[2Jruns"
    folder.mkdir()
    assert "\\x1b[2Jruns" in checked("runs", folder).out
    assert_refused(checked("doctor", folder), "doctor", "\\x1b[2Jruns")


def test_a_cell_that_begins_a_formula_is_text_in_csv(run):
    formula = "=HYPERLINK(1)"
    (run / "recipe.json").write_text(json.dumps(RIGHT["recipe.json"] | {"note": formula}))
    assert f"'{formula}" in checked("runs", run.parent, "--format", "csv").out


# Forbidden, read-only, gone


@pytest.mark.parametrize("command", [*READING, "train", "runs"])
def test_what_the_system_refuses_is_one_sentence(run, command, monkeypatch):
    """As a folder without rights, or on a medium that is read only, refuses."""
    real = os.open

    def refusing(path, flags, *rest, **more):
        if str(run) in os.fspath(path) and Path(os.fspath(path)).is_relative_to(run):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", refusing)
    place = run.parent if command == "runs" else run
    result = called(command, place)
    if command == "runs":
        assert (result.code, "Permission denied" in result.err) == (0, True)
    else:
        assert_refused(result, command, str(run), "Permission denied")


@pytest.mark.parametrize("command", [*READING, "runs"])
def test_a_folder_that_is_not_there_is_one_sentence(tmp_path, command):
    assert_refused(checked(command, tmp_path / "gone"), command, str(tmp_path / "gone"))


def test_own_paths_are_told_from_names_of_ours():
    assert own_path("vae/digits") is None
    assert own_path("a.py:recipe") == Path("a.py")
    assert call(["recipes", "a.py:recipe"]).code == 2
    assert not OBEYED.search("a\tb\n")

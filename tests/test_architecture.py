"""The shape of the house: who imports whom, what the base install can do, what a name costs."""

import ast
import builtins
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import ModuleType

import pytest

import tightbound

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "tightbound"
NEEDS_AN_EXTRA = (
    "jax",
    "jaxlib",
    "equinox",
    "optax",
    "numpyro",
    "safetensors",
    "platformdirs",
    "sklearn",
    "matplotlib",
    "plotly",
    "tensorboardX",
    "mido",
)
BASE_MODULES = (
    *("diagnose.evidence", "diagnose.finding", "train.settings", "train.folder"),
    *("estimators.estimate", "estimators.units", "estimators.weights", "estimators.comparison"),
    *("diagnose.doctor", "report.terminal", "commands.doctor", "commands.explain"),
)

# A module belongs to the longest room that its name starts with. It may import its own room and
# whatever starts with a name on the right; docs/architecture.md draws the same arrows.
TRAINING = {"terms", "inference", "estimators", "models", "data", "evaluation", "families.family"}
NUMPY_ESTIMATORS = {
    f"estimators.{n}" for n in ("estimate", "units", "weights", "comparison", "ranking")
}
FAMILY = {
    *(*TRAINING, "train", "nn", "diagnose", "drill", "report", "families.lookup"),
    "families.sampling",
}
NAMES = ("images", "edits", "sequences", "language", "stein")
ARROWS: Mapping[str, set[str]] = {
    "errors": set(),
    "terms": set(),
    "unread": set(),
    "nn": {"data.strokes"},
    "outputs": {"nn"},
    "estimators": {"terms"},
    "data": {"estimators.estimate"},
    "models": {
        *("terms", "nn", "data.labelled", "data.points", "data.sentences", "data.sequences"),
        "data.images",
    },
    "inference": {"terms", "models", "data", "estimators.bounds"},
    "inference.reconstruction": {
        *("terms", "models", "data", "estimators.estimate", "estimators.units", "inference"),
    },
    "evaluation": {"terms", "inference", "estimators", "models", "data"},
    "train": {*TRAINING, "train"},
    "train.settings": set(),
    "train.folder": set(),
    "diagnose": {*TRAINING, "train", "nn"},
    "diagnose.evidence": set(),
    "diagnose.finding": {"estimators.estimate"},
    "diagnose.findings": {"diagnose.finding", "estimators.estimate"},
    "diagnose.case": {"diagnose.evidence", "diagnose.finding", "estimators.estimate"},
    "diagnose.checks": {
        *("diagnose.evidence", "diagnose.finding", "diagnose.case"),
        *NUMPY_ESTIMATORS,
    },
    "drill": {*TRAINING, "train", "diagnose", "families.lookup"},
    "families": set(),  # the records, in `family.py`
    "families.lookup": {"families.family", "train.settings", "train.setup"},
    "families.described": {"families.lookup"},
    "families.settings": {"families.lookup", "families.sources"},
    "families.sampling": {"train.loop", "train.setup"},
    **{f"families.{name}": {*FAMILY, f"families.{name}"} for name in NAMES},
    "families.edits.exact": {
        *("models", "data.sentences", "families.edits.model", "families.edits.network"),
        "families.edits.trajectory",
    },
    "report": {
        *("diagnose.evidence", "diagnose.finding", "diagnose.findings", "train.folder"),
        *NUMPY_ESTIMATORS,
        *("families.family", "families.settings"),
    },
    "runs": {*TRAINING, "train", "diagnose", "drill", "families", "report"},
    "sweep": {*("runs", "train", "families", "report", "evaluation"), *NUMPY_ESTIMATORS},
    "commands": {*TRAINING, "train", "diagnose", "report", "families", "sweep", "runs", "drill"},
    "commands.demo": {"cli", "commands.options", "diagnose", "families", "runs", "train"},
    "programs": {*TRAINING, "diagnose", "train"},
    "cli": {"commands", "families", "report", "train", "diagnose"},
}
EVERYWHERE = {"errors", "unread"}


def package_sources() -> dict[str, str]:
    """Every module of the package by its name without the package's: "models.vae"."""
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path.read_text()
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py"
    }


def import_graph(sources: Mapping[str, str], *, deferred: bool = True) -> dict[str, set[str]]:
    """Which modules of the package each one imports, wherever the import stands. Without
    `deferred`, only what runs when the module is imported: no functions, no TYPE_CHECKING."""
    return {
        name: {
            found
            for node in _nodes(ast.parse(text), deferred)
            for target in _targets(node)
            if (found := _module(target, sources)) is not None
        }
        for name, text in sources.items()
    }


def _nodes(tree: ast.AST, deferred: bool) -> Iterable[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        runs_later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or (
            isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        )
        if deferred or not runs_later:
            yield node
            yield from _nodes(node, deferred)


def _targets(node: ast.AST) -> list[str]:
    """The absolute names an import statement asks for: `from a import b` may mean module a.b."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "modules import each other by absolute names"
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def _module(target: str, sources: Mapping[str, str]) -> str | None:
    """The module of this package in which the target is found; None for other packages."""
    package, *parts = target.split(".")
    if package != "tightbound":
        return None
    names = (".".join(parts[:size]) for size in range(len(parts), 0, -1))
    return next((name for name in names if name in sources), None)


def room_of(module: str) -> str:
    """The longest room the module is in; KeyError names a module that has none."""
    rooms = [room for room in ARROWS if is_in(module, room)]
    if not rooms:
        raise KeyError(f"{module} is in no room of ARROWS")
    return max(rooms, key=len)


def is_in(module: str, room: str) -> bool:
    return module == room or module.startswith(room + ".")


def against_the_arrows(graph: Mapping[str, set[str]]) -> list[str]:
    return [
        f"{module} imports {target}"
        for module, targets in sorted(graph.items())
        for target in sorted(targets)
        if not any(
            is_in(target, room) for room in {room_of(module), *ARROWS[room_of(module)], *EVERYWHERE}
        )
    ]


def rooms(graph: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """The graph between rooms: "data", "models", "train.settings", ..."""
    joined: dict[str, set[str]] = {}
    for module, targets in graph.items():
        joined.setdefault(folder_of(module), set()).update(map(folder_of, targets))
    return {name: targets - {name} for name, targets in joined.items()}


def folder_of(module: str) -> str:
    """Its room; a referee with arrows of its own stands in the folder of its family."""
    room = room_of(module)
    return ".".join(room.split(".")[:2]) if room.startswith("families.") else room


def cycle(graph: Mapping[str, set[str]]) -> list[str]:
    """One cycle of imports, as the names on it; empty where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def reachable(graph: Mapping[str, set[str]], module: str) -> set[str]:
    """Everything that importing `module` may import, itself left out."""
    found, left = set(), [module]
    while left:
        new = graph[left.pop()] - found
        found |= new
        left += new
    return found


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """In a new process, which may keep its bytecode as a user's would."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def import_without(blocked: Iterable[str], modules: Iterable[str]) -> str:
    """Import the modules where `blocked` cannot be imported: what went wrong, or nothing."""
    lines = [
        "import sys",
        f"sys.modules.update(dict.fromkeys({list(blocked)!r}))",  # None there: ImportError
        *(f"import tightbound.{module}" for module in modules),
    ]
    return run([sys.executable, "-c", "\n".join(lines)]).stderr


def imported_by(code: str, names: Iterable[str]) -> list[str]:
    """Those of the names that are loaded after the code has run."""
    lines = [code, "import sys", f"print(*({set(names)!r} & set(sys.modules)))"]
    answer = run([sys.executable, "-c", "\n".join(lines)])
    assert answer.returncode == 0, answer.stderr
    return sorted(answer.stdout.split())


@pytest.fixture(scope="module")
def graph():
    return import_graph(package_sources())


# Imports between modules


def test_every_import_follows_an_arrow(graph):
    assert against_the_arrows(graph) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("estimators.bounds", "from tightbound.models.vae import VAE"),
        ("estimators.bounds", "from tightbound.models import vae"),
        ("estimators.bounds", "import tightbound.models.vae"),
        ("estimators.bounds", "def late():\n    from tightbound.models.vae import VAE"),
        ("families.edits.exact", "from tightbound.inference.weigh import weigh"),
        ("families.edits.exact", "from tightbound.estimators.bounds import elbo"),
        ("diagnose.checks.weights", "from tightbound.diagnose import probes"),
        ("diagnose.checks.weights", "from tightbound.estimators.bounds import elbo"),
        ("data.batch", "from tightbound.train.run import run"),
        ("report.tables", "from tightbound.train.run import run"),
    ],
)
def test_a_planted_import_against_the_arrows_is_found(module, line):
    sources = dict.fromkeys(package_sources(), "") | {module: line}
    assert len(against_the_arrows(import_graph(sources))) == 1


def test_a_module_outside_every_room_is_refused():
    with pytest.raises(KeyError, match="helpers is in no room"):
        against_the_arrows(import_graph({"helpers": "import tightbound.errors", "errors": ""}))


def test_rooms_and_modules_import_each_other_in_no_circle():
    running = import_graph(package_sources(), deferred=False)
    assert cycle(rooms(running)) == []
    assert cycle(running) == []


def test_a_planted_circle_is_found():
    sources = {
        "data.batch": "from tightbound.models import base",
        "models.base": "import tightbound.data.batch",
        "nn.a": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import tightbound.nn.b",
        "nn.b": "import tightbound.nn.a",
    }
    running = import_graph(sources, deferred=False)
    assert set(cycle(rooms(running))) == {"data", "models"}
    assert set(cycle(running)) == {"data.batch", "models.base"}
    assert cycle({name: running[name] for name in ("nn.a", "nn.b")}) == []


def test_the_referee_shares_no_code_with_what_it_judges(graph):
    judged = ("inference.weigh", "inference.filter", "inference.resampling", "estimators")
    borrowed = reachable(graph, "families.edits.exact")
    assert not [module for module in borrowed if any(is_in(module, room) for room in judged)]


def test_a_referee_that_borrows_by_a_detour_is_found():
    sources = {
        "inference.exact": "import tightbound.models.hmm",
        "models.hmm": "import tightbound.estimators.bounds",
        "estimators.bounds": "",
    }
    assert "estimators.bounds" in reachable(import_graph(sources), "inference.exact")


def test_estimators_reach_no_model(graph):
    estimators = [module for module in graph if is_in(module, "estimators")]
    assert len(estimators) >= 6
    assert not [(m, t) for m in estimators for t in reachable(graph, m) if t.startswith("models.")]


def test_no_file_outside_the_families_names_one():
    """But the list of public names, whose namespaces they are. Planted: a general room that asks for one."""
    files = {
        path.relative_to(PACKAGE).as_posix(): path.read_text()
        for path in PACKAGE.rglob("*.py")
        if "families" not in path.relative_to(PACKAGE).parts
    }
    assert len(files) > 100
    assert naming_a_family(files) == []
    assert naming_a_family({"a.py": "from tightbound.families import edits"}) == ["a.py"]


def naming_a_family(files: Mapping[str, str]) -> list[str]:
    named = re.compile(rf"families(\.| import .*\b)({'|'.join(NAMES)})\b")
    return [name for name, text in files.items() if named.search(text)]


def test_no_module_is_named_after_nothing():
    vague = {"utils", "util", "helpers", "common", "misc", "manager", "registry"}
    assert not [m for m in package_sources() if vague & set(m.split("."))]


# What imports without an extra


def test_checks_and_numpy_estimators_work_with_the_base_install():
    checks = [module for module in package_sources() if is_in(module, "diagnose.checks")]
    assert checks
    assert import_without(NEEDS_AN_EXTRA, [*checks, *BASE_MODULES]) == ""


def test_a_module_that_needs_jax_fails_the_same_way_of_looking():
    assert "None in sys.modules" in import_without(NEEDS_AN_EXTRA, ["estimators.bounds"])


def test_recipes_are_looked_up_without_jax():
    code = "from tightbound.families.lookup import find_recipe; find_recipe('vae/digits')"
    assert imported_by(code, ("jax", "equinox", "numpyro")) == []


def test_importing_the_package_loads_neither_jax_nor_numpy():
    assert imported_by("import tightbound", ("jax", "numpy", "scipy")) == []
    spaces = (
        "import tightbound; tightbound.stein.__all__; tightbound.models.__all__; tightbound.data"
    )
    assert imported_by(spaces, ("jax", "numpy", "scipy")) == []
    assert imported_by("from tightbound.families import FAMILIES", ("jax", "numpy")) == []
    assert imported_by("import tightbound; tightbound.ess", ("jax", "numpy")) == ["numpy"]
    assert imported_by("import tightbound; tightbound.elbo", ("jax", "numpy")) == ["jax", "numpy"]


def test_help_imports_no_jax():
    code = (
        "import contextlib, io, sys\n"
        "from tightbound.cli import main\n"
        "sys.argv = ['tightbound', '--help']\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        "    main()\n"
    )
    assert imported_by(code, ("jax", "equinox", "numpyro")) == []


def test_help_answers_in_under_three_tenths_of_a_second():
    """Oracle: the clock around a whole new process. The best of five: other tests run beside it."""
    command = [str(Path(sys.executable).with_name("tightbound")), "--help"]
    assert min(seconds(command) for _ in range(5)) < 0.3


def test_a_command_that_imports_jax_would_be_too_slow():
    assert (
        min(seconds([sys.executable, "-c", "import jax, equinox, numpyro"]) for _ in range(2)) > 0.3
    )


def seconds(command: list[str]) -> float:
    begun = time.perf_counter()
    done = run(command)
    assert done.returncode == 0, done.stderr
    return time.perf_counter() - begun


# Public names

TOP = "tb"


def documented_names(page: str, mark: str = "") -> dict[str, list[str]]:
    """The names in the first column of the page's tables, by the namespace that the heading names:
    those under other headings stand at the top. With a mark, only names that carry it."""
    names: dict[str, list[str]] = {}
    for section in re.split(r"^## ", page, flags=re.MULTILINE)[1:]:
        heading = re.match(r"`(tb\.\w+)`", section)
        place = TOP if heading is None else heading[1]
        names.setdefault(place, []).extend(
            re.findall(rf"^\| `(\w+)`{mark}", section, flags=re.MULTILINE)
        )
    return names


def public_names() -> dict[str, list[str]]:
    """What stands at the top and in every namespace, sorted."""
    values = {name: getattr(tightbound, name) for name in tightbound.__all__}
    spaces = {name: value for name, value in values.items() if isinstance(value, ModuleType)}
    return {TOP: sorted(values)} | {
        f"{TOP}.{name}": sorted(space.__all__) for name, space in spaces.items()
    }


def stubs() -> dict[str, str]:
    """Every stub of the package: what attaches names to the top, and to the namespaces."""
    return {
        str(path.relative_to(PACKAGE).parent): path.read_text() for path in PACKAGE.rglob("*.pyi")
    }


def repeated(stubs: Mapping[str, str], listed: Iterable[str] = ()) -> list[str]:
    """Names that two lines of stubs attach, or a line and a namespace without a stub, which lists its
    names. A module may stand in its room and at the top."""
    names = [
        alias.asname or alias.name
        for text in stubs.values()
        for node in ast.parse(text).body
        if isinstance(node, ast.ImportFrom) and node.module is not None
        for alias in node.names
    ]
    return sorted(name for name, times in Counter([*names, *listed]).items() if times > 1)


def test_every_public_name_has_one_line_in_the_docs():
    documented = documented_names((ROOT / "docs" / "library.md").read_text())
    assert {place: sorted(names) for place, names in documented.items() if names} == public_names()


def test_a_name_without_a_line_and_a_line_twice_are_found():
    page = (
        "## Numbers\n| name | what |\n|---|---|\n| `elbo` | a bound |\n| `ess` ○ | text |\n| `elbo` | twice |\n"
        "## `tb.stein`\n| `svgd` | points |\n## By path\nMore.\n"
    )
    assert documented_names(page) == {TOP: ["elbo", "ess", "elbo"], "tb.stein": ["svgd"]}
    assert documented_names(page, mark=" ○") == {TOP: ["ess"], "tb.stein": []}


def test_the_top_can_be_read_at_one_sitting():
    assert len(tightbound.__all__) <= 65
    assert not set(tightbound.__all__) & set(dir(builtins))


def test_no_two_public_things_have_one_name():
    listed = [*tightbound.kernels.__all__, *tightbound.outputs.__all__]
    assert set(stubs()) >= {".", "models", "families/stein"}
    assert repeated(stubs(), listed) == []


def test_a_planted_second_class_of_one_name_is_found():
    """In one stub, in two, and in a namespace that has no stub."""
    line = "from .mixture import Mixture as Mixture\n"
    other = "from .law import Mixture as Mixture\n"
    assert repeated({"models": line + other}) == ["Mixture"]
    assert repeated({"models": line, "families/stein": other}) == ["Mixture"]
    assert repeated({"models": line}, ["Mixture"]) == ["Mixture"]
    assert repeated({"models": line, ".": "from . import models\n"}, ["Linear"]) == []


def test_every_public_name_is_what_its_module_defines():
    """Whichever module is imported first: `tightbound.evaluate` is the function, not the module."""
    code = (
        "import tightbound.models.mixture, tightbound.train.setup\n"
        "from types import ModuleType\n"
        "spaces = [tightbound]\n"
        "for space in spaces:\n"
        "    for name in space.__all__:\n"
        "        value = getattr(space, name)\n"
        "        if isinstance(value, ModuleType):\n"
        "            home, own = value.__name__.rsplit('.', 1)\n"
        "            spaces += [value] if space is tightbound else []\n"
        "        else:\n"
        "            home, own = value.__module__, value.__name__\n"
        "        assert own == name and (home + '.').startswith('tightbound.'), name\n"
        "assert len(spaces) > 10\n"
    )
    assert run([sys.executable, "-c", code]).stderr == ""


def test_names_marked_in_the_docs_need_no_extra():
    page = (ROOT / "docs" / "library.md").read_text()
    marked = documented_names(page, mark=" ○")
    wanted = "\n".join(
        f"{place.replace(TOP, 'tightbound', 1)}.{name}"
        for place, names in marked.items()
        for name in names
    )
    assert "tightbound.estimators.ess_fraction" in wanted
    assert imported_by(f"import tightbound\n{wanted}", NEEDS_AN_EXTRA) == []
    assert imported_by("import tightbound; tightbound.weigh", ("jax",)) == ["jax"]

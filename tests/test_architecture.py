"""The shape of the house: who imports whom, what the base install can do, what a name costs."""

import ast
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

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
TRAINING = {"errors", "terms", "inference", "estimators", "models", "data", "evaluation"}
NUMPY_ESTIMATORS = {
    f"estimators.{n}" for n in ("estimate", "units", "weights", "comparison", "ranking")
}
ARROWS: Mapping[str, set[str]] = {
    "errors": set(),
    "terms": set(),
    "nn": {"data.strokes"},
    "estimators": {"terms"},
    "data": {"errors", "estimators.estimate"},
    "models": {
        *("terms", "nn", "data.labelled", "data.points", "data.sentences", "data.sequences"),
    },
    "inference": {"terms", "models", "data", "estimators.bounds"},
    "inference.exact": {"models", "data.sentences", "data.sequences"},
    "evaluation": {"errors", "terms", "inference", "estimators", "models", "data"},
    "train": TRAINING,
    "train.settings": {"errors"},
    "train.folder": {"errors"},
    "recipes": {
        *("errors", "nn", "models", "data", "train", "evaluation", "inference.filtering"),
        *("inference.kernels", "inference.stein"),
    },
    "diagnose": {*TRAINING, "train", "nn"},
    "diagnose.evidence": {"errors"},
    "diagnose.finding": {"estimators.estimate"},
    "diagnose.findings": {"diagnose.finding"},
    "diagnose.checks": {"diagnose.evidence", "diagnose.finding", *NUMPY_ESTIMATORS},
    "diagnose.subjects": {"recipes", "train.settings", "train.setup", "diagnose.planting"},
    "diagnose.drill": {*TRAINING, "train", "diagnose", "recipes"},
    "report": {
        *("errors", "diagnose.evidence", "diagnose.finding", "diagnose.findings", "train.folder"),
        *NUMPY_ESTIMATORS,
    },
    "sweep": {*("errors", "recipes", "train.folder"), *NUMPY_ESTIMATORS},
    "commands": {*TRAINING, "train", "diagnose", "report", "recipes", "sweep"},
    "adapters": {*TRAINING, "diagnose"},
    "cli": {"errors", "commands", "recipes", "report", "train", "diagnose"},
}


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
        if not any(is_in(target, room) for room in {room_of(module), *ARROWS[room_of(module)]})
    ]


def packages(graph: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """The graph between first parts of names: "data", "models", ..."""
    joined: dict[str, set[str]] = {}
    for module, targets in graph.items():
        first = module.partition(".")[0]
        joined.setdefault(first, set()).update(t.partition(".")[0] for t in targets)
    return {name: targets - {name} for name, targets in joined.items()}


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
        ("inference.exact", "from tightbound.inference.weigh import weigh"),
        ("inference.exact", "from tightbound.estimators.bounds import elbo"),
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


def test_packages_and_modules_import_each_other_in_no_circle():
    running = import_graph(package_sources(), deferred=False)
    assert cycle(packages(running)) == []
    assert cycle(running) == []


def test_a_planted_circle_is_found():
    sources = {
        "data.batch": "from tightbound.models import base",
        "models.base": "import tightbound.data.batch",
        "nn.a": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import tightbound.nn.b",
        "nn.b": "import tightbound.nn.a",
    }
    running = import_graph(sources, deferred=False)
    assert set(cycle(packages(running))) == {"data", "models"}
    assert set(cycle(running)) == {"data.batch", "models.base"}
    assert cycle({name: running[name] for name in ("nn.a", "nn.b")}) == []


def test_the_referee_shares_no_code_with_what_it_judges(graph):
    judged = ("inference.weigh", "inference.filter", "inference.resampling", "estimators")
    borrowed = reachable(graph, "inference.exact")
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
    code = "from tightbound.recipes.catalogue import find_recipe; find_recipe('vae/digits')"
    assert imported_by(code, ("jax", "equinox", "numpyro")) == []


def test_importing_the_package_loads_neither_jax_nor_numpy():
    assert imported_by("import tightbound", ("jax", "numpy", "scipy")) == []
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


def documented_names(page: str) -> list[str]:
    """The names in the first column of the page's tables."""
    return re.findall(r"^\| `(\w+)`", page, flags=re.MULTILINE)


def test_every_public_name_has_one_line_in_the_docs():
    names = documented_names((ROOT / "docs" / "library.md").read_text())
    assert sorted(names) == sorted(tightbound.__all__)


def test_a_name_without_a_line_and_a_line_twice_are_found():
    page = (
        "| name | what |\n|---|---|\n| `elbo` | a bound |\n| `ess` ○ | text |\n| `elbo` | twice |"
    )
    assert documented_names(page) == ["elbo", "ess", "elbo"]


def test_every_public_name_is_what_its_module_defines():
    """Whichever module is imported first: `tightbound.evaluate` is the function, not the module."""
    code = (
        "import tightbound.train.setup\n"
        "for name in tightbound.__all__:\n"
        "    value = getattr(tightbound, name)\n"
        "    assert value.__name__ == name and value.__module__.startswith('tightbound.'), name\n"
    )
    assert run([sys.executable, "-c", code]).stderr == ""


def test_names_marked_in_the_docs_need_no_extra():
    page = (ROOT / "docs" / "library.md").read_text()
    marked = re.findall(r"^\| `(\w+)` ○", page, flags=re.MULTILINE)
    wanted = "\n".join(f"tightbound.{name}" for name in marked)
    assert imported_by(f"import tightbound\n{wanted}", NEEDS_AN_EXTRA) == []
    assert imported_by("import tightbound; tightbound.weigh", ("jax",)) == ["jax"]

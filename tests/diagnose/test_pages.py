"""Every finding is explained, with the numbers that the code uses. Oracle: the source of the checks."""

import ast
import inspect
import re
from pathlib import Path

import pytest

from tightbound.commands.explain import main, pages
from tightbound.diagnose import finding as finding_module
from tightbound.diagnose.checks import (
    adapters,
    data,
    discrete,
    evaluation,
    filters,
    latents,
    mixtures,
    objective,
    optimisation,
    probability,
    steps,
    weights,
)
from tightbound.errors import UserError
from tightbound.families.edits import checks as choices
from tightbound.families.language import checks as language
from tightbound.families.sequences import checks as sequences

MODULES = (
    language,
    sequences,
    adapters,
    choices,
    data,
    discrete,
    evaluation,
    filters,
    latents,
    mixtures,
    objective,
    optimisation,
    probability,
    steps,
    weights,
)
DIAGNOSE = Path(inspect.getfile(finding_module)).parent
ROOT = Path(__file__).parents[2]
SECTIONS = [
    "What it means",
    "How it is measured",
    "What brings it about",
    "When it may be meant",
    "What it does not check",
]


# A page says what its check assumes: all of optimisation, weights, latents and data.
ASSUMES = re.compile(r"TB(21\d|22[0-2]|30[1-4]|40[1-5]|50[1-9]|510)")


def sources():
    """The checks' modules; the one check beside them is read as text, since its module needs JAX."""
    return [inspect.getsource(module) for module in MODULES] + [
        (DIAGNOSE / "overfit.py").read_text()
    ]


def is_code(node):
    return isinstance(node, ast.Constant) and bool(re.fullmatch(r"TB\d{3}", str(node.value)))


def checks():
    """Code to the function that gives it, for every check."""
    found = {}
    for source in sources():
        for function in ast.parse(source).body:
            if isinstance(function, ast.FunctionDef):
                found |= {n.value: function for n in ast.walk(function) if is_code(n)}
    return found


def causes():
    """Variable to stable name, for every cause."""
    found = {}
    for source in sources():
        for node in ast.parse(source).body:
            call = getattr(node, "value", None)
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "Cause":
                found[node.targets[0].id] = call.args[0].value
    return found


CHECKS, CAUSES, PAGES = checks(), causes(), pages()


def defaults(function):
    """The check's thresholds by name: keyword arguments whose default is a number, not yes or no."""
    pairs = zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
    values = {a.arg: d.value for a, d in pairs if isinstance(d, ast.Constant)}
    return {
        n: v for n, v in values.items() if isinstance(v, int | float) and not isinstance(v, bool)
    }


def section(page, title):
    return page.split(f"## {title}\n")[1].split("\n## ")[0]


def test_every_check_has_a_page_and_every_page_a_check():
    assert len(CHECKS) == 70
    assert set(PAGES) == set(CHECKS)


@pytest.mark.parametrize("code", PAGES)
def test_a_page_has_its_parts_in_order_and_is_short(code):
    page = PAGES[code]
    lines = page.splitlines()
    assert re.fullmatch(rf"# {code}: [A-Z0-9].*[^.]", lines[0])
    titles = re.findall(r"^## (.*)$", page, re.MULTILINE)
    assert [title for title in titles if title != "What it assumes"] == SECTIONS
    assert "What it assumes" in titles or not ASSUMES.fullmatch(code)
    assert all(section(page, title).strip() for title in SECTIONS)
    assert 15 <= len(lines) <= 40
    assert max(map(len, lines)) <= 110
    assert page.endswith("\n")


@pytest.mark.parametrize("code", PAGES)
def test_a_page_gives_the_thresholds_of_the_code(code):
    """Each default is written as `name` = number, and no other number is written so."""
    said = re.findall(r"`(\w+)` = (\d+e-\d+|[\d.]+\d|\d)", PAGES[code])
    assert {name: float(value) for name, value in said} == defaults(CHECKS[code])
    assert len(said) == len(set(said))


@pytest.mark.parametrize("code", PAGES)
def test_a_page_names_the_causes_that_the_check_gives(code):
    """Those that stand in the check itself; the bullets hold no name that no check gives."""
    brings = section(PAGES[code], "What brings it about")
    bullets = [line for line in brings.splitlines() if line.startswith("- ")]
    named = {name for line in bullets for name in re.findall(r"`(\w+)`", line.split(":")[0])}
    in_check = {n.id for n in ast.walk(CHECKS[code]) if isinstance(n, ast.Name)}
    given = {CAUSES[variable] for variable in in_check if variable in CAUSES}
    assert given <= named <= set(CAUSES.values())
    assert bullets


def test_every_cause_stands_in_some_page():
    everything = "".join(PAGES.values())
    assert {name for name in CAUSES.values() if f"`{name}`" not in everything} == set()


def test_codes_that_pages_mention_exist():
    mentioned = set(re.findall(r"TB\d{3}", "".join(PAGES.values())))
    assert mentioned == set(PAGES)


def test_the_table_of_findings_has_every_code_with_its_title():
    """`docs/findings.md` is written by hand; its rows are the pages' first lines, in order."""
    table = (ROOT / "docs" / "findings.md").read_text()
    rows = re.findall(r"^\| (TB\d{3}) \| (.*) \|$", table, re.MULTILINE)
    titles = [(code, page.splitlines()[0].partition(": ")[2]) for code, page in PAGES.items()]
    assert rows == titles


def test_explain_lists_the_titles_and_prints_a_page(capsys):
    assert main([]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert len(listed) == 70
    assert "TB201  The objective is not what it claims to be" in listed
    assert main(["tb201"]) == 0
    assert capsys.readouterr().out == PAGES["TB201"]


def test_explain_refuses_a_code_that_does_not_exist():
    with pytest.raises(UserError, match=r"There is no finding 'TB209'\. Did you mean TB\d09\?"):
        main(["TB209"])

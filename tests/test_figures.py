"""No result in README or docs without its figure: tables and sentences against `docs/figures.json`.

A comment above a block names its entries: `<!-- figures: vae/mnist; stein/mnist* -->`, or says why its
numbers are no results: `<!-- no figures: sizes of files -->`. `<!-- bench -->` marks numbers that
`make bench` printed; outside docs/benchmarks.md they must stand there too.
"""

import fnmatch
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FIGURES = json.loads((ROOT / "docs" / "figures.json").read_text())
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES.remove(ROOT / "docs" / "figures.md")  # is written from the figures

MARK = re.compile(r"<!-- (figures|no figures|bench)(?:: (.*?))? -->")
CODE = re.compile(r"`[^`]*`|\]\([^)]*\)|\[\[?.*?\]\]?(?=\()")
NUMBER = re.compile(r"(?<![\w.,/])[-+]?\d[\d,]*(?:\.\d+)?(?![\w]|\.\d)")
WITH_ERROR = re.compile(r"± *\d|\d+ (?:were )?found\b|\bfound \d")  # or a count of a drill
DECIMAL = re.compile(r"(?<![\w.])[-+]?\d+\.\d+(?![\w.])")


@dataclass(frozen=True)
class Block:
    """A table or a paragraph, with what the comment above it says."""

    where: str
    kind: str | None  # of its mark
    argument: str
    text: str

    @property
    def is_table(self) -> bool:
        return self.text.startswith("|")

    def cells(self) -> Iterator[str]:
        """What may hold a result: of a table all columns but the labels and what others published."""
        if not self.is_table:
            yield CODE.sub(" ", self.text)
            return
        head, _, *rows = (
            [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]
            for line in self.text.splitlines()
        )
        for row in rows:
            for title, cell in list(zip(head, row, strict=True))[1:]:
                if not title.startswith("published"):
                    yield CODE.sub(" ", cell)


def blocks(page: str, name: str) -> Iterator[Block]:
    """The blocks of a page, without those of code."""
    page = re.sub(r"^( *)```.*?^\1```$", "", page, flags=re.M | re.S)
    kind, argument = None, ""
    for match in re.finditer(r"(?:^[ \t]*\S.*\n?)+", page, flags=re.M):
        line = page[: match.start()].count("\n") + 1
        text = match[0].strip()
        mark = MARK.match(text)
        if mark is not None:
            kind, argument, text = mark[1], mark[2] or "", text[mark.end() :].strip()
        if text:
            text = "\n".join(line.strip() for line in text.splitlines())
            yield Block(f"{name}, block at line {line}: {text[:70]!r}", kind, argument, text)
            kind, argument = None, ""


def leaves(figure) -> Iterator[float]:
    """All numbers of an entry, those in its words too."""
    if isinstance(figure, dict):
        for value in figure.values():
            yield from leaves(value)
    elif isinstance(figure, list):
        for value in figure:
            yield from leaves(value)
        yield len(figure)
    elif isinstance(figure, str):
        yield from (float(number.replace(",", "")) for number in NUMBER.findall(figure))
    elif isinstance(figure, int | float) and not isinstance(figure, bool):
        yield figure


def is_rounded(text: str, values: list[float]) -> bool:
    """Whether a written number is one of the values at its own number of digits, halves either way."""
    written = text.replace(",", "")
    step = 10.0 ** -len(written.partition(".")[2])
    return any(abs(float(written) - value) <= 0.5001 * step for value in values)


def complaints(block: Block, in_results: bool = False) -> list[str]:
    """What is wrong with a block's numbers."""
    cells = list(block.cells())
    plain = " ".join(cells)
    if block.kind == "no figures":
        return [f"{block.where}: has ± and says that it has no results"] * bool(
            WITH_ERROR.search(plain)
        )
    if block.kind is None:
        numbers = NUMBER if in_results else DECIMAL if block.is_table else WITH_ERROR
        return [
            f"{block.where}: has {found[0]!r} and names no entry"
            for found in numbers.finditer(plain)
        ]
    if block.kind == "bench":
        bench = (ROOT / "docs" / "benchmarks.md").read_text()
        values = [float(found.replace(",", "")) for found in NUMBER.findall(bench)]
    else:
        wanted = [name.strip() for name in block.argument.split(";")]
        missing = [name for name in wanted if not fnmatch.filter(FIGURES, name)]
        if missing:
            return [f"{block.where}: there is no entry {missing[0]!r}"]
        values = [
            value
            for name, entry in FIGURES.items()
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in wanted)
            for value in leaves(entry["figure"])
        ]
    return [
        f"{block.where}: {number} is not in {block.argument or 'docs/benchmarks.md'}"
        for cell in cells
        for number in NUMBER.findall(cell)
        if not is_rounded(number, values)
    ]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_result_of_a_page_is_an_entry_of_the_figures(path):
    """Oracle: `docs/figures.json`, rounded as the page rounds."""
    found = [c for block in blocks(path.read_text(), path.name) for c in complaints(block)]
    assert not found, "\n".join(found)


def test_every_number_of_what_is_measured_has_an_entry():
    """In the README's own list of results no number at all goes without."""
    section = (ROOT / "README.md").read_text().partition("## What is measured\n")[2]
    section = section.partition("\n## ")[0]
    found = [c for b in blocks(section, "README.md") for c in complaints(b, in_results=True)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("page", "says"),
    [
        ("| recipe | ELBO |\n|---|---|\n| a | -1.5 |\n", "names no entry"),
        ("It has -1.5 ± 0.2 nats.\n", "names no entry"),
        (
            "<!-- figures: vae/digits -->\n| a | b |\n|---|---|\n| c | -23.67 |\n",
            "-23.67 is not in",
        ),
        ("<!-- figures: vae/digits -->\n| a | b |\n|---|---|\n| c | 23.66 |\n", "23.66 is not in"),
        ("<!-- figures: vae/digit -->\nIt has -23.66.\n", "there is no entry"),
        ("<!-- no figures: sizes -->\n| a | b |\n|---|---|\n| c | 1 ± 0.1 |\n", "has ±"),
        ("<!-- bench -->\nIt is 123456.7 times as fast.\n", "not in docs/benchmarks.md"),
    ],
)
def test_a_result_without_its_figure_is_found(page, says):
    """Planted: no mark, another digit, another sign, another entry, an excuse, no benchmark."""
    (found,) = [c for block in blocks(page, "page") for c in complaints(block)]
    assert says in found


def test_a_result_with_its_figure_passes():
    """The figure as it is rounded, a label in front and what others published behind it."""
    page = (
        "<!-- figures: vae/digits -->\n| m = 77.7 | ELBO | published |\n|---|---|---|\n"
        "| m = 77.7 | -23.66 ± 0.23 | -99.9 |\n"
    )
    assert [c for block in blocks(page, "page") for c in complaints(block)] == []


def test_every_entry_says_its_commit_and_whether_the_tree_was_committed():
    """And the page marks those that were not."""
    rows = (ROOT / "docs" / "figures.md").read_text().splitlines()
    for name, entry in FIGURES.items():
        assert re.fullmatch(r"[0-9a-f]{7,40}", entry["commit"])
        (row,) = [row for row in rows if row.startswith(f"| `{name}` |")]
        assert row.endswith(f"| {entry['commit']}{' **changed**' * entry['uncommitted_changes']} |")

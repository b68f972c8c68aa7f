"""README and docs can be read: no line of prose is too long, and links and paths lead to files."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
OF_REPOSITORY = re.compile(r"`((?:src|tests|scripts|examples|docs|benchmarks)/[\w./]+)`")


def prose(page: str) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, without code, tables and what cannot be broken: links and pictures."""
    in_code = False
    for number, line in enumerate(page.splitlines(), start=1):
        if line.lstrip().startswith("```"):
            in_code = not in_code
        elif not (in_code or line.startswith(("    ", "|")) or re.match(r" *(\||!?\[)", line)):
            yield number, line


def too_long(page: str) -> list[int]:
    return [number for number, line in prose(page) if len(line) > 120]


def dead_links(page: str, folder: Path) -> list[str]:
    targets = LINK.findall(page)
    return [t for t in targets if "://" not in t and not (folder / t).exists()]


def dead_paths(page: str) -> list[str]:
    """Files and folders of the repository that stand in a page as code; NAME stands for any."""
    return [p for p in OF_REPOSITORY.findall(page) if "NAME" not in p and not (ROOT / p).exists()]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_has_short_lines_and_what_it_names_is_there(path):
    page = path.read_text()
    assert too_long(page) == []
    assert dead_links(page, path.parent) == []
    assert dead_paths(page) == []


def test_a_long_line_a_dead_link_and_a_dead_path_are_found():
    """Planted: one of each, and beside them a table, code and a picture that may be long."""
    long = "word " * 30
    assert too_long(f"# Title\n\n{long}\n\n| {long} |\n\n```\n{long}\n```\n![{long}](a.png)\n") == [
        3
    ]
    assert dead_links("[a](nowhere.md) [b](docs/data.md#x) [c](https://a.b)", ROOT) == [
        "nowhere.md"
    ]
    assert dead_paths("`src/nowhere.py`, `docs/data.md`, `tests/families/NAME/`") == [
        "src/nowhere.py"
    ]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_page_advises_to_unpickle(path):
    assert not re.search(
        r"allow_pickle ?= ?True|pickle\.load|weights_only ?= ?False", path.read_text()
    )

"""`tightbound explain CODE`: the page of a finding."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import tyro

from tightbound.commands.options import parse
from tightbound.errors import UserError


@dataclass(frozen=True)
class ExplainOptions:
    """Print what a finding's code means, what brings it about and what to change."""

    code: tyro.conf.Positional[str | None] = None
    """For instance TB201; without it, the list of codes."""


def main(arguments: Sequence[str]) -> int:
    options = parse(ExplainOptions, "explain", arguments)
    if options.code is None:
        for code, page in pages().items():
            print(f"{code}  {page.splitlines()[0].removeprefix('# ').partition(': ')[2]}")
        return 0
    found = pages()
    code = options.code.upper()
    if code not in found:
        close = difflib.get_close_matches(code, found, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise UserError(
            f"There is no finding {options.code!r}.{hint} `tightbound explain` lists them."
        )
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console()
    console.print(Markdown(found[code])) if console.is_terminal else print(found[code], end="")
    return 0


def pages() -> dict[str, str]:
    """The pages by code, in order."""
    folder = resources.files("tightbound.diagnose") / "pages"
    return {
        entry.name.removesuffix(".md"): entry.read_text()
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".md")
    }

"""`tightbound explain CODE`: the page of a finding."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Annotated

import tyro

from tightbound.commands.options import parse, print_json
from tightbound.errors import UserError


@dataclass(frozen=True)
class ExplainOptions:
    """Print what a finding's code means, what brings it about and what to change."""

    code: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="[CODE]")] = ""
    """For instance TB201; without it, the list of codes."""
    json: bool = False
    """One JSON document on stdout: the pages, whole."""


def main(arguments: Sequence[str]) -> int:
    options = parse(ExplainOptions, "explain", arguments)
    if options.json:
        chosen = {options.code.upper(): page(options.code)} if options.code else pages()
        print_json({"pages": chosen})
        return 0
    if not options.code:
        for code, text in pages().items():
            print(f"{code}  {text.splitlines()[0].removeprefix('# ').partition(': ')[2]}")
        return 0
    text = page(options.code)
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console()
    console.print(Markdown(text)) if console.is_terminal else print(text, end="")
    return 0


def page(code: str) -> str:
    """The page of one code; UserError names the closest one there is."""
    found = pages()
    if code.upper() not in found:
        close = difflib.get_close_matches(code.upper(), found, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise UserError(f"There is no finding {code!r}.{hint} `tightbound explain` lists them.")
    return found[code.upper()]


def pages() -> dict[str, str]:
    """The pages by code, in order."""
    folder = resources.files("tightbound.diagnose") / "pages"
    return {
        entry.name.removesuffix(".md"): entry.read_text()
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".md")
    }

"""What a person reads who called a command wrongly: a sentence, made of the frame that tyro prints."""

import contextlib
import io
import re
from collections.abc import Sequence
from typing import Any

import tyro

from tightbound.errors import UserError

_FRAME = re.compile(r"[│╭╮╰╯]")
_RULE = re.compile(r"^[─-]+$")  # of ASCII where the terminal has nothing else


def parse_arguments(options: Any, prog: str, arguments: Sequence[str]) -> Any:
    """The options of a dataclass or a union of them. UserError where they are wrong; SystemExit 0 after
    `--help`, which is printed."""
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            return tyro.cli(options, prog=prog, args=list(arguments))
    except SystemExit as stop:
        if not stop.code:
            raise
        hint = f" `{prog} --help` shows what there is."
        raise UserError(usage_sentence(errors.getvalue()) + hint) from None


def usage_sentence(framed: str) -> str:
    """What a frame of tyro says, in a sentence: which options are missing or unknown, with the closest
    there is, else its first section."""
    lines = [_FRAME.sub(" ", line).rstrip() for line in framed.splitlines()]
    title, *lines = [line for line in lines if line.strip()] or [""]
    title = title.strip("─- ")
    sections: list[list[str]] = [[]]
    for line in lines:
        if not _RULE.match(line.strip()):
            sections[-1].append(line)
        elif sections[-1]:
            sections.append([])
    told = " ".join(line.strip() for line in sections[0])
    if title == "Required options":
        names = [line.strip() for line in sections[0] if re.match(r" {6}\S", line)]
        return f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} missing."
    if title == "Unrecognized options":
        unknown = told.removeprefix("Unrecognized options: ")
        suggested = [
            line.split()[0]
            for section in sections[1:]
            for line in section
            if line.startswith(" " * 6 + "--")
        ]
        hint = f" Did you mean {suggested[0]}?" if suggested else ""
        return f"Nothing here is called {unknown}.{hint}"
    return told[:1].upper() + told[1:].rstrip(".") + "."

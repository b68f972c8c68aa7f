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
_NO_NUMBER = re.compile(
    r"Error parsing (--\S+): (?:invalid literal for (int)\(\).*|could not convert string to float): (.*)"
)
_NO_MATCH = re.compile(
    r"Error parsing (--\S+): no type matching (\S*\b(?:INT|FLOAT)\b\S*) could be instantiated from \[(.*?)\]"
)
_REFUSED = re.compile(
    r"Error parsing \w+\.?(\S*): (.*)"
)  # by a dataclass of settings, in its own words


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
    if wrong := _NO_NUMBER.match(told):
        option, is_whole, given = wrong.groups()
        return f"{option} is {given}, but it must be a {'whole ' if is_whole else ''}number."
    if wrong := _NO_MATCH.match(told):
        option, kinds, given = wrong.groups()
        number = "a whole number" if "INT" in kinds else "a number"
        return (
            f"{option} is {given}, but it must be {number}{' or None' if 'None' in kinds else ''}."
        )
    if refused := _REFUSED.match(told):
        group, told = refused.groups()
        told = re.sub(r"^`(\w+)` is", rf"`{group}.\1` is", told) if group else told
    return told[:1].upper() + told[1:].rstrip(".") + "."

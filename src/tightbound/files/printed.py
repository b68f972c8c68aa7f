"""Text from files on its way to a terminal or a table: it is shown, and never obeyed."""

import re

# Control characters but line feed and tab; C1, which begins escapes too; what turns the direction of
# writing, so that a text reads as another; halves of pairs, which no stream can encode.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """The text with every character that a terminal would obey written out: `\\x1b`."""
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def in_one_line(text: str) -> str:
    """The same, with line feeds and tabs written out too: for a cell or a name."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def obeyed_as_json(document: str) -> str:
    """A JSON text in which such characters are written as JSON writes them: it reads back the same."""
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", document)

"""The one reader of JSON documents: bounded, and held against the type that is meant."""

import os
from functools import cache
from types import GenericAlias  # such as dict[str, float]
from typing import Any, Literal, TypeVar

import msgspec

from tightbound.errors import UserError
from tightbound.files.opening import open_regular

Document = TypeVar("Document")

# A number as our documents have it: JSON itself has none that is not finite.
Number = float | Literal["nan", "inf", "-inf"]


class NotJson(UserError):
    """The content is no JSON at all: it was cut off, or is of another kind."""


LARGEST = 8 << 20  # bytes of one document; the largest of a real run has a tenth


def read_document(path: str | os.PathLike[str], kind: type[Document] | GenericAlias) -> Document:
    """The document in the file, of this type (a TypedDict, a dataclass, a mapping of them).

    UserError names the file, the entry, what came and what was meant. Entries that the type has not are
    left out. A link, a pipe, a device or a file beyond `LARGEST` is not read. FileNotFoundError is the
    caller's: only he knows what the file is for.
    """
    try:
        with open_regular(path, follow_links=False) as file:
            content = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error
    if len(content) > LARGEST:
        raise UserError(
            f"{path} has more than {LARGEST:,} bytes, and no document of tightbound has. Was it given in "
            "the place of another file?"
        )
    return decoded(content, kind, path)


def decoded(
    content: bytes | str, kind: type[Document] | GenericAlias, where: str | os.PathLike[str]
) -> Document:
    """The document in JSON; UserError as `read_document` has it, with `where` it came from."""
    try:
        return _decoder(kind).decode(content)
    except msgspec.ValidationError as error:
        fault, _, place = str(error).partition(" - at `")
        entry = place.removeprefix("$.").removesuffix("`")
        said = f"its entry `{entry}` is not what was meant" if entry else "it is not what was meant"
        raise UserError(
            f"{where} is damaged: {said}. {fault}. It was edited, or written by another version."
        ) from error
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, lists within lists
        raise NotJson(f"{where} is damaged: {error}.") from error


@cache
def _decoder(kind: Any) -> "msgspec.json.Decoder[Any]":
    return msgspec.json.Decoder(kind)

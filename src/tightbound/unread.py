"""A setting is used or refused: what another choice would ignore cannot be given."""

import dataclasses
from collections.abc import Iterable
from typing import Any, TypeVar

from tightbound.errors import UserError

Settings = TypeVar("Settings")


class UnreadSetting(UserError):
    """A setting that was given where nothing reads it."""

    def __init__(self, name: str, message: str):
        super().__init__(message)
        self.name = name


def refuse_unread(settings: Any, choice: str, *names: str) -> None:
    """UserError for the first of these settings that was given, since nothing reads it with the value
    that `choice` has. One that stands at its default was not given."""
    refuse_unread_of(settings, choice, getattr(settings, choice), names)


def refuse_unread_of(settings: Any, choice: str, chosen: Any, names: Iterable[str]) -> None:
    """The same, where the choice is made elsewhere."""
    defaults = {field.name: field.default for field in dataclasses.fields(settings)}
    for name in names:
        value = getattr(settings, name)
        if value != defaults[name]:
            raise UnreadSetting(
                name,
                f"The setting `{name}` was set to {value!r}, but nothing reads it where `{choice}` is "
                f"{chosen!r}. Give its default, {defaults[name]!r}, or choose another `{choice}`.",
            )


def replaced(settings: Settings, **changes: Any) -> Settings:
    """`dataclasses.replace`, but for settings that nothing reads after it: these get their defaults."""
    record: Any = settings
    try:
        return dataclasses.replace(record, **changes)
    except UnreadSetting as unread:
        [default] = [f.default for f in dataclasses.fields(record) if f.name == unread.name]
        if changes.get(unread.name, getattr(record, unread.name)) == default:
            raise
        return replaced(settings, **(changes | {unread.name: default}))

"""A setting is used or refused: what another choice would ignore cannot be given."""

import dataclasses
from typing import Any

from tightbound.errors import UserError


def refuse_unread(settings: Any, choice: str, *names: str) -> None:
    """UserError for the first of these settings that was given, since nothing reads it with the value
    that `choice` has. One that stands at its default was not given."""
    defaults = {field.name: field.default for field in dataclasses.fields(settings)}
    for name in names:
        value = getattr(settings, name)
        if value != defaults[name]:
            raise UserError(
                f"The setting `{name}` was set to {value!r}, but nothing reads it where `{choice}` is "
                f"{getattr(settings, choice)!r}. Leave it out, or choose another `{choice}`."
            )

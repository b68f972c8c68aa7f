"""A text as a line of tokens, each shaded by what it cost. It wraps where the page ends."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from tightbound.estimators.estimate import number_text

SHADES = 9  # classes of page.css, from h0, which has no colour
_SPACES = {" ": "␣", "\n": "⏎", "\t": "⇥"}


def strip(
    title: str,
    tokens: Sequence[str],
    nats: Sequence[float | None],
    *,
    num_classes: int,
    alternatives: Sequence[Sequence[Sequence[Any]]] = (),
    num_given: int = 0,
) -> str:
    """A text under its title: every token with its nats below it, as strongly coloured as a guess
    among all classes where it cost as much. None is a token that nothing was predicted of. What else was
    likely is told where a pointer rests."""
    told = alternatives or [()] * len(tokens)
    cells = (
        _token(token, cost, num_classes, others, is_given=i < num_given)
        for i, (token, cost, others) in enumerate(zip(tokens, nats, told, strict=True))
    )
    total = sum(cost for cost in nats if cost is not None)
    return (
        f'<figure class="strip"><figcaption><strong>{escape(title)}</strong> '
        f"<span>{number_text(total)} nats</span></figcaption><p>{''.join(cells)}</p></figure>"
    )


def shade(nats: float, num_classes: int) -> int:
    """0 to `SHADES`, which is the cost of a guess among all classes, log(classes), or more."""
    return min(round(SHADES * max(nats, 0.0) / math.log(max(num_classes, 2))), SHADES)


def visible(token: str) -> str:
    """A token that is only space, as a sign for it."""
    return _SPACES.get(token, token)


def in_words(alternatives: Sequence[Sequence[Any]]) -> str:
    """`the 0.31, a 0.22`: symbols and their probabilities."""
    return ", ".join(f"{visible(symbol)} {_digits(p)}" for symbol, p in alternatives)


def texts_html(document: Mapping[str, Any], num_classes: int) -> str:
    """The notes and the texts of a `texts-step-N.json`."""
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in document["notes"])
    strips = (
        strip(
            text["name"],
            text["tokens"],
            text["nats"],
            num_classes=num_classes,
            num_given=text["num_given"],
        )
        for text in document["texts"]
    )
    return notes + "".join(strips)


def _token(
    token: str,
    nats: float | None,
    num_classes: int,
    alternatives: Sequence[Sequence[Any]],
    *,
    is_given: bool,
) -> str:
    shown = escape(visible(token))
    if nats is None:
        return f'<span class="token h0">{shown}<small>&nbsp;</small></span>'
    told = f' title="{escape(in_words(alternatives))}"' if alternatives else ""
    kind = f"token h{shade(nats, num_classes)}" + (" given" if is_given else "")
    return f'<span class="{kind}"{told}>{shown}<small>{number_text(nats, 1)}</small></span>'


def _digits(p: float | None) -> str:
    return "" if p is None else f"{p:.2f}" if p >= 0.005 else f"{p:.0e}"

"""A text as the edits that wrote it, in words: what was decided, and what each decision cost.

Plain records, so that drawing them needs no model; `trajectory_drawings` makes pictures of them.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from tightbound.errors import UserError
from tightbound.estimators.estimate import finite_or_text

Op = Literal["INS", "CPY", "SUB", "EOS"]
EMPTY = '""'  # a string of no words


@dataclass(frozen=True)
class DrawnEdit:
    """One decision: a word, or the end of its string."""

    op: Op
    word: str  # that it writes; "" at the end
    source: int  # which word of the string before is copied or substituted, from 1; 0 where none
    log_p: float | None  # nats; None where the word was given, so nothing was decided
    log_q: float = 0.0  # nats, of choosing this edit among those that write the word

    @property
    def weight(self) -> float | None:
        """log p - log q, in nats: log p where the edit was drawn from the model itself."""
        return None if self.log_p is None else self.log_p - self.log_q

    @property
    def name(self) -> str:
        """As a log writes it: `INS(t)`, `CPY(1)`, `SUB(t, 1)`, `EOS`."""
        match self.op:
            case "INS":
                return f"INS({self.word})"
            case "CPY":
                return f"CPY({self.source})"
            case "SUB":
                return f"SUB({self.word}, {self.source})"
            case "EOS":
                return "EOS"


@dataclass(frozen=True)
class DrawnString:
    """One string of a trajectory: an edit for each word, and one for its end."""

    text: str
    edits: tuple[DrawnEdit, ...]
    log_steps: float  # nats: of another string after this one, or of none

    @property
    def total(self) -> float:
        """What the string adds to the trajectory's total, in nats."""
        return sum(edit.weight or 0.0 for edit in self.edits) + self.log_steps


@dataclass(frozen=True)
class DrawnTrajectory:
    """Strings from the first to the text itself, each written by edits of the one before."""

    strings: tuple[DrawnString, ...]
    note: str = ""  # where it comes from, in words
    log_q: float | None = None  # nats, of the strings where they were drawn given the text

    @property
    def total(self) -> float:
        """log p of strings and edits, less log q where they were drawn from one: nats."""
        return sum(string.total for string in self.strings) - (self.log_q or 0.0)

    @property
    def heading(self) -> str:
        """The total with its name, and where the trajectory comes from."""
        name = "log p" if self.log_q is None else "log p - log q"
        return f"{name} = {nats(self.total)} nats" + (f"; {self.note}" if self.note else "")

    def steps_name(self, index: int) -> str:
        """What the law of the number of strings decided after string `index`, from 0."""
        return "STOP" if index == len(self.strings) - 1 else "NEXT"

    def lines(self) -> list[str]:
        """One line per string: `INS(t) -0.69  EOS -0.00  NEXT -0.01  = t`."""
        lines = []
        for index, string in enumerate(self.strings):
            terms = [
                f"{edit.name} {'given' if edit.weight is None else nats(edit.weight)}"
                for edit in string.edits
            ]
            terms.append(f"{self.steps_name(index)} {nats(string.log_steps)}")
            lines.append("  ".join([*terms, f"= {string.text or EMPTY}"]))
        if self.log_q is not None:
            lines.append(f"log q of these strings {nats(self.log_q)}, taken off")
        return lines

    def to_json(self) -> dict[str, Any]:
        """Numbers that are not finite become text: JSON has none."""
        return _storable({"total": self.total} | asdict(self))

    @staticmethod
    def from_json(document: Any) -> "DrawnTrajectory":
        """Inverse of `to_json`; UserError where the document is something else."""
        try:
            log_q = document["log_q"]
            return DrawnTrajectory(
                strings=tuple(_string(string) for string in document["strings"]),
                note=str(document["note"]),
                log_q=None if log_q is None else float(log_q),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"This is no trajectory of edits: {error!r}.") from error


def nats(value: float) -> str:
    """Two decimals; three digits where a number is too large for them to matter."""
    return f"{value:.2f}" if abs(value) < 1e4 else f"{value:.3g}"


def as_text(trajectories: Sequence[DrawnTrajectory]) -> str:
    """A paragraph for each: its heading, then its strings."""
    paragraphs = (
        "\n".join([trajectory.heading, *(f"  {line}" for line in trajectory.lines())])
        for trajectory in trajectories
    )
    return "\n\n".join(paragraphs) + "\n"


def in_one_line(trajectory: DrawnTrajectory) -> str:
    """For a log: the heading, and the strings one after the other."""
    return " | ".join([trajectory.heading, *trajectory.lines()])


def _string(document: dict[str, Any]) -> DrawnString:
    edits = []
    for edit in document["edits"]:
        if edit["op"] not in ("INS", "CPY", "SUB", "EOS"):
            raise ValueError(f"{edit['op']!r} is no edit")
        log_p = None if edit["log_p"] is None else float(edit["log_p"])
        edits.append(
            DrawnEdit(
                edit["op"], str(edit["word"]), int(edit["source"]), log_p, float(edit["log_q"])
            )
        )
    return DrawnString(str(document["text"]), tuple(edits), float(document["log_steps"]))


def _storable(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _storable(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(part) for part in value]
    return finite_or_text(value)

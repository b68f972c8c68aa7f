"""What a check says: evidence (measured, threshold, unit, where) apart from interpretation."""

import enum
from dataclasses import asdict, dataclass
from typing import Any

from tightbound.estimators.estimate import finite_or_text


class Verdict(enum.Enum):
    """UNDECIDED is an honest verdict, and NOT_RUN another: skipped is not passed."""

    FAULT = "FAULT"
    OK = "OK"
    UNDECIDED = "UNDECIDED"
    NOT_RUN = "NOT_RUN"


@dataclass(frozen=True)
class Cause:
    """One thing that would explain a fault, with what to change."""

    name: str  # stable, for programs: "kl_sign_flipped"
    meaning: str
    advice: str


@dataclass(frozen=True)
class Finding:
    """One check's answer. `causes` are ranked, likeliest first; empty unless the verdict is FAULT."""

    code: str  # "TB201"; `tightbound explain TB201` prints its page
    check: str  # the check's name, a question's subject: "objective_is_its_claim"
    verdict: Verdict
    measured: float | None
    threshold: float | None
    unit: str
    where: str  # which site, split, module, rows, step
    meaning: str  # one sentence
    causes: tuple[Cause, ...] = ()
    not_checked: tuple[str, ...] = ()

    @property
    def advice(self) -> str:
        """What to change first; empty where nothing is wrong."""
        return self.causes[0].advice if self.causes else ""

    def to_json(self) -> dict[str, Any]:
        """The document every `--json` uses."""
        document = asdict(self) | {"verdict": self.verdict.value, "advice": self.advice}
        document["measured"] = finite_or_text(self.measured)
        document["threshold"] = finite_or_text(self.threshold)
        return document

    @staticmethod
    def from_json(document: dict[str, Any]) -> "Finding":
        """Inverse of `to_json`."""
        fields = {name: value for name, value in document.items() if name != "advice"}
        numbers = ("measured", "threshold")
        fields |= {n: None if fields[n] is None else float(fields[n]) for n in numbers}
        fields["verdict"] = Verdict(fields["verdict"])
        fields["causes"] = tuple(Cause(**cause) for cause in fields["causes"])
        fields["not_checked"] = tuple(fields["not_checked"])
        return Finding(**fields)


def not_run(code: str, check: str, reason: str) -> Finding:
    """The finding of a check that had nothing to read, with the reason."""
    return Finding(code, check, Verdict.NOT_RUN, None, None, "", "", reason, not_checked=(reason,))

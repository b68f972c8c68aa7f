"""The JSON documents that samples of edits leave, as the report reads them."""

from typing import Literal, TypedDict

from tightbound.estimators.estimate import EstimateDocument
from tightbound.files.documents import Number
from tightbound.train.documents import Step


class Edit(TypedDict):
    op: Literal["INS", "CPY", "SUB", "EOS"]
    word: str
    source: int
    log_p: Number | None
    log_q: Number


class String(TypedDict):
    text: str
    edits: list[Edit]
    log_steps: Number


class Trajectory(TypedDict):
    strings: list[String]
    note: str
    log_q: Number | None


class Trajectories(TypedDict):
    """`trajectories-step-N.json` and `explained-step-N.json`."""

    trajectories: list[Trajectory]


class StringBound(TypedDict):
    string: int
    rows: int
    total: EstimateDocument
    classes: dict[str, EstimateDocument]


class ByString(TypedDict):
    """`by_step.json`."""

    step: Step
    num_rows: int
    strings: list[StringBound]
    proposal: EstimateDocument

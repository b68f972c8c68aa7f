"""The JSON documents of a run folder, as types that every reader holds them against."""

from typing import Annotated, Any, NotRequired, TypedDict

import msgspec

from tightbound.estimators.estimate import EstimateDocument
from tightbound.files.documents import Number

Step = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Seed = Annotated[int, msgspec.Meta(ge=0)]

Environment = dict[str, dict[str, str] | str | int | float | bool | None]
"""`environment.json`: what the bits of a run depend on."""

Baselines = dict[str, EstimateDocument]
"""`baselines.json`."""


class Stated(TypedDict):
    """What the setup said of itself, for the doctor."""

    collapse_asked_for: NotRequired[bool]
    is_bound: NotRequired[bool]
    climbs: NotRequired[bool]
    pooled: NotRequired[bool]


class RecipeDocument(TypedDict):
    """`recipe.json`: what was started."""

    recipe: str
    seed: Seed
    settings: dict[str, Any]  # each is held against the recipe's own type when it is put back
    name: NotRequired[str]
    note: NotRequired[str]
    init_from: NotRequired[str | None]
    plant: NotRequired[str | None]
    stated: NotRequired[Stated]
    started: NotRequired[str]


class SiteRecord(TypedDict):
    """Means of one site, in nats per sequence."""

    log_p: Number
    log_q: NotRequired[Number]


class SplitRecord(TypedDict):
    """What one record says of a split."""

    bound: EstimateDocument
    sites: dict[str, SiteRecord]
    ess_fraction: NotRequired[Number]
    loss: NotRequired[Number]
    gradient_norm: NotRequired[Number]


class StepRecord(TypedDict):
    """One line of `steps.jsonl`."""

    step: Step
    epoch: NotRequired[float]
    seconds: NotRequired[float]
    compile_seconds: NotRequired[float | None]
    train: NotRequired[SplitRecord]
    held_out: NotRequired[SplitRecord]


class PlateauProgress(TypedDict, total=False):
    """What the plateau rule remembers; nothing of a checkpoint that was made without one."""

    best: Number | None
    best_step: Step
    since_best: Annotated[int, msgspec.Meta(ge=0)]
    rollbacks: Annotated[int, msgspec.Meta(ge=0)]


class Manifest(TypedDict):
    """`manifest.json` of a checkpoint."""

    format: str
    step: Step
    sha256: dict[str, Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]]
    progress: PlateauProgress

"""The JSON documents that samples of Stein mixtures leave, as the report reads them: one type with what
every kind has, and one for each kind."""

from typing import Literal, NotRequired, TypedDict

from tightbound.train.documents import Step

Values = list[float | None]  # None is not finite


class Inputs(TypedDict):
    inputs: Values
    target: Values


class Curve(TypedDict):
    mean: Values
    spread: Values
    target_spread: NotRequired[Values]


class AnyKind(TypedDict):
    """Which of the types below a document is of."""

    kind: Literal["curve", "pairs", "classes", "density", "moments"]


class Prediction(TypedDict):
    """`prediction-step-N.json`."""

    step: Step
    kind: Literal["curve", "pairs", "classes"]


class CurvePrediction(Prediction):
    """One input, a real target."""

    split: str
    train: Inputs
    inputs: Values
    all: Curve
    components: list[Curve]


class PairPrediction(Prediction):
    """Several inputs, a real target."""

    split: str
    observed: Values
    mean: Values
    levels: Values
    coverage: Values


class ClassPrediction(Prediction):
    """Classes."""

    split: str
    confidence: Values
    accuracy: Values
    points: list[int]


class Target(TypedDict):
    """`target-step-N.json`."""

    step: Step
    dimension: int
    kind: Literal["density", "moments"]


class DensityTarget(Target):
    """One or two dimensions."""

    axes: list[Values]
    target: Values
    proposal: NotRequired[Values]
    components: NotRequired[list[Values]]
    points: NotRequired[list[Values]]


class Moments(TypedDict):
    mean: Values
    variance: Values
    variance_error: NotRequired[Values]


class MomentTarget(Target):
    """More dimensions."""

    num_draws: int
    target: Moments
    proposal: Moments
    components: list[Values]


OF_KIND: dict[str, type] = {
    "curve": CurvePrediction,
    "pairs": PairPrediction,
    "classes": ClassPrediction,
    "density": DensityTarget,
    "moments": MomentTarget,
}

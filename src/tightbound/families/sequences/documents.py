"""The JSON document that samples of sequences leave, as the report reads it."""

from typing import TypedDict

from tightbound.estimators.estimate import EstimateDocument
from tightbound.train.documents import Step

Values = list[float | None]  # None is not finite


class ByStep(TypedDict):
    mean: Values
    error: Values
    rows: list[int]


class Latent(TypedDict):
    latent: int
    mean: Values
    variance: Values


class Output(TypedDict):
    mean: Values
    scale: Values
    observed: Values


class Row(TypedDict):
    row: int
    latents: list[Latent]
    outputs: list[Output]


class Profile(TypedDict):
    """`profile-step-N.json`."""

    step: Step
    split: str
    num_rows: int
    kl: EstimateDocument
    kl_by_latent: list[EstimateDocument] | None
    kl_by_step: ByStep
    entries: list[str]
    rows: list[Row]

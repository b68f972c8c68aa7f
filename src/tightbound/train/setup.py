"""Everything a run is made of, built: what `check`, `train`, `why` and the planted faults work on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import optax
from jaxtyping import PRNGKeyArray

from tightbound.data.batch import Noise, Split, steps_per_epoch
from tightbound.errors import UserError
from tightbound.estimators.estimate import Estimate
from tightbound.evaluation import Evaluation, evaluate
from tightbound.families.family import Family
from tightbound.inference.filtering import Filtering
from tightbound.models.base import AbstractModel, AbstractProposal
from tightbound.models.twin import Twin
from tightbound.train.objective import AbstractObjective, Claim
from tightbound.train.preflight import (
    require_objective,
    require_optimiser,
    require_pair,
    require_splits,
)
from tightbound.train.settings import RunSettings


@runtime_checkable
class Evaluator(Protocol):
    """What turns a model and a split into scored sites; `evaluate` is the one everybody should use."""

    def __call__(
        self,
        model: AbstractModel,
        proposal: AbstractProposal,
        split: Split,
        *,
        num_samples: int,
        key: PRNGKeyArray,
        noise: Noise | None = None,
        filtering: Filtering | None = None,
    ) -> Evaluation: ...


@dataclass(frozen=True)
class Setup:
    """A run before it starts. `claim` is what `objective` is meant to be: the doctor holds one
    against the other. For a built-in recipe they are the same; who writes an objective of their own
    names the built-in one it implements, or none."""

    name: str
    model: AbstractModel
    proposal: AbstractProposal
    data: Mapping[str, Split]  # "train", "valid", "test"
    objective: AbstractObjective
    optimiser: optax.GradientTransformation
    claim: Claim | None = None  # None takes `objective` itself where it is a built-in one
    run: RunSettings = field(default_factory=RunSettings)
    noise: Noise | None = None
    evaluator: Evaluator = evaluate
    evaluation_proposal: AbstractProposal | None = None  # None: the one that is trained
    filtering: Filtering | None = None  # of held-out numbers; None: independent draws
    baselines: Mapping[str, Estimate] = field(default_factory=dict)
    entropy: Estimate | None = None  # of the data's source, in nats per unit, where it is known
    baseline_rows: Callable[[Split], Mapping[str, np.ndarray]] | None = None  # log p of every row
    twin: Callable[[PRNGKeyArray], Twin] | None = None
    is_bound: bool = True  # False where a debugging setting makes the terms something else
    collapse_is_best: bool = False  # the stated settings make KL = 0 a stable solution
    family: Family | None = None  # None takes the one that the model's class names, if any
    details: Any = None  # what the family needs of a run besides: a record of its own
    notes: tuple[str, ...] = ()  # what the user must know of the data, a sentence each
    seed: int = 0

    def evaluated(self, proposal: AbstractProposal) -> AbstractProposal:
        """The proposal that held-out numbers are made with, given the trained one."""
        return proposal if self.evaluation_proposal is None else self.evaluation_proposal

    def __post_init__(self):
        require_pair(self.model, self.proposal)
        require_splits(self.data)
        require_objective(self.objective)
        require_optimiser(self.optimiser)
        missing = [name for name in ("train", "valid") if name not in self.data]
        if missing:
            raise UserError(
                f"The setup {self.name!r} has no split {missing[0]!r}; it has: {', '.join(self.data)}. "
                "Training needs 'train', and 'valid' to evaluate on; 'test' is for `evaluate`."
            )
        steps_per_epoch(self.data["train"], self.run.batch_size)  # raises where there are none
        if self.claim is None and isinstance(self.objective, Claim):
            object.__setattr__(self, "claim", self.objective)
        if self.family is None:
            object.__setattr__(self, "family", getattr(self.model, "family", None))

"""What is differentiated where a model goes step by step: the ELBO, the IWAE bound or a filter's."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tightbound.errors import UserError
from tightbound.inference.filtering import Filtering, SchemeName
from tightbound.train.settings import ObjectiveSettings
from tightbound.unread import refuse_unread

if TYPE_CHECKING:
    from tightbound.train.objective import Claim


@dataclass(frozen=True)
class StepObjective:
    """The bound that is raised. With fivo, held-out numbers are of the same filter."""

    estimator: Literal["elbo", "iwae", "fivo"] = "elbo"
    num_samples: int = 1
    """Draws, or particles, per sequence."""
    path: Literal["full", "stop_proposal"] = "full"
    """stop_proposal (sticking the landing): elbo only."""
    kl_weight: float = 1.0
    """elbo: final weight of log p(z) - log q(z|x)."""
    kl_warmup_steps: int = 0
    """elbo: steps over which that weight rises linearly from 0."""
    free_bits: float = 0.0
    """elbo: KL of a whole sequence, in nats averaged over the batch, below which nothing is gained."""
    threshold: float = 0.5
    """fivo: share of the particles below which the effective sample size makes them resample."""
    resample_every: int = 1
    """fivo: steps between which resampling is considered."""
    resampling: SchemeName = "systematic"
    resampling_gradient: Literal["dropped", "kept"] = "dropped"
    """fivo: whether the gradient has the terms of resampling. Kept, it is unbiased and noisy, and
    needs multinomial resampling at threshold 1 or 0."""
    truncate: int | None = None
    """Steps between updates within a sequence, whose state is carried on; None takes sequences whole."""
    backpropagate: int | None = None
    """truncate: last steps that the gradient of each such update goes back through; None is as many."""
    reset: float = 0.0
    """truncate: probability that the carried state is dropped and a window begins anew."""

    def __post_init__(self):
        if self.estimator != "fivo":
            refuse_unread(
                self,
                "estimator",
                *("threshold", "resample_every", "resampling", "resampling_gradient"),
            )

    def filtering(self) -> Filtering | None:
        """The filter that held-out numbers are made with; None for independent draws."""
        if self.estimator != "fivo":
            return None
        return Filtering(self.num_samples, self.threshold, self.resample_every, self.resampling)

    def build(self) -> "Claim":
        """The objective; UserError where its settings contradict each other."""
        from tightbound.train.filtering import FilteringObjective
        from tightbound.train.objective import Objective
        from tightbound.train.schedules import kl_weight_schedule

        filtering = self.filtering()
        try:
            if filtering is not None:
                weighted = self.kl_weight != 1.0 or self.kl_warmup_steps or self.free_bits
                if weighted or self.path != "full":
                    raise ValueError(
                        "KL weights, free bits and gradient paths change the ELBO, but the estimator "
                        "is 'fivo', which has no such parts. Use 'elbo'."
                    )
                objective: Any = FilteringObjective(filtering, self.resampling_gradient)
                return self._in_windows(objective)
            annealing = ObjectiveSettings(
                kl_weight=self.kl_weight, kl_warmup_steps=self.kl_warmup_steps
            )
            objective = Objective(
                "elbo" if self.estimator == "elbo" else "iwae",
                self.num_samples,
                self.path,
                kl_weight=kl_weight_schedule(annealing),
                free_bits=self.free_bits,
            )
            return self._in_windows(objective)
        except ValueError as error:
            raise UserError(str(error)) from error

    def _in_windows(self, objective: Any) -> "Claim":
        """The objective, raised window by window where that is asked for."""
        from tightbound.train.truncated import Truncated

        if self.truncate is not None:
            span = self.truncate if self.backpropagate is None else self.backpropagate
            return Truncated(objective, self.truncate, span, self.reset)
        if self.backpropagate is not None or self.reset:
            raise ValueError(
                "`backpropagate` and `reset` say how sequences are trained on in windows, but "
                "`truncate` is not set. Set it to the steps between updates, or leave them out."
            )
        return objective

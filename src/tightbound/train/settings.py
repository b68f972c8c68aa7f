"""The settings of a training run, as typed, frozen records. Importing this imports no JAX."""

from dataclasses import dataclass, field
from typing import Any, Literal

from tightbound.errors import UserError
from tightbound.unread import refuse_unread

OptimiserName = Literal["adam", "adamw", "adagrad", "rmsprop", "sgd"]
EstimatorName = Literal["elbo", "iwae", "renyi", "vimco", "wake-sleep"]
PathName = Literal["full", "stop_proposal", "doubly"]


@dataclass(frozen=True)
class OptimiserSettings:
    """How a gradient becomes an update."""

    name: OptimiserName = "adam"
    learning_rate: float = 1e-3
    warmup_steps: int = 0
    """Steps over which the learning rate rises linearly from 0."""
    decay: Literal["constant", "cosine", "linear"] = "constant"
    """How it falls, after the warm-up, to `final_fraction` of itself at the last step."""
    final_fraction: float = 0.0
    restart_every: int | None = None
    """Steps after which warm-up and decay start over (warm restarts); None never."""
    clip_norm: float | None = None
    """Largest global norm of the gradient."""
    clip_value: float | None = None
    """Largest absolute entry of the gradient."""
    weight_decay: float = 0.0
    """Decoupled, adamw only."""
    epsilon: float | None = None
    """rmsprop: added to the root mean square that divides a gradient; None is 1e-8."""
    memory: float | None = None
    """rmsprop: share of the mean square that is kept at every step; None is 0.9."""
    forget_every: int = 1
    """Steps after which gradients are forgotten. Beyond 1 every step applies the sum of those since:
    a mistake (a gradient not reset between steps), kept to show what it does."""

    def __post_init__(self):
        if self.decay == "constant":
            refuse_unread(self, "decay", "final_fraction")
        if self.name != "adamw":
            refuse_unread(self, "name", "weight_decay")
        if self.name != "rmsprop":
            refuse_unread(self, "name", "epsilon", "memory")


@dataclass(frozen=True)
class ObjectiveSettings:
    """What is differentiated. Whatever is set here, evaluation reports the bound itself."""

    estimator: EstimatorName = "elbo"
    num_samples: int = 1
    path: PathName = "full"
    alpha: float = 0.5
    """Order of the Renyi bound."""
    kl_weight: float = 1.0
    """Final weight of log p(z) - log q(z|x); 0 switches the KL off."""
    kl_warmup_steps: int = 0
    """Steps over which that weight rises linearly from 0."""
    kl_cycle_steps: int | None = None
    """Steps after which the warm-up starts over (cyclical annealing); None never."""
    free_bits: float = 0.0
    """KL per latent site, in nats averaged over the batch, below which nothing is gained."""
    latent_noise: bool = True
    """False replaces every draw by the proposal's mean: no bound, a test that the rest can learn."""
    squared_error: bool = False
    """True replaces log p(x|z) by minus half the squared error: no bound, a test of the density."""

    def __post_init__(self):
        _check_at_least_one(self, "num_samples")
        if self.estimator != "renyi":
            refuse_unread(self, "estimator", "alpha")
        if self.kl_warmup_steps == 0:
            refuse_unread(self, "kl_warmup_steps", "kl_cycle_steps")


@dataclass(frozen=True)
class PlateauSettings:
    """What happens when the held-out bound stops rising."""

    patience: int | None = None
    """Evaluations without a new best before acting; None never acts."""
    action: Literal["stop", "rollback"] = "stop"
    decay: float = 0.5
    """Rollback: the learning rate is multiplied by this."""
    optimiser: Literal["restore", "reset", "keep"] = "restore"
    """Rollback: the optimiser's state is the best step's, a fresh one, or stays as it is."""
    max_rollbacks: int = 5
    """Rollbacks after which the run stops."""

    def __post_init__(self):
        _check_at_least_one(self, "patience")
        if self.patience is None:
            refuse_unread(self, "patience", "action", "decay", "optimiser", "max_rollbacks")
        elif self.action == "stop":
            refuse_unread(self, "action", "decay", "optimiser", "max_rollbacks")


@dataclass(frozen=True)
class RunSettings:
    """How long, how often."""

    steps: int = 2000
    batch_size: int = 128
    log_every: int = 10
    evaluate_every: int = 200
    """Steps between evaluations on the held-out split."""
    evaluate_samples: int = 4
    """Draws per sequence in those evaluations."""
    checkpoint_every: int = 500
    plateau: PlateauSettings = field(default_factory=PlateauSettings)

    def __post_init__(self):
        _check_at_least_one(
            self,
            "steps",
            "batch_size",
            "log_every",
            "evaluate_every",
            "evaluate_samples",
            "checkpoint_every",
        )


def _check_at_least_one(settings: Any, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if value is not None and value < 1:
            raise UserError(f"`{name}` is {value}, but it must be at least 1. Raise it.")

"""The settings of a Stein mixture, and what they make: a proposal, an objective, an optimiser."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tightbound.errors import UserError
from tightbound.train.settings import OptimiserSettings
from tightbound.unread import refuse_unread

if TYPE_CHECKING:  # a recipe is looked up without JAX; only `build` needs it
    from jaxtyping import Array, PRNGKeyArray, PyTree

    from tightbound.families.stein.transport import Inference
    from tightbound.inference.kernels import AbstractKernel
    from tightbound.inference.stein import Interaction
    from tightbound.models.base import AbstractProposal


@dataclass(frozen=True)
class MixtureSettings:
    """How many components, and what moves them."""

    method: Literal["stein", "svgd", "annealed-svgd", "single-guide"] = "stein"
    """svgd and its annealed form move points without a density: they have no bound. single-guide is one
    component, whose draws are those of all components together."""
    num_components: int = 5
    draws: int = 1
    """Of every component, at every step; points have one, which is themselves."""
    kernel: Literal["rbf", "imq", "linear", "rbf-and-imq"] = "rbf"
    """Between components: of their distance (rbf falls faster than imq), or of their product."""
    per_site: bool = False
    """A kernel, and a bandwidth, of its own for every array of parameters."""
    repulsion: float = 1.0
    """What keeps components apart is multiplied by this."""
    temperature: float = 1.0
    """stein: multiplies log p, but not log q; anything but 1 is no bound."""
    cycles: int = 10
    """annealed-svgd: 2 or more; in each but the last log p is switched off and brought back."""
    power: float = 10.0
    """annealed-svgd: how late in a cycle that happens."""
    model_rate: float | None = None
    """The learning rate of the model's own parameters; None: that of the components."""

    def __post_init__(self):
        if self.num_components < 1 or self.draws < 1:
            raise UserError(
                f"A mixture of {self.num_components} components with {self.draws} draws of each was "
                "asked for; both must be at least 1. One component is a single guide."
            )
        if not (self.temperature > 0 and self.repulsion >= 0):
            raise UserError(
                f"The temperature is {self.temperature} and the repulsion {self.repulsion}; the first "
                "multiplies log p and must be above 0, the second keeps components apart and must not "
                "be negative."
            )
        if self.method == "annealed-svgd" and not (self.cycles >= 2 and self.power > 0):
            raise UserError(
                f"Annealing in {self.cycles} cycles with the power {self.power} was asked for; give at "
                "least 2 cycles, of which the last is not annealed, and a power above 0."
            )
        if self.method != "annealed-svgd":
            refuse_unread(self, "method", "cycles", "power")
        if self.is_points:
            refuse_unread(self, "method", "draws")
        if self.method == "single-guide":
            refuse_unread(self, "method", "kernel", "per_site", "repulsion")
        if self.temperature != 1 and self.method != "stein":
            raise UserError(
                f"A temperature of {self.temperature} was combined with the method '{self.method}', "
                "which takes none of its user's. Use 'stein', or leave it at 1."
            )

    def refuse_model_rate(self, recipe: str) -> None:
        """UserError where a rate was set for a model that has nothing to learn."""
        if self.model_rate is not None:
            raise UserError(
                f"`mixture.model_rate` is {self.model_rate}, but the model of {recipe!r} has no "
                "parameters of its own: all it learns are the components. Leave it out."
            )

    @property
    def is_points(self) -> bool:
        """Whether components are points, which have no density."""
        return self.method in ("svgd", "annealed-svgd")

    @property
    def is_bound(self) -> bool:
        return not self.is_points


@dataclass(frozen=True)
class GuideSettings:
    """What every component is, where it does not look at the data."""

    family: Literal["mean-field", "full-rank"] = "mean-field"
    """A normal with a diagonal or with a full covariance. Points (svgd) are neither, and have no scale."""
    start_scale: float = 0.1
    """Of every latent."""
    start_spread: float = 1.0
    """First means are draws of the prior times this, or of N(0, I) where the prior is the target."""

    def __post_init__(self):
        if not (self.start_scale > 0 and self.start_spread >= 0):
            raise UserError(
                f"`start_scale` is {self.start_scale} and `start_spread` {self.start_spread}; a scale "
                "must be above 0, a spread must not be negative."
            )

    def maker(
        self,
        mixture: MixtureSettings,
        sample_start: "Callable[[PRNGKeyArray], PyTree[Array]]",
    ) -> "Callable[[PRNGKeyArray], AbstractProposal]":
        """What makes one component from a key: a guide, or a point for the methods that move points."""
        import jax

        from tightbound.models.mean_field import FullRank, MeanField, PointMass

        def start(key):
            return jax.tree.map(lambda z: self.start_spread * z, sample_start(key))

        if mixture.is_points:
            return lambda key: PointMass(start, key=key)
        kind = {"mean-field": MeanField, "full-rank": FullRank}[self.family]
        return lambda key: kind(start, scale=self.start_scale, key=key)


def inference(
    make: "Callable[[PRNGKeyArray], AbstractProposal]",
    settings: MixtureSettings,
    optimiser: OptimiserSettings,
    *,
    steps: int,
    num_rows: int,
    key: "PRNGKeyArray",
) -> "Inference":
    """What the settings say of proposals made by `make`, over `steps` steps on a split of `num_rows`."""
    from tightbound.families.stein.transport import (
        annealed,
        constant_temperature,
        single_guide,
        stein_mixture,
        svgd,
    )
    from tightbound.train.objective import always_one

    rule = _rule(settings, optimiser, steps)
    if settings.method == "single-guide":
        return single_guide(make, rule, draws=settings.draws * settings.num_components, key=key)
    common: dict[str, Any] = {
        "num_components": settings.num_components,
        "num_rows": num_rows,
        "kernel": _kernel(settings),
        "repulsion": settings.repulsion,
        "key": key,
    }
    if settings.is_points:
        annealing = always_one
        if settings.method == "annealed-svgd":
            annealing = annealed(steps, cycles=settings.cycles, power=settings.power)
        return svgd(make, rule, annealing=annealing, **common)
    temperature = always_one
    if settings.temperature != 1:
        temperature = constant_temperature(settings.temperature)
    return stein_mixture(make, rule, draws=settings.draws, temperature=temperature, **common)


def interaction(settings: MixtureSettings, *, num_rows: int) -> "Interaction | None":
    """What the settings say of the force between components; None for a single guide."""
    from tightbound.inference.stein import Interaction

    if settings.method == "single-guide":
        return None
    return Interaction(_kernel(settings), settings.repulsion, num_rows)


def _kernel(settings: MixtureSettings) -> "AbstractKernel":
    from tightbound.inference.kernels import (
        RBF,
        InverseMultiquadric,
        KernelMixture,
        Linear,
        PerSite,
    )

    kernel = {
        "rbf": RBF(),
        "imq": InverseMultiquadric(),
        "linear": Linear(),
        "rbf-and-imq": KernelMixture((RBF(), InverseMultiquadric()), (0.5, 0.5)),
    }[settings.kernel]
    return PerSite(kernel) if settings.per_site else kernel


def _rule(settings: MixtureSettings, optimiser: OptimiserSettings, steps: int):
    """The optimiser, with a rate of its own for the model where one is set."""
    from dataclasses import replace

    import jax
    import optax

    from tightbound.train.schedules import optimiser as built

    if settings.model_rate is None:
        return built(optimiser, steps)
    of_model = replace(optimiser, learning_rate=settings.model_rate)
    return optax.partition(
        {"model": built(of_model, steps), "proposal": built(optimiser, steps)},
        lambda pair: (
            jax.tree.map(lambda leaf: "model", pair[0]),
            jax.tree.map(lambda leaf: "proposal", pair[1]),
        ),
    )

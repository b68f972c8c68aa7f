"""The smallest run there is: one latent level, four frames, so that a step compiles in no time."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest
from jax.experimental.compilation_cache import compilation_cache
from jax.scipy.stats import norm
from jaxtyping import Array, Float

from tightbound.data.batch import Split
from tightbound.evaluation import Evaluation, evaluate
from tightbound.models.base import AbstractModel, AbstractProposal
from tightbound.terms import Kind
from tightbound.train.folder import RunFolder
from tightbound.train.objective import Objective
from tightbound.train.settings import RunSettings
from tightbound.train.setup import Setup


class Level(AbstractModel):
    """z ~ N(0, 1),  x_t | z ~ N(a + z, 1), scored frame by frame."""

    kinds: ClassVar = {"z": Kind.LATENT, "x": Kind.OBSERVED}

    offset: Float[Array, ""]  # a

    def sample_prior(self, key):
        return jax.random.normal(key)

    def score(self, x, z):
        return {"z": norm.logpdf(z)[None], "x": norm.logpdf(x, self.offset + z, 1.0)}

    def sample_likelihood(self, z, key):
        return self.offset + z + jax.random.normal(key, (4,))


class FreeGaussian(AbstractProposal):
    """q(z) = N(m, s^2), the same for every x."""

    mean: Float[Array, ""]
    log_scale: Float[Array, ""]

    def proposal(self, x):
        return dist.Normal(self.mean, jnp.exp(self.log_scale))


def level_split(name: str, num_rows: int) -> Split:
    return Split(
        name=name,
        x=np.random.default_rng(len(name)).normal(1.0, 1.5, (num_rows, 4)),
        mask=np.ones((num_rows, 4), bool),
        num_units=np.full(num_rows, 4, np.int32),
        law="made up",
    )


def level_setup(*, bounds: list[float] | None = None, **changes) -> Setup:
    """A run of 12 steps; `changes` are fields of the setup or of its run settings. `bounds` are
    the held-out bounds its evaluator will report, one after the other, that of the first state first."""
    settings = RunSettings(
        steps=12,
        batch_size=4,
        log_every=2,
        evaluate_every=4,
        evaluate_samples=2,
        checkpoint_every=3,
    )
    of_run = {name: changes.pop(name) for name in list(changes) if hasattr(settings, name)}
    setup = Setup(
        name="level",
        model=Level(jnp.asarray(0.3)),
        proposal=FreeGaussian(jnp.asarray(-0.2), jnp.asarray(-0.5)),
        data={"train": level_split("train", 10), "valid": level_split("valid", 6)},
        objective=Objective(),
        claim=None,
        optimiser=optax.adam(0.1),
        run=replace(settings, **of_run),
        evaluator=evaluate if bounds is None else Scripted(bounds),
    )
    return replace(setup, **changes)


@dataclass
class Scripted:
    """An evaluator that says what it was told to say, one held-out bound after the other."""

    bounds: list[float]

    def __call__(self, model, proposal, split, *, num_samples, key, noise=None, filtering=None):
        bound = self.bounds.pop(0)
        return Evaluation(
            kinds=dict(model.kinds),
            log_p={"z": np.zeros((1, 2)), "x": np.full((1, 2), bound)},
            log_q={"z": np.zeros((1, 2))},
            num_units=np.ones(2, np.int32),
            rows=np.arange(2),
            split=split.description,
        )


@pytest.fixture(scope="module", autouse=True)
def _compile_equal_steps_once(tmp_path_factory):
    """Most tests here compile the same step; XLA takes a second for it, its cache a twentieth."""
    settings = {
        "jax_compilation_cache_dir": str(tmp_path_factory.getbasetemp() / "compiled"),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    _configure(settings)
    yield
    _configure(before)


def _configure(settings: dict[str, Any]) -> None:
    compilation_cache.reset_cache()
    for name, value in settings.items():
        jax.config.update(name, value)


@pytest.fixture
def make_setup() -> Callable[..., Setup]:
    return level_setup


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    return RunFolder(tmp_path / "run")

"""What NumPyro's inference reports, scores, starts from and counts: evidence for TB606 to TB609.

Every probe asks the library's own code, on a shallow copy of the object, which is not changed.
"""

import copy
from collections.abc import Callable
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpyro
from jaxtyping import Array, Float, PRNGKeyArray, PyTree
from numpyro.contrib.einstein import MixtureGuidePredictive
from numpyro.contrib.einstein.steinvi import ASVGD, SteinVI
from numpyro.infer import SVI


def reported_numbers(
    method: SVI | SteinVI, state: Any, args: tuple, kwargs: dict
) -> tuple[float, float, float]:
    """What a step would report of this state (`evaluate`: the key of the next `update`), what it would
    of the same model with a constant added to its log density, and the constant."""
    twin = copy.copy(method)
    name = "_inference_model" if isinstance(method, SteinVI) else "model"
    model = getattr(method, name)

    @jax.jit
    def reported(state: Any, constant: Float[Array, ""]) -> Float[Array, ""]:
        def shifted(*args, **kwargs):
            result = model(*args, **kwargs)
            numpyro.factor("tightbound_constant", constant)
            return result

        setattr(twin, name, shifted)
        return twin.evaluate(state, *args, **kwargs)

    plain = float(reported(state, jnp.zeros(())))
    constant = 1.0 + abs(plain)  # of the number's size, so that rounding does not hide it
    return plain, float(reported(state, jnp.asarray(constant))), constant


class _Answer(Exception):
    """No error: it ends a call of the library's code that has shown what it was asked for."""

    def __init__(self, content: Any):
        super().__init__()
        self.content = content


def parameters_the_loss_scores_with(
    method: SteinVI, state: Any, args: tuple, kwargs: dict
) -> dict[str, PyTree]:
    """The components' parameters as SteinVI hands them to its mixture density, leading component axis.

    The kernel of the copy calls the loss once, outside any transformation, and the loss of the copy
    says what it was given.
    """
    twin: Any = copy.copy(method)
    twin.kernel_fn = _AsksTheLoss()
    twin.stein_loss = _SaysItsComponents()

    @jax.jit
    def components(state: Any) -> dict[str, PyTree]:
        try:
            twin.evaluate(state, *args, **kwargs)
        except _Answer as stop:
            return stop.content
        raise RuntimeError("SteinVI evaluated a state without asking its kernel or its loss.")

    return components(state)


class _AsksTheLoss:
    mode = "norm"

    def compute(self, key: PRNGKeyArray, particles: Any, info: Any, loss: Callable) -> NoReturn:
        loss(key, particles[0], 0)
        raise AssertionError("the loss ends the call")


class _SaysItsComponents:
    def particle_loss(
        self, *, flat_particles: Any, unravel_pytree: Callable, **others: Any
    ) -> NoReturn:
        raise _Answer(jax.vmap(unravel_pytree)(flat_particles))


def lost_static_arguments(method: SteinVI, args: tuple, kwargs: dict) -> tuple[str, ...] | None:
    """Static arguments that do not reach the guide when `init` makes the particles; None without any."""
    if not method.static_kwargs:
        return None
    twin = copy.copy(method)

    def first_call(*args, **kwargs):
        raise _Answer(frozenset(kwargs))

    twin._init_guide = first_call
    steps = (1,) if isinstance(method, ASVGD) else ()
    try:
        jax.eval_shape(lambda: twin.init(jax.random.key(0), *steps, *args, **kwargs))
    except _Answer as stop:
        return tuple(sorted(set(method.static_kwargs) - stop.content))
    raise RuntimeError("SteinVI was initialised without calling its guide.")


def components_counted(
    method: SteinVI, parameters: dict[str, PyTree], guide_sites: set[str]
) -> int:
    """How many components NumPyro's `MixtureGuidePredictive` sees; 0 where it cannot count any."""
    try:
        predictive = MixtureGuidePredictive(
            method.model, method.guide, parameters, guide_sites=list(guide_sites)
        )
    except IndexError:  # the leaf it looks at has no axis
        return 0
    return int(predictive.num_mixture_components)


def are_constrained_again(
    method: SteinVI, parameters: dict[str, PyTree], components: dict[str, PyTree]
) -> bool:
    """Whether `parameters` are the components' c(u) with the constraints applied once more: c(c(u))."""
    constrain: Any = method.constrain_fn  # set by `init`
    again = constrain(components)
    close = jax.tree.map(lambda a, b: bool(jnp.allclose(a, b, rtol=1e-4)), parameters, again)
    return all(jax.tree.leaves(close))

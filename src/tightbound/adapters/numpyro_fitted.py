"""A NumPyro model and guide with fitted parameters, whatever fitted them, and how to run them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
from jaxtyping import Array, Int, PRNGKeyArray, PyTree
from numpyro import handlers
from numpyro.contrib.einstein.steinvi import SteinVI
from numpyro.infer import SVI

Trace = Mapping[str, dict[str, Any]]  # NumPyro's: one message per site


@dataclass(frozen=True)
class Fitted:
    """A model and a mixture of guides with all their parameters, *constrained*, and what they are
    called with. Single-guide inference is a mixture of one."""

    model: Callable
    guide: Callable
    args: tuple
    kwargs: dict[str, Any]
    components: dict[str, PyTree]  # parameters of the guides; leaves have a leading component axis
    shared: dict[str, PyTree]  # parameters that exist once: the model's, and the guide's own few
    num_components: int

    def parameters(self, component: int | Int[Array, ""]) -> dict[str, PyTree]:
        """Everything that one component of the mixture is run with."""
        return self.shared | jax.tree.map(lambda leaf: leaf[component], self.components)


def fitted(method: SVI | SteinVI, state_or_params: Any, args: tuple, kwargs: dict) -> Fitted:
    """What a state of either, or the parameters that its `get_params` gave, stands for.

    `get_params` has applied every constraint; none is applied again. Static arguments are added.
    """
    kwargs = method.static_kwargs | kwargs
    if isinstance(method, SteinVI):
        return _fitted_steinvi(method, state_or_params, args, kwargs)
    return _fitted_svi(method, state_or_params, args, kwargs)


def _fitted_svi(svi: SVI, state_or_params: Any, args: tuple, kwargs: dict) -> Fitted:
    parameters = _parameters(svi, state_or_params)
    return Fitted(
        model=svi.model,
        guide=svi.guide,
        args=args,
        kwargs=kwargs,
        components={},
        shared=parameters | (getattr(state_or_params, "mutable_state", None) or {}),
        num_components=1,
    )


def _fitted_steinvi(stein: SteinVI, state_or_params: Any, args: tuple, kwargs: dict) -> Fitted:
    """The number of components is that of the guide's parameters which are in the mixture."""
    parameters = _parameters(stein, state_or_params)
    mixed = mixture_parameters(stein, args, kwargs)
    components = {name: value for name, value in parameters.items() if name in mixed}
    return Fitted(
        model=stein.model,
        guide=stein.guide,
        args=args,
        kwargs=kwargs,
        components=components,
        shared={name: value for name, value in parameters.items() if name not in mixed},
        num_components=len(jax.tree.leaves(components)[0]),
    )


def _parameters(method: SVI | SteinVI, state_or_params: Any) -> dict[str, PyTree]:
    given = isinstance(state_or_params, dict)
    return dict(state_or_params if given else method.get_params(state_or_params))


def mixture_parameters(stein: SteinVI, args: tuple, kwargs: dict) -> set[str]:
    """Names of the guide's parameters that every component has its own of."""
    run = handlers.trace(handlers.seed(stein.guide, jax.random.key(0)))
    sites = run.get_trace(*args, **kwargs)
    names = {name for name, site in sites.items() if site["type"] == "param"}
    return {name for name in names if not stein.non_mixture_params_fn(name)}


def guide_trace(
    fitted: Fitted, parameters: dict[str, PyTree], given: Trace, key: PRNGKeyArray
) -> dict[str, dict[str, Any]]:
    """The guide's messages, with the sites of `given` as they are there."""
    return _trace(fitted.guide, fitted, parameters, given, key)


def model_trace(
    fitted: Fitted, parameters: dict[str, PyTree], given: Trace, key: PRNGKeyArray
) -> dict[str, dict[str, Any]]:
    """The model's messages, with its latents as the guide drew them."""
    return _trace(fitted.model, fitted, parameters, given, key)


def _trace(
    function: Callable,
    fitted: Fitted,
    parameters: dict[str, PyTree],
    given: Trace,
    key: PRNGKeyArray,
) -> dict[str, dict[str, Any]]:
    messages: Any = given  # NumPyro's own types are narrower than what it needs
    run = handlers.replay(handlers.substitute(handlers.seed(function, key), parameters), messages)
    return dict(handlers.trace(run).get_trace(*fitted.args, **fitted.kwargs))


def sampled(trace: Trace) -> dict[str, dict[str, Any]]:
    return {name: site for name, site in trace.items() if site["type"] == "sample"}

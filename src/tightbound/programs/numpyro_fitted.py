"""A NumPyro model and guide with fitted parameters, whatever fitted them, and how to run them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
from jaxtyping import Array, Int, PRNGKeyArray, PyTree
from numpyro import handlers
from numpyro.contrib.einstein.steinvi import SteinVI
from numpyro.infer import SVI
from numpyro.infer.autoguide import AutoGuide

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

    `get_params` has applied every constraint; none is applied again. Static arguments are added. All
    parameters of a single guide are shared: by its one component.
    """
    kwargs = method.static_kwargs | kwargs
    if isinstance(method.guide, AutoGuide) and method.guide.prototype_trace is None:
        # Its first call looks at the model, and must not do so inside a transformation.
        handlers.seed(method.guide, jax.random.key(0))(*args, **kwargs)
    if isinstance(state_or_params, dict):
        parameters = state_or_params
    else:
        mutable = getattr(state_or_params, "mutable_state", None) or {}
        parameters = method.get_params(state_or_params) | mutable
    mixed = _mixed_names(method, args, kwargs) if isinstance(method, SteinVI) else set()
    components = {name: value for name, value in parameters.items() if name in mixed}
    return Fitted(
        model=method.model,
        guide=method.guide,
        args=args,
        kwargs=kwargs,
        components=components,
        shared={name: value for name, value in parameters.items() if name not in mixed},
        num_components=len(jax.tree.leaves(components)[0]) if components else 1,
    )


def _mixed_names(stein: SteinVI, args: tuple, kwargs: dict) -> set[str]:
    """The guide's parameters that every component has its own of."""

    def parameters() -> dict[str, PyTree]:
        sites = handlers.trace(handlers.seed(stein.guide, jax.random.key(0))).get_trace(
            *args, **kwargs
        )
        return {name: site["value"] for name, site in sites.items() if site["type"] == "param"}

    return {name for name in jax.eval_shape(parameters) if not stein.non_mixture_params_fn(name)}


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

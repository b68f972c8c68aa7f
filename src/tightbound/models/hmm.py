"""Hidden Markov models: a discrete chain seen through noise, summed exactly in one scan."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray
from numpyro.distributions import CategoricalLogits, Normal

from tightbound.data.sequences import Sequence
from tightbound.models.base import Distribution
from tightbound.models.stateful import AbstractStateSpace
from tightbound.terms import Kind


class AbstractEmission(eqx.Module):
    """p(x_t | z_t) for every value of a discrete z_t."""

    @abstractmethod
    def __call__(self, z: Int[Array, ""]) -> Distribution:
        """The distribution of one observation in state z."""


class CategoricalEmission(AbstractEmission):
    """x_t is a symbol: p(x_t = v | z_t = k) = softmax(logits[k])[v]."""

    logits: Float[Array, "state symbol"]

    def __call__(self, z: Int[Array, ""]) -> CategoricalLogits:
        return CategoricalLogits(self.logits[z])


class GaussianEmission(AbstractEmission):
    """x_t is a vector: x_t | z_t = k ~ N(mean[k], diag exp(2 log_scale[k]))."""

    mean: Float[Array, "state obs"]
    log_scale: Float[Array, "state obs"]

    def __call__(self, z: Int[Array, ""]) -> Distribution:
        return Normal(self.mean[z], jnp.exp(self.log_scale[z])).to_event(1)


class HiddenMarkovModel(AbstractStateSpace):
    """z_0 ~ softmax(initial),  z_t ~ softmax(transition[z_{t-1}]),  x_t ~ emission(z_t).

    Rabiner 1989. The smallest sequential family with an exact log p(x): every filter and every
    sequential bound is judged against it. x is a `Sequence`; `num_steps` is the length of the
    sequences that `sample` draws, and limits nothing else.
    """

    kinds: ClassVar[Mapping[str, Kind]] = {"z": Kind.LATENT, "x": Kind.OBSERVED}

    initial_logits: Float[Array, " state"]
    transition_logits: Float[Array, "state state"]  # a row per previous state
    emission: AbstractEmission
    num_steps: int = eqx.field(static=True)

    def initial(self) -> CategoricalLogits:
        return CategoricalLogits(self.initial_logits)

    def transition(self, z: Int[Array, ""]) -> CategoricalLogits:
        return CategoricalLogits(self.transition_logits[z])

    def observation(self, z: Int[Array, ""]) -> Distribution:
        return self.emission(z)

    def log_marginal(self, x: Sequence) -> Float[Array, ""]:
        """log p(x), in nats: the scaled forward recursion, Rabiner 1989, sec. V.A.

            log p(x) = sum_t log c_t,   c_t = sum_k p(z_t = k | x_{<t}) p(x_t | z_t = k)

        An impossible x gives -inf. The recursion runs on probabilities (one matrix-vector product
        per step and no exp), so a state whose predicted probability is below the smallest float
        is lost, even if it alone explains x_t; the referee's log-space recursion keeps it.
        """
        log_emission = self._log_emission(x)
        # Scaled by the best state of each step, so that a long x_t does not underflow.
        best = log_emission.max(-1, keepdims=True)
        best = jnp.where(jnp.isfinite(best), best, 0.0)
        transition = jax.nn.softmax(self.transition_logits, axis=-1)

        def step(predicted, inputs):
            emission, real = inputs
            joint = predicted * emission
            total = joint.sum()
            following = (joint / jnp.where(total > 0, total, 1.0)) @ transition
            return jnp.where(real, following, predicted), total

        initial = jax.nn.softmax(self.initial_logits)
        _, totals = jax.lax.scan(step, initial, (jnp.exp(log_emission - best), x.mask))
        return jnp.where(x.mask, jnp.log(totals) + best[:, 0], 0.0).sum()

    def posterior(self, x: Sequence) -> "HMMPosterior":
        """p(z | x): the backward recursion in log space, Rabiner 1989, eq. 25.

        m_t(k) = log p(x_{t:} | z_t = k)
               = log p(x_t | k) + log sum_j p(j | k) exp m_{t+1}(j)
        """
        log_transition = jax.nn.log_softmax(self.transition_logits, axis=-1)

        def step(message, inputs):
            log_emission, real = inputs
            ahead = jax.nn.logsumexp(log_transition + message[None, :], axis=-1)
            message = jnp.where(real, log_emission + ahead, message)
            return message, message

        inputs = (self._log_emission(x), x.mask)
        last = jnp.zeros_like(self.initial_logits)
        _, messages = jax.lax.scan(step, last, inputs, reverse=True)
        return HMMPosterior(self.initial_logits, log_transition, messages, jnp.asarray(x.mask))

    def _log_emission(self, x: Sequence) -> Float[Array, "time state"]:
        """log p(x_t | z_t = k); 0 at padding, which then says nothing about any state."""
        states = jnp.arange(len(self.initial_logits))
        log_prob = jax.vmap(lambda x_t: jax.vmap(lambda z: self.emission(z).log_prob(x_t))(states))
        return jnp.where(x.mask[:, None], log_prob(x.values), 0.0)


class HMMPosterior(eqx.Module):
    """p(z | x) of a hidden Markov model, itself a Markov chain forward in time:

        p(z_t = j | z_{t-1} = k, x)  is proportional to  p(j | k) exp m_t(j)

    with m_t(j) = log p(x_{t:} | z_t = j). Past the end of x it is the prior's chain.
    """

    initial_logits: Float[Array, " state"]
    log_transition: Float[Array, "state state"]
    messages: Float[Array, "time state"]  # m
    mask: Bool[Array, " time"]  # True at real positions

    def sample(self, key: PRNGKeyArray) -> Int[Array, " time"]:
        first_key, later_key = jax.random.split(key)

        def step(z, inputs):
            message, key = inputs
            z = jax.random.categorical(key, self.log_transition[z] + message)
            return z, z

        first = jax.random.categorical(first_key, self.initial_logits + self.messages[0])
        keys = jax.random.split(later_key, len(self.messages) - 1)
        _, later = jax.lax.scan(step, first, (self.messages[1:], keys))
        return jnp.concatenate([first[None], later])

    def log_prob(self, value: Int[Array, " time"]) -> dict[str, Float[Array, " time"]]:
        """log p(z_t | z_{t-1}, x), in nats, position by position; 0 at padding."""

        def later(last, z, message):
            return jax.nn.log_softmax(self.log_transition[last] + message)[z]

        first = jax.nn.log_softmax(self.initial_logits + self.messages[0])[value[0]]
        log_p = jnp.concatenate(
            [first[None], jax.vmap(later)(value[:-1], value[1:], self.messages[1:])]
        )
        return {"z": jnp.where(self.mask, log_p, 0.0)}

    def marginals(self) -> Float[Array, "time state"]:
        """p(z_t = k | x)."""

        def step(marginal, message):
            rows = jax.nn.softmax(self.log_transition + message[None, :], axis=-1)
            marginal = marginal @ rows
            return marginal, marginal

        first = jax.nn.softmax(self.initial_logits + self.messages[0])
        _, later = jax.lax.scan(step, first, self.messages[1:])
        return jnp.concatenate([first[None], later])

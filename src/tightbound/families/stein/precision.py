"""A precision (one over a variance) that is drawn with the other latents, or known."""

import math
from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln
from jaxtyping import Array, Float, PRNGKeyArray


class AbstractPrecision(eqx.Module):
    """The prior of a precision tau, over its logarithm, which is the latent; None where tau is known."""

    @abstractmethod
    def sample(self, key: PRNGKeyArray) -> Float[Array, ""] | None:
        """One draw of log tau; None where tau is known."""

    @abstractmethod
    def log_prob(self, log_precision: Float[Array, ""] | None) -> Float[Array, ""]:
        """The log-density of log tau, in nats; 0 where tau is known."""

    @abstractmethod
    def log_value(self, log_precision: Float[Array, ""] | None) -> Float[Array, ""]:
        """log tau."""


class GammaPrecision(AbstractPrecision):
    """tau ~ Gamma(a, b) with the mean a / b; the latent is log tau."""

    shape: float = eqx.field(static=True)  # a
    rate: float = eqx.field(static=True)  # b

    def __init__(self, shape: float, rate: float):
        if not (shape > 0 and rate > 0):
            raise ValueError(
                f"The Gamma prior of a precision has shape {shape} and rate {rate}; both must be "
                "positive."
            )
        self.shape = float(shape)
        self.rate = float(rate)

    def sample(self, key: PRNGKeyArray) -> Float[Array, ""]:
        return jax.random.loggamma(key, self.shape) - math.log(self.rate)

    def log_prob(self, log_precision: Float[Array, ""] | None) -> Float[Array, ""]:
        """The log-density of l = log tau, in nats.

            log p(l) = a log b - log Gamma(a) + a l - b e^l

        The Jacobian d tau / d l = e^l is in it: with it the power of tau is a and not a - 1.
        Written out because log p(tau) + l loses l where e^l under- or overflows.
        """
        l = self.log_value(log_precision)
        constant = self.shape * math.log(self.rate) - gammaln(self.shape)
        return constant + self.shape * l - self.rate * jnp.exp(l)

    def log_value(self, log_precision: Float[Array, ""] | None) -> Float[Array, ""]:
        if log_precision is None:
            raise ValueError(
                "A precision with a Gamma prior is a latent, but the parameters hold None for it. "
                "Take parameters that the same model drew, or use `FixedPrecision`."
            )
        return log_precision


class FixedPrecision(AbstractPrecision):
    """tau is known: nothing is drawn and nothing scored."""

    value: float = eqx.field(static=True)  # tau

    def __init__(self, value: float):
        if not value > 0:
            raise ValueError(f"A fixed precision is {value}, but a precision must be positive.")
        self.value = float(value)

    def sample(self, key: PRNGKeyArray) -> None:
        return None

    def log_prob(self, log_precision: Float[Array, ""] | None) -> Float[Array, ""]:
        return jnp.zeros(())

    def log_value(self, log_precision: Float[Array, ""] | None) -> Float[Array, ""]:
        return jnp.array(math.log(self.value))

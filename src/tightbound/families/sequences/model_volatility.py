"""Stochastic volatility: returns whose log-variances wander, for one series or several."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tightbound.data.sequences import Sequence
from tightbound.families.family import Family
from tightbound.families.sequences import FAMILY
from tightbound.models.stateful import AbstractStateSpace, AbstractStepwise
from tightbound.nn.scales import above_floor, raw_above_floor
from tightbound.terms import Kind

_SMALLEST = 1e-3  # added to a squared return before its log, in typical variances


class StochasticVolatility(AbstractStateSpace):
    """z_t ~ N(mu + phi (z_{t-1} - mu), Q),   x_t = exp(z_t / 2) C e_t,   z_0 stationary.

    phi and e_t go series by series. z_t are log-variances: mu does what a scale of the returns
    would. One series is Kim, Shephard & Chib 1998, eq. 1, with beta = 1; several are Naesseth et
    al. 2018 (arXiv:1705.11140), sec. 4, with the same.

        Q = diag(s) R diag(s),   R and C C^T correlation matrices that never change
        e_d ~ N(0, 1), or Student-t of df_d degrees (exp(z / 2) is then the scale, not the deviation)

    All parameters may have any value: phi is a tanh, s and df lie above floors by a softplus, and a
    correlation matrix has rows of I + (strictly lower part) scaled to length 1 as its factor. C reads
    the series in their order, which matters under Student-t shocks and to them alone.
    """

    family: ClassVar[Family] = FAMILY
    kinds: ClassVar[Mapping[str, Kind]] = {"z": Kind.LATENT, "x": Kind.OBSERVED}
    min_scale: ClassVar[float] = 1e-3  # of s: a volatility that hardly moves is no fault
    min_df: ClassVar[float] = 2.1  # as in `StudentTOutput`: the returns have a variance

    mean: Float[Array, " series"]  # mu
    raw_persistence: Float[Array, " series"]  # phi before tanh
    raw_scale: Float[Array, " series"]  # s
    noise_mixing: Float[Array, "series series"] | None  # R; None for a diagonal Q
    return_mixing: Float[Array, "series series"] | None  # C; None for returns without correlation
    raw_df: Float[Array, " series"] | None  # None for Gaussian shocks
    num_steps: int = eqx.field(static=True)

    def __init__(
        self,
        mean: Float[Array, " series"],
        *,
        persistence: float = 0.95,
        scale: float = 0.2,
        full_noise: bool = False,
        correlated_returns: bool = False,
        df: float | None = None,
        num_steps: int = 250,
    ):
        """First values: `mean` of the log-variances, one `persistence`, `scale` and `df` for all
        series, and no correlation anywhere."""
        if not -1 < persistence < 1:
            raise ValueError(
                f"`persistence` is {persistence}, but a stationary volatility needs it between -1 "
                "and 1. Give 0.95 for daily returns."
            )
        num_series = len(mean)
        every = jnp.ones(num_series)
        nothing = jnp.zeros((num_series, num_series))
        self.mean = mean
        self.raw_persistence = math.atanh(persistence) * every
        self.raw_scale = raw_above_floor(scale, self.min_scale) * every
        self.noise_mixing = nothing if full_noise else None
        self.return_mixing = nothing if correlated_returns else None
        self.raw_df = None if df is None else raw_above_floor(df, self.min_df) * every
        self.num_steps = num_steps

    @property
    def persistence(self) -> Float[Array, " series"]:
        """phi."""
        return jnp.tanh(self.raw_persistence)

    @property
    def scale(self) -> Float[Array, " series"]:
        """s: standard deviations of what moves the log-variances."""
        return above_floor(self.raw_scale, self.min_scale)

    @property
    def df(self) -> Float[Array, " series"] | None:
        """Degrees of freedom; None where the shocks are Gaussian."""
        return None if self.raw_df is None else above_floor(self.raw_df, self.min_df)

    def initial(self) -> "LinearShocks":
        """The stationary law: its covariance is P_ij = Q_ij / (1 - phi_i phi_j), since
        P = diag(phi) P diag(phi) + Q."""
        phi, noise = self.persistence, self._noise(self.mean)
        scale = noise.scale / jnp.sqrt(1 - phi**2)
        if noise.factor is None:
            return LinearShocks(self.mean, scale)
        cov = noise.factor @ noise.factor.T * jnp.outer(noise.scale, noise.scale)
        cov = cov / (1 - jnp.outer(phi, phi))
        factor = jnp.linalg.cholesky(cov / jnp.outer(scale, scale))
        return LinearShocks(self.mean, scale, factor)

    def transition(self, z: Float[Array, " series"]) -> "LinearShocks":
        return self._noise(self.mean + self.persistence * (z - self.mean))

    def _noise(self, mean: Float[Array, " series"]) -> "LinearShocks":
        mixing = self.noise_mixing
        factor = None if mixing is None else correlation_factor(mixing)
        return LinearShocks(mean, self.scale, factor)

    def observation(self, z: Float[Array, " series"]) -> "LinearShocks":
        mixing = self.return_mixing
        factor = None if mixing is None else correlation_factor(mixing)
        return LinearShocks(jnp.zeros_like(z), jnp.exp(z / 2), factor, self.df)

    def read(self, x_t: Float[Array, " series"]) -> Float[Array, " series"]:
        """log(x^2 / e^mu + c), which is z - mu and noise: what a network needs of the returns. The
        small c lets a return be 0 (Kim, Shephard & Chib 1998, sec. 2)."""
        return jnp.log(x_t**2 * jnp.exp(-self.mean) + _SMALLEST)


class LinearShocks(eqx.Module):
    """The law of mean + scale * (F e), with e_d ~ N(0, 1) or Student-t of df_d degrees.

    numpyro's multivariate normal solves with a matrix for every value it scores. Here F is one for
    all particles and is inverted once, which makes a filter of 12 series a hundred times as fast.
    """

    mean: Float[Array, " series"]
    scale: Float[Array, " series"]
    factor: Float[Array, "series series"] | None = None  # F, lower triangular; None for I
    df: Float[Array, " series"] | None = None

    def sample(self, key: PRNGKeyArray) -> Float[Array, " series"]:
        shocks = self._shocks().sample(key)
        mixed = shocks if self.factor is None else self.factor @ shocks
        return self.mean + self.scale * mixed

    def log_prob(self, value: Float[Array, " series"]) -> Float[Array, ""]:
        """log p(e) - log |F| - sum log scale, in nats."""
        shocks, log_det = (value - self.mean) / self.scale, jnp.log(self.scale).sum()
        if self.factor is not None:
            identity = jnp.eye(len(shocks))
            shocks = solve_triangular(self.factor, identity, lower=True) @ shocks
            log_det = log_det + jnp.log(jnp.diag(self.factor)).sum()
        return self._shocks().log_prob(shocks) - log_det

    def tilted(self, slope: Float[Array, " series"]) -> "LinearShocks":
        """Of a Gaussian N(m, P), the law proportional to N(z; m, P) exp(slope z): N(m + P slope, P)."""
        pulled = self.scale * slope
        if self.factor is not None:
            pulled = self.factor @ (self.factor.T @ pulled)
        return LinearShocks(self.mean + self.scale * pulled, self.scale, self.factor)

    def _shocks(self) -> Any:
        zeros, ones = jnp.zeros_like(self.mean), jnp.ones_like(self.mean)
        if self.df is None:
            return dist.Normal(zeros, ones).to_event(1)
        return dist.StudentT(self.df, zeros, ones).to_event(1)


def correlation_factor(mixing: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Lower Cholesky factor of a correlation matrix: the rows of I + (strictly lower part of
    `mixing`), scaled to length 1. It reaches every positive definite one; zeros give I."""
    lower = jnp.eye(len(mixing)) + jnp.tril(mixing, -1)
    return lower / jnp.sqrt((lower**2).sum(1, keepdims=True))


class LinearisedProposal(AbstractStepwise):
    """q(z_t | z_{t-1}, x_t) = N(m + P g, P), for p(z_t | z_{t-1}) = N(m, P) and g the slope of
    log p(x_t | z) at z = m.

    It is what Bayes' rule gives if log p(x_t | z) is taken for linear in z: the proposal that Pitt
    & Shephard 1999 have for stochastic volatility. It has no parameters of its own.
    """

    def context(
        self, model: StochasticVolatility, x: Sequence, readings: Array
    ) -> Float[Array, "time series"]:
        return jnp.asarray(x.values)

    def propose(
        self,
        model: StochasticVolatility,
        state: Float[Array, " series"],
        context: Float[Array, " series"],
        clock: Int[Array, ""],
    ) -> LinearShocks:
        prior: Any = model.prior(state, clock)
        slope = jax.grad(lambda z: model.observation(z).log_prob(context))(prior.mean)
        return prior.tilted(slope)

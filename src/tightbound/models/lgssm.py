"""Linear-Gaussian state space: the continuous family whose log p(x) a Kalman filter gives exactly."""

from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray
from numpyro.distributions import MultivariateNormal

from tightbound.data.sequences import Sequence
from tightbound.models.stateful import AbstractStateSpace, AbstractStepwise
from tightbound.terms import Kind


class LinearGaussianSSM(AbstractStateSpace):
    """z_0 ~ N(m, P),  z_t ~ N(A z_{t-1}, Q),  x_t ~ N(C z_t, R).   Kalman 1960.

    Covariances are held as lower Cholesky factors, so every value of a factor with a positive
    diagonal is a model. x is a `Sequence`; `num_steps` is the length of the chains that
    `sample` draws, and limits nothing else.
    """

    kinds: ClassVar[Mapping[str, Kind]] = {"z": Kind.LATENT, "x": Kind.OBSERVED}

    initial_mean: Float[Array, " latent"]  # m
    initial_scale: Float[Array, "latent latent"]  # P = scale scale^T, and so below
    transition_weight: Float[Array, "latent latent"]  # A
    transition_scale: Float[Array, "latent latent"]  # Q
    emission_weight: Float[Array, "obs latent"]  # C
    emission_scale: Float[Array, "obs obs"]  # R
    num_steps: int = eqx.field(static=True)

    def initial(self) -> MultivariateNormal:
        return MultivariateNormal(self.initial_mean, scale_tril=self.initial_scale)

    def transition(self, z: Float[Array, " latent"]) -> MultivariateNormal:
        return MultivariateNormal(self.transition_weight @ z, scale_tril=self.transition_scale)

    def observation(self, z: Float[Array, " latent"]) -> MultivariateNormal:
        return MultivariateNormal(self.emission_weight @ z, scale_tril=self.emission_scale)

    def log_marginal(self, x: Sequence) -> Float[Array, ""]:
        """log p(x) = sum_t log N(x_t; C m_t, C P_t C^T + R), in nats, with the mean m_t and the
        covariance P_t of z_t given x_{<t}: the Kalman filter (Kalman 1960)."""
        return self._kalman_filter(x)[0].sum()

    def posterior(self, x: Sequence) -> "LGSSMPosterior":
        """p(z | x), by the gains of Rauch, Tung & Striebel 1965.

            z_t | z_{t+1}, x  ~  N(m_t + J_t (z_{t+1} - A m_t),  P_t - J_t (A P_t A^T + Q) J_t^T)

        with m_t, P_t given x_{<=t} and J_t = P_t A^T (A P_t A^T + Q)^-1.
        """
        _, means, covs = self._kalman_filter(x)
        is_followed = jnp.append(x.mask[1:], False)

        def kernel(mean, cov, is_followed):
            predicted = self._predict(cov)
            gain = jnp.linalg.solve(predicted, self.transition_weight @ cov).T
            gain = jnp.where(is_followed, gain, 0.0)
            offset = mean - gain @ self.transition_weight @ mean
            return offset, gain, jnp.linalg.cholesky(cov - gain @ predicted @ gain.T)

        return LGSSMPosterior(*jax.vmap(kernel)(means, covs, is_followed), mask=jnp.asarray(x.mask))

    def _kalman_filter(
        self, x: Sequence
    ) -> tuple[
        Float[Array, " time"], Float[Array, "time latent"], Float[Array, "time latent latent"]
    ]:
        """log p(x_t | x_{<t}), and the mean and covariance of z_t given x_{<=t}. At padding the
        first is 0 and the others are what was predicted."""

        def step(carry, inputs):
            mean, cov = carry
            x_t, real = inputs
            update = condition(mean, cov, self.emission_weight, self.emission_scale, x_t)
            log_p = jnp.where(real, update[0], 0.0)
            filtered = jnp.where(real, update[1], mean), jnp.where(real, update[2], cov)
            following = self.transition_weight @ filtered[0], self._predict(filtered[1])
            return following, (log_p, *filtered)

        initial = self.initial_mean, self.initial_scale @ self.initial_scale.T
        return jax.lax.scan(step, initial, (x.values, x.mask))[1]

    def _predict(self, cov: Float[Array, "latent latent"]) -> Float[Array, "latent latent"]:
        noise = self.transition_scale @ self.transition_scale.T
        return self.transition_weight @ cov @ self.transition_weight.T + noise


def condition(
    mean: Float[Array, " latent"],
    cov: Float[Array, "latent latent"],
    weight: Float[Array, "obs latent"],
    scale: Float[Array, "obs obs"],
    x_t: Float[Array, " obs"],
) -> tuple[Float[Array, ""], Float[Array, " latent"], Float[Array, "latent latent"]]:
    """For z ~ N(mean, cov) and x_t | z ~ N(C z, R): log p(x_t), in nats, and the mean and
    covariance of z given x_t. Joseph's form keeps the covariance symmetric and positive."""
    noise = scale @ scale.T
    innovation = weight @ cov @ weight.T + noise
    gain = jnp.linalg.solve(innovation, weight @ cov).T
    kept = jnp.eye(len(mean)) - gain @ weight
    return (
        MultivariateNormal(weight @ mean, covariance_matrix=innovation).log_prob(x_t),
        mean + gain @ (x_t - weight @ mean),
        kept @ cov @ kept.T + gain @ noise @ gain.T,
    )


class LGSSMPosterior(eqx.Module):
    """p(z | x) of a linear-Gaussian model, as a Markov chain backward in time:

        z_t | z_{t+1}, x  ~  N(offset_t + gain_t z_{t+1}, scale_t scale_t^T)

    The last real position has no gain; what stands at padding is never scored.
    """

    offset: Float[Array, "time latent"]
    gain: Float[Array, "time latent latent"]
    scale: Float[Array, "time latent latent"]
    mask: Bool[Array, " time"]

    def sample(self, key: PRNGKeyArray) -> Float[Array, "time latent"]:
        def step(following, inputs):
            offset, gain, scale, noise = inputs
            z = offset + gain @ following + scale @ noise
            return z, z

        noise = jax.random.normal(key, self.offset.shape)
        kernels = (self.offset, self.gain, self.scale, noise)
        return jax.lax.scan(step, jnp.zeros_like(self.offset[0]), kernels, reverse=True)[1]

    def log_prob(self, value: Float[Array, "time latent"]) -> dict[str, Float[Array, " time"]]:
        """log p(z_t | z_{t+1}, x), in nats, position by position; 0 at padding."""

        def kernel(offset, gain, scale, z, following):
            return MultivariateNormal(offset + gain @ following, scale_tril=scale).log_prob(z)

        following = jnp.concatenate([value[1:], jnp.zeros_like(value[:1])])
        log_p = jax.vmap(kernel)(self.offset, self.gain, self.scale, value, following)
        return {"z": jnp.where(self.mask, log_p, 0.0)}

    def marginals(
        self,
    ) -> tuple[Float[Array, "time latent"], Float[Array, "time latent latent"]]:
        """Mean and covariance of every z_t given x: the Rauch-Tung-Striebel smoother."""

        def step(following, kernel):
            offset, gain, scale = kernel
            mean, cov = following
            smoothed = offset + gain @ mean, gain @ cov @ gain.T + scale @ scale.T
            return smoothed, smoothed

        start = jnp.zeros_like(self.offset[0]), jnp.zeros_like(self.gain[0])
        kernels = (self.offset, self.gain, self.scale)
        return jax.lax.scan(step, start, kernels, reverse=True)[1]


class LGSSMOptimal(AbstractStepwise):
    """The proposal p(z_t | z_{t-1}, x_t), for which the increment of a weight does not depend on
    the draw: Doucet, Godsill & Andrieu 2000, Proposition 2."""

    def context(
        self, model: LinearGaussianSSM, x: Sequence, readings: Float[Array, "time obs"]
    ) -> Float[Array, "time obs"]:
        return readings

    def propose(
        self,
        model: LinearGaussianSSM,
        state: Float[Array, " latent"],
        context: Float[Array, " obs"],
        clock: Int[Array, ""],
    ) -> MultivariateNormal:
        prior: Any = model.prior(state, clock)
        _, mean, cov = condition(
            prior.loc, prior.covariance_matrix, model.emission_weight, model.emission_scale, context
        )
        return MultivariateNormal(mean, covariance_matrix=cov)


class Ahead(eqx.Module):
    """What the observations from a step on say of its state: log p(x_{t:} | z_t) is, up to a
    constant, -z^T precision z / 2 + z^T shift."""

    precision: Float[Array, "*time latent latent"]
    shift: Float[Array, "*time latent"]


class LGSSMSmoothing(AbstractStepwise):
    """The proposal p(z_t | z_{t-1}, x_{t:}): drawn forward, it is the posterior, so every weight is
    p(x), whatever is drawn."""

    def context(
        self, model: LinearGaussianSSM, x: Sequence, readings: Float[Array, "time obs"]
    ) -> Ahead:
        """The backward information filter (Mayne 1966): with J, h of step t + 1 and Q^-1 = L,

        J_t = C^T R^-1 C + A^T (L - L (L + J)^-1 L) A,    h_t = C^T R^-1 x_t + A^T L (L + J)^-1 h
        """
        inner, outer = _inverse(model.transition_scale), _inverse(model.emission_scale)
        to_latents = model.emission_weight.T @ outer

        def step(ahead, inputs):
            x_t, real = inputs
            pulled = model.transition_weight.T @ inner
            mix = jnp.linalg.inv(inner + ahead.precision)
            carried = Ahead(
                pulled @ model.transition_weight - pulled @ mix @ pulled.T,
                pulled @ mix @ ahead.shift,
            )
            here = Ahead(
                to_latents @ model.emission_weight + carried.precision,
                to_latents @ x_t + carried.shift,
            )
            here = jax.tree.map(lambda new, old: jnp.where(real, new, old), here, ahead)
            return here, here

        size = len(model.initial_mean)
        nothing = Ahead(jnp.zeros((size, size)), jnp.zeros(size))
        return jax.lax.scan(step, nothing, (readings, x.mask), reverse=True)[1]

    def propose(
        self,
        model: LinearGaussianSSM,
        state: Float[Array, " latent"],
        context: Ahead,
        clock: Int[Array, ""],
    ) -> MultivariateNormal:
        prior: Any = model.prior(state, clock)
        inner = _inverse(prior.scale_tril)
        cov = jnp.linalg.inv(inner + context.precision)
        mean = cov @ (inner @ prior.loc + context.shift)
        return MultivariateNormal(mean, covariance_matrix=cov)


def _inverse(scale: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """(scale scale^T)^-1."""
    root = jnp.linalg.inv(scale)
    return root.T @ root

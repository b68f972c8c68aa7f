"""Images as a model rebuilds them: the output's mean at draws of the prior or of the proposal."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from tightbound.data.batch import Batch, Noise, Split, chunks
from tightbound.data.labelled import image_of
from tightbound.data.noising import Binarise, Rescale
from tightbound.errors import UserError
from tightbound.estimators.estimate import Estimate
from tightbound.estimators.units import per_sequence
from tightbound.inference.predictive import posterior_draws
from tightbound.models.base import AbstractModel, AbstractProposal

_MOST_ROWS = 256  # at once


def prior_means(model: AbstractModel, num: int, key: PRNGKeyArray) -> Float[np.ndarray, "n h w"]:
    """The output's mean at draws of the prior, as grey images: what x is drawn around."""

    @eqx.filter_jit
    def draw(model, keys):
        def one(key):
            z_key, x_key = jax.random.split(key)
            z = model.sample_prior(z_key)
            return mean_of(model, model.sample_likelihood(z, x_key), z)

        return jax.vmap(one)(keys)

    return as_images(draw(model, jax.random.split(key, num)))


def reconstructions(
    model: AbstractModel,
    proposal: AbstractProposal,
    batch: Batch,
    noise: Noise | None,
    key: PRNGKeyArray,
) -> tuple[Float[np.ndarray, "n h w"], Float[np.ndarray, "n h w"]]:
    """The images of a batch as the model sees them, and the output's mean at one draw of z each."""
    noise_key, draw_key = jax.random.split(key)

    @eqx.filter_jit
    def rebuild(model, proposal, batch):
        if noise is not None:
            batch = noise(batch, noise_key)

        def one(x, row):
            z = proposal.proposal(x).sample(jax.random.fold_in(draw_key, row))
            return image_of(x), mean_of(model, x, z)

        return jax.vmap(one)(batch.x, batch.rows)

    images, means = rebuild(model, proposal, batch)
    return as_images(images), as_images(means)


def reconstructions_by_component(
    model: AbstractModel,
    proposal: AbstractProposal,
    batch: Batch,
    noise: Noise | None,
    key: PRNGKeyArray,
) -> Float[np.ndarray, "lines n h w"]:
    """The images of a batch as the model sees them, then line by line the output's mean at one draw of
    z from each component of the proposal."""
    noise_key, draw_key = jax.random.split(key)

    @eqx.filter_jit
    def rebuild(model, proposal, batch):
        if noise is not None:
            batch = noise(batch, noise_key)
        drawn = posterior_draws(model, proposal, batch, num_samples=1, key=draw_key)
        z = jax.tree.map(lambda leaf: leaf[:, 0], drawn)
        of_rows = jax.vmap(lambda x, z: mean_of(model, x, z))
        means = jax.vmap(lambda z: of_rows(batch.x, z))(z)
        return jnp.concatenate([image_of(batch.x)[None], means])

    return np.stack([as_images(line) for line in rebuild(model, proposal, batch)])


def mean_of(model: Any, x: Any, z: Any) -> Any:
    """E[x | z], from what was observed and its residual."""
    inner = getattr(model, "inner", model)
    if not hasattr(inner, "residual"):
        raise UserError(
            f"{type(inner).__name__} has no `residual(x, z)` (what was observed less the mean of the "
            "output), so there is no mean to draw. Give it one."
        )
    return image_of(x) - inner.residual(x, z)


def as_images(flat: Any) -> Float[np.ndarray, "n h w"]:
    """Square images from rows of pixels, clipped to [0, 1]."""
    flat = np.asarray(flat, np.float64)
    side = round(flat.shape[1] ** 0.5)
    if side * side != flat.shape[1]:
        raise UserError(f"{flat.shape[1]} numbers are no square image, so they cannot be drawn.")
    return np.clip(flat, 0.0, 1.0).reshape(-1, side, side)


def reconstruction_figures(
    model: AbstractModel,
    proposal: AbstractProposal,
    split: Split,
    noise: Noise | None,
    key: PRNGKeyArray,
    *,
    kl: Float[np.ndarray, " rows"],
    num_samples: int,
) -> dict[str, Estimate]:
    """Where the data are grey images that are binarised or rescaled, and the output has a mean:

    - the mean square of (grey image in [0, 1] - mean of the output) per pixel, at one z per image and
      component, averaged over components, where z is drawn from what the model sees;
    - KL(q || p), in nats per image: the given means of log q - log p over `num_samples` draws.

    A smaller error is no better inference: z may carry more than the bound thinks it worth.
    """
    inner = getattr(model, "inner", model)
    if not isinstance(noise, Binarise | Rescale) or not hasattr(inner, "residual"):
        return {}
    common: dict[str, Any] = {"bound": "none", "split": split.description}
    error = per_sequence(
        _square_errors(model, proposal, split, noise, key),
        estimator="grey image less the output's mean, one z per image and component",
        num_samples=1,
        **common,
    )
    divergence = per_sequence(
        kl, estimator="mean of log q - log p", num_samples=num_samples, **common
    )
    return {
        "reconstruction": replace(error, unit="squared grey levels per pixel"),
        "KL": replace(divergence, unit="nats per image"),
    }


def _square_errors(
    model: AbstractModel,
    proposal: AbstractProposal,
    split: Split,
    noise: Binarise | Rescale,
    key: PRNGKeyArray,
) -> Float[np.ndarray, " rows"]:
    """Of every image, the mean over pixels and components."""
    noise_key, draw_key = jax.random.split(key)

    @eqx.filter_jit
    def errors(model, proposal, batch) -> Float[Array, " batch"]:
        grey = image_of(batch.x) / noise.levels
        noisy = noise(batch, noise_key)
        z = posterior_draws(model, proposal, noisy, num_samples=1, key=draw_key)
        of_rows = jax.vmap(lambda x, z: mean_of(model, x, z))
        means = jax.vmap(lambda z: of_rows(noisy.x, z))(jax.tree.map(lambda leaf: leaf[:, 0], z))
        return jnp.square(means - grey[None]).mean((0, 2))

    found = [
        np.asarray(errors(model, proposal, jax.tree.map(jnp.asarray, batch)))[:real]
        for batch, real in chunks(split, min(_MOST_ROWS, len(split)))
    ]
    return np.concatenate(found).astype(np.float64)

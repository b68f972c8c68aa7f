"""Samples of a run on images: the output's mean at draws of the prior, and reconstructions."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from tightbound.errors import UserError

if TYPE_CHECKING:
    from tightbound.train.loop import TrainState
    from tightbound.train.setup import Setup


def write_images(
    setup: "Setup", state: "TrainState", folder: Path, *, num: int, columns: int, seed: int
) -> list[Path]:
    """Contact sheets as PNG files: draws, held-out images beside their reconstructions, and where the
    proposal is a mixture a line of held-out images with those of every component below it."""
    from tightbound.models.mixture import Mixture
    from tightbound.report.draw.pictures import image_sheet, side_by_side

    drawn = folder / f"prior-step-{int(state.step):08d}.png"
    image_sheet(prior_means(state, num, seed), drawn, columns)
    pairs = folder / f"reconstructions-step-{int(state.step):08d}.png"
    originals, means = reconstructions(setup, state, num, seed)
    side_by_side(originals, means, pairs, columns)
    if not isinstance(state.proposal, Mixture):
        return [drawn, pairs]
    by_component = folder / f"components-step-{int(state.step):08d}.png"
    lines = reconstructions_by_component(setup, state, columns, seed)
    image_sheet(lines.reshape(-1, *lines.shape[2:]), by_component, lines.shape[1])
    return [drawn, pairs, by_component]


def prior_means(state: "TrainState", num: int, seed: int) -> Float[np.ndarray, "n h w"]:
    """The output's mean at draws of the prior, as grey images: what x is drawn around."""
    import equinox as eqx
    import jax

    @eqx.filter_jit
    def draw(model, keys):
        def one(key):
            z_key, x_key = jax.random.split(key)
            z = model.sample_prior(z_key)
            x = model.sample_likelihood(z, x_key)
            return mean_of(model, x, z)

        return jax.vmap(one)(keys)

    return as_images(draw(state.model, jax.random.split(jax.random.key(seed), num)))


def reconstructions(
    setup: "Setup", state: "TrainState", num: int, seed: int
) -> tuple[Float[np.ndarray, "n h w"], Float[np.ndarray, "n h w"]]:
    """Held-out images as the model sees them, and the output's mean at one draw of z each."""
    import equinox as eqx
    import jax

    from tightbound.data.labelled import image_of

    valid = setup.data["valid"]
    batch = valid.take(np.arange(min(num, len(valid))))
    noise_key, draw_key = jax.random.split(jax.random.key(seed))

    @eqx.filter_jit
    def rebuild(model, proposal, batch):
        if setup.noise is not None:
            batch = setup.noise(batch, noise_key)

        def one(x, row):
            z = proposal.proposal(x).sample(jax.random.fold_in(draw_key, row))
            return image_of(x), mean_of(model, x, z)

        return jax.vmap(one)(batch.x, batch.rows)

    seen, means = rebuild(state.model, state.proposal, batch)
    return as_images(seen), as_images(means)


def reconstructions_by_component(
    setup: "Setup", state: "TrainState", num: int, seed: int
) -> Float[np.ndarray, "lines n h w"]:
    """Held-out images as the model sees them, then line by line the output's mean at one draw of z
    from each component."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    from tightbound.data.labelled import image_of
    from tightbound.inference.predictive import posterior_draws

    valid = setup.data["valid"]
    batch = valid.take(np.arange(min(num, len(valid))))
    noise_key, draw_key = jax.random.split(jax.random.key(seed))

    @eqx.filter_jit
    def rebuild(model, proposal, batch):
        if setup.noise is not None:
            batch = setup.noise(batch, noise_key)
        drawn = posterior_draws(model, proposal, batch, num_samples=1, key=draw_key)
        z = jax.tree.map(lambda leaf: leaf[:, 0], drawn)
        of_rows = jax.vmap(lambda x, z: mean_of(model, x, z))
        means = jax.vmap(lambda z: of_rows(batch.x, z))(z)
        return jnp.concatenate([image_of(batch.x)[None], means])

    return np.stack([as_images(line) for line in rebuild(state.model, state.proposal, batch)])


def mean_of(model: Any, x: Any, z: Any) -> Any:
    """E[x | z], from what was observed and its residual."""
    from tightbound.data.labelled import image_of

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

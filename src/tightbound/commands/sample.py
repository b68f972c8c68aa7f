"""`tightbound sample RUN`: draws from the model, and reconstructions beside their originals."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from tightbound.commands.options import RunReference, parse, print_json, use_compilation_cache
from tightbound.commands.runs_on_disk import open_run, split_reference
from tightbound.errors import UserError

if TYPE_CHECKING:
    from tightbound.train.loop import TrainState
    from tightbound.train.setup import Setup


@dataclass(frozen=True)
class SampleOptions:
    """Draw images as PNG files in the run's `samples/` folder."""

    run: RunReference
    """RUN or RUN@STEP; by default the newest checkpoint."""
    num: int = 64
    columns: int = 16
    seed: int = 0
    json: bool = False
    """One JSON document on stdout."""


def main(arguments: Sequence[str]) -> int:
    options = parse(SampleOptions, "sample", arguments)
    if options.num < 1 or options.columns < 1:
        raise UserError(
            f"{options.num} samples in {options.columns} columns were asked for; give at least 1."
        )
    use_compilation_cache()
    from tightbound.report.pictures import image_sheet, side_by_side

    path, step = split_reference(options.run)
    opened = open_run(path)
    setup = opened.build()
    state = opened.state(setup, step)
    opened.folder.samples.mkdir(exist_ok=True)
    drawn = opened.folder.samples / f"prior-step-{int(state.step):08d}.png"
    image_sheet(prior_means(state, options.num, options.seed), drawn, options.columns)
    pairs = opened.folder.samples / f"reconstructions-step-{int(state.step):08d}.png"
    originals, means = reconstructions(setup, state, options.num, options.seed)
    side_by_side(originals, means, pairs, options.columns)
    if options.json:
        print_json({"files": [str(drawn), str(pairs)]})
    else:
        print(drawn)
        print(pairs)
    return 0


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

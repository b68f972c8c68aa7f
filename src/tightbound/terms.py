"""The waist: what a model and a proposal say about a batch, as one small record of scored sites.

Every bound, objective, perplexity, decomposition and diagnosis is a function of these records.
"""

import enum
import os
from pathlib import Path
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int


class Kind(enum.Enum):
    """What a random choice is: drawn by the proposal, given as data, or drawn to make a density tractable."""

    LATENT = "latent"
    OBSERVED = "observed"
    AUXILIARY = "auxiliary"


class Site(eqx.Module):
    """One named kind of random choice, scored at every position, in nats.

    `log_q` is None where the choice is observed, or was drawn jointly with another site that
    holds the joint density. Positions outside `mask` count for nothing, whatever they hold
    (they are selected away, so even NaN or -inf there is harmless). `log_p` and `log_q` are masked
    each by its own shape: what has one value per sequence, as a density scored jointly has, counts
    once where the mask has a real position.
    """

    name: str = eqx.field(static=True)
    kind: Kind = eqx.field(static=True)
    log_p: Float[Array, "samples batch positions"]  # as many as `mask` has, or 1
    log_q: Float[Array, "samples batch positions_of_q"] | None  # the same, apart from `log_p`
    mask: Bool[Array, "samples batch time"]

    @property
    def total_log_p(self) -> Float[Array, "samples batch"]:
        """log p of this site summed over real positions, in nats per sequence."""
        return self._total(self.log_p)

    @property
    def total_log_q(self) -> Float[Array, "samples batch"]:
        """log q of this site summed over real positions, in nats per sequence; 0 where it has none."""
        if self.log_q is None:
            return jnp.zeros(self.log_p.shape[:-1], self.log_p.dtype)
        return self._total(self.log_q)

    def _total(
        self, score: Float[Array | np.ndarray, "samples batch positions"]
    ) -> Float[Array, "samples batch"]:
        return jnp.where(mask_of(self.mask, score.shape[-1]), score, 0.0).sum(-1)


def mask_of(
    mask: Bool[Array | np.ndarray, "*leading time"], positions: int
) -> Bool[Array | np.ndarray, "*leading positions"]:
    """The mask of scores with so many positions: `mask` itself, or, for one value per sequence, whether
    the sequence has a real position. ValueError for any other number."""
    if positions == mask.shape[-1]:
        return mask
    if positions == 1:
        return jnp.any(mask, -1, keepdims=True)
    raise ValueError(
        f"A site has {positions} scores for each sequence, but its mask has {mask.shape[-1]} positions. "
        "Give one score for each position, or one for the whole sequence: sum over what is left."
    )


class LogTerms(eqx.Module):
    """What `samples` draws z ~ q(. | x) are worth, site by site. Everything is derived from it.

    The sum over sites of log p - log q is the log-weight, exactly (same additions, same bits up
    to their order); `tests/test_terms.py` holds that.
    """

    sites: tuple[Site, ...]
    num_units: Int[Array, " batch"]  # real (unpadded) tokens or frames of x; 1 for an image

    @property
    def log_likelihood(self) -> Float[Array, "samples batch"]:
        """log p(x | z), in nats per sequence: the observed sites."""
        return self._total(lambda site: site.total_log_p, {Kind.OBSERVED})

    @property
    def log_prior(self) -> Float[Array, "samples batch"]:
        """log p(z), in nats per sequence: the latent and auxiliary sites."""
        return self._total(lambda site: site.total_log_p, {Kind.LATENT, Kind.AUXILIARY})

    @property
    def log_proposal(self) -> Float[Array, "samples batch"]:
        """log q(z | x), in nats per sequence."""
        return self._total(lambda site: site.total_log_q, set(Kind))

    @property
    def log_joint(self) -> Float[Array, "samples batch"]:
        """log p(x, z), in nats per sequence."""
        return self.log_likelihood + self.log_prior

    @property
    def log_weights(self) -> Float[Array, "samples batch"]:
        """log p(x, z) - log q(z | x), in nats per sequence."""
        return self.log_likelihood + self.log_prior - self.log_proposal

    def _total(self, part, kinds: set[Kind]) -> Float[Array, "samples batch"]:
        first = self.sites[0].log_p
        total = jnp.zeros(first.shape[:-1], first.dtype)
        for site in self.sites:
            if site.kind in kinds:
                total = total + part(site)
        return total

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one `.npz` that NumPy alone can read: see `docs/file-formats.md`."""
        arrays: dict[str, np.ndarray] = {
            "format": np.array("tightbound.LogTerms/1"),
            "num_units": np.asarray(self.num_units),
            "log_weights": np.asarray(self.log_weights),
        }
        _write_npz(path, arrays | _site_arrays(self.sites))

    @staticmethod
    def load(path: str | os.PathLike[str]) -> "LogTerms":
        """Read what `save` wrote. A file of another kind raises ValueError that names it."""
        arrays = _read_npz(path, "tightbound.LogTerms/1")
        return LogTerms(_sites_from(arrays), jnp.asarray(arrays["num_units"]))


class StepTerms(eqx.Module):
    """What a population of particles, resampled on the way, is worth step by step.

    At each step `log_increments` are the logs of the factors that multiply the weights of the
    particles *after* resampling, `ancestors[t, n]` is the particle of step t - 1 that particle n
    continues, `resampled[t]` says whether the weights were made equal before the step, and `ess`
    is the effective sample size of the weights after it. Steps outside `mask` change nothing.

    With one particle the sites sum to the bound. With more, the weighted means of the sites and
    one named remainder do (`estimators.bounds.filtering_decomposition`).
    """

    log_increments: Float[Array, "time particles batch"]
    ancestors: Int[Array, "time particles batch"]
    resampled: Bool[Array, "time batch"]
    mask: Bool[Array, "time batch"]
    ess: Float[Array, "time batch"]
    num_units: Int[Array, " batch"]
    sites: tuple[Site, ...] = ()  # their `samples` axis is the particles

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one `.npz` that NumPy alone can read: see `docs/file-formats.md`."""
        names = ("log_increments", "ancestors", "resampled", "mask", "ess", "num_units")
        arrays: dict[str, np.ndarray] = {"format": np.array("tightbound.StepTerms/1")}
        arrays |= {name: np.asarray(getattr(self, name)) for name in names}
        _write_npz(path, arrays | _site_arrays(self.sites))

    @staticmethod
    def load(path: str | os.PathLike[str]) -> "StepTerms":
        """Read what `save` wrote. A file of another kind raises ValueError that names it."""
        arrays = _read_npz(path, "tightbound.StepTerms/1")
        return StepTerms(
            log_increments=jnp.asarray(arrays["log_increments"]),
            ancestors=jnp.asarray(arrays["ancestors"]),
            resampled=jnp.asarray(arrays["resampled"]),
            mask=jnp.asarray(arrays["mask"]),
            ess=jnp.asarray(arrays["ess"]),
            num_units=jnp.asarray(arrays["num_units"]),
            sites=_sites_from(arrays),
        )


def _site_arrays(sites: tuple[Site, ...]) -> dict[str, np.ndarray]:
    arrays = {
        "site_names": np.array([site.name for site in sites], dtype=np.str_),
        "site_kinds": np.array([site.kind.value for site in sites], dtype=np.str_),
    }
    for site in sites:
        arrays[f"site.{site.name}.log_p"] = np.asarray(site.log_p)
        arrays[f"site.{site.name}.mask"] = np.asarray(site.mask)
        if site.log_q is not None:
            arrays[f"site.{site.name}.log_q"] = np.asarray(site.log_q)
    return arrays


def _sites_from(arrays: dict[str, np.ndarray]) -> tuple[Site, ...]:
    sites = []
    for name, kind in zip(arrays["site_names"], arrays["site_kinds"], strict=True):
        log_q = arrays.get(f"site.{name}.log_q")
        sites.append(
            Site(
                name=str(name),
                kind=Kind(str(kind)),
                log_p=jnp.asarray(arrays[f"site.{name}.log_p"]),
                log_q=None if log_q is None else jnp.asarray(log_q),
                mask=jnp.asarray(arrays[f"site.{name}.mask"]),
            )
        )
    return tuple(sites)


def _write_npz(path: str | os.PathLike[str], arrays: dict[str, Any]) -> None:
    """Write to a neighbour and rename, so that a reader never sees half a file."""
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    with open(partial, "wb") as file:
        np.savez_compressed(file, **arrays)
    os.replace(partial, path)


def _read_npz(path: str | os.PathLike[str], expected: str) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    found = str(arrays["format"]) if "format" in arrays else "no format entry"
    if found != expected:
        raise ValueError(f"{path} holds {found}, but {expected} was meant.")
    return arrays

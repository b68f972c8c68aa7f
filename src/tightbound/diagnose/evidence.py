"""What probes gather and checks judge: small groups of NumPy arrays, saved one file per step.

A group is None where it could not be gathered; the checks that read it then say NOT_RUN.
"""

import os
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped, jaxtyped

from tightbound.errors import UserError

Group = TypeVar("Group")


@dataclass(frozen=True)
class Sites:
    """The scored sites of the probe's held-out rows, in nats per sequence."""

    names: Shaped[np.ndarray, " site"]
    observed: Bool[np.ndarray, " site"]
    log_p: Float[np.ndarray, "site samples rows"]
    log_q: Float[np.ndarray, "site samples rows"]  # 0 where a site has none
    num_units: Int[np.ndarray, " rows"]

    @property
    def log_weights(self) -> Float[np.ndarray, "samples rows"]:
        return (self.log_p - self.log_q).sum(0)

    @property
    def kl(self) -> Float[np.ndarray, " rows"]:
        """Mean log q - log p of the latent sites: KL(q(z | x) || p(z)), in nats."""
        return (self.log_q - self.log_p)[~self.observed].sum(0).mean(0)


@dataclass(frozen=True)
class Latents:
    """First two moments of the draws of every row, all latents in one row of numbers."""

    mean: Float[np.ndarray, "rows latent"]
    scale: Float[np.ndarray, "rows latent"]


@dataclass(frozen=True)
class Outputs:
    """What was observed less the mean of the output, over all entries of the probe's rows."""

    residual_quantiles: Float[np.ndarray, " quantile"]  # 0 to 1 in 32 steps


@dataclass(frozen=True)
class Twin:
    """The shrunken twin, whose sums and integrals were done."""

    log_likelihood: Float[np.ndarray, "latents observations"]  # log p(x | z), all x of some z
    log_cell_volume: float
    obs_size: int
    relative_weight: Float[np.ndarray, " some"]  # mean weight in a box over p(x, z in box): 1
    relative_error: Float[np.ndarray, " some"]  # its standard error over draws; for some x


@dataclass(frozen=True)
class Scores:
    """Does a law draw what it scores? Stein's identity: E[(z - c) d log q / dz + 1] = 0."""

    proposal: Float[np.ndarray, " rows"]  # mean of the left side over draws and latents, per row
    prior: Float[np.ndarray, " repeats"]
    proposal_spread: float  # largest spread of the draws of one row; 0 means no noise at all
    likelihood_slope: float  # largest change of log p(x | z) when z is replaced by another draw
    # Shares of the coordinates that the identity leaves out, by what their draws show.
    proposal_discrete: float = 0.0  # few values
    prior_discrete: float = 0.0
    proposal_bounded: float = 0.0
    prior_bounded: float = 0.0  # an end at which the density does not vanish


@dataclass(frozen=True)
class Objective:
    """The objective held against what it claims to be, on the same draws, in nats."""

    estimator: str
    kl_weight: float
    surrogate: Float[np.ndarray, " rows"]  # of each row alone
    claimed: Float[np.ndarray, " rows"]
    batch_surrogate: float  # of all rows together
    batch_claimed: float
    heads_averaged: Float[np.ndarray, " rows"]  # what averaging every head apart would give, or NaN
    weights_dropped: Float[np.ndarray, " rows"]  # a filter's value without earlier weights, or NaN
    log_likelihood: Float[np.ndarray, "samples rows"]
    log_prior: Float[np.ndarray, "samples rows"]
    log_proposal: Float[np.ndarray, "samples rows"]
    neighbour_change: float  # largest change of a row's log-weight when the other rows change
    slopes: Float[np.ndarray, "directions two"]  # autodiff and finite difference; (0, 2) if none
    slope_modules: Shaped[np.ndarray, " directions"]  # which module a direction moves
    # Where parameters are held constant: |gradient - the claim's| over the claim's length, as the claim
    # holds them and with none held; NaN where the gradients were not compared.
    gradient_change: float
    full_gradient_change: float
    norms: Float[
        np.ndarray, " norm"
    ]  # of the claim's gradient and of forces; none if it is the objective
    point_weight: (
        float  # what log p of a point is multiplied by, N / n; 1 where rows are not pooled
    )
    # Mean log q of the same draws where q is a mixture, and of what may stand for it; else NaN.
    log_q_per_datum: float  # log-mean over components of every row's own log q
    log_q_over_batch: (
        float  # log-mean over components of their log q summed over the batch, per row
    )
    log_q_own: float  # of the component alone that has drawn
    num_components: int  # 1 where q is no mixture


@dataclass(frozen=True)
class Redrawn:
    """The objective and its claim by many keys, where they differ by one: they may still be equal in
    expectation, as a KL in closed form is to that of a draw. In nats; terms are means over samples."""

    surrogate: Float[np.ndarray, "keys rows"]  # of each row alone
    claimed: Float[np.ndarray, "keys rows"]
    log_likelihood: Float[np.ndarray, "keys rows"]  # of the claim's draws
    log_prior: Float[np.ndarray, "keys rows"]
    log_proposal: Float[np.ndarray, "keys rows"]
    batch_difference: Float[np.ndarray, " keys"]  # objective less claim, of all rows together
    latent_mean: Float[np.ndarray, "rows latent"]  # of q(z | x), over draws of their own
    latent_scale: Float[np.ndarray, "rows latent"]
    is_linear: bool  # in the terms of a draw; free bits are not


@dataclass(frozen=True)
class Joint:
    """The record's weights beside those asked of model and proposal, on the same draws, and the largest
    log p of every observed site; in nats per sequence. No weights where draws cannot be made again."""

    record: Float[np.ndarray, "samples rows"]
    asked: Float[np.ndarray, "samples rows"]  # log p(x, z) - log q(z | x)
    names: Shaped[np.ndarray, " site"]  # of the observed sites
    discrete: Bool[np.ndarray, " site"]  # whether the data and the model's draws are whole numbers
    largest_log_p: Float[np.ndarray, " site"]  # over draws and rows


@dataclass(frozen=True)
class Choices:
    """A model whose own choices a filter sums out: its particles against one teacher-forced pass of
    the choices they made, and its estimate against an enumeration; in nats."""

    names: Shaped[np.ndarray, " site"]
    replayed: Float[np.ndarray, "site string"]  # largest difference, one particle
    after_resampling: float  # largest difference of a particle that was copied on the way
    end_difference: float  # mean of teacher-forced less particle, over the sites called "end"
    relative_estimate: Float[np.ndarray, " draws"]  # estimate over p(x, z) of a tiny sentence
    num_paths: int  # choices that were drawn differently in those draws
    num_possible: int  # and that have a hundredth of p(x, z) or more
    proposal_mass: float  # q(z | x) summed over all z of a tiny sentence


@dataclass(frozen=True)
class Discrete:
    """A model whose latents have few values, all of them listed; in nats."""

    log_q: Float[np.ndarray, "rows support"]  # log q(z | x)
    log_prior: Float[np.ndarray, "rows support"]
    counts: Int[np.ndarray, "rows support"]  # how often z was drawn from q(z | x)
    num_draws: int  # of every row
    estimator: str  # of the claim; "none" without one
    reached: Float[
        np.ndarray, " draws"
    ]  # the proposal's gradient along the right one, over its length


@dataclass(frozen=True)
class Filters:
    """Estimates of p(x) by filters with the run's settings, where log p(x) is known."""

    sources: Shaped[np.ndarray, " source"]  # whose filter: the library's, the objective's, ...
    log_ratio: Float[np.ndarray, "source rows draws"]  # log p-hat(x) - log p(x), in nats
    log_p: Float[np.ndarray, " rows"]  # log p(x), in nats
    num_steps: int  # of every row
    num_particles: int
    resampled_share: float  # of the library's filters, that resampled at least once


@dataclass(frozen=True)
class Words:
    """What a model that chooses words from a table says of the first word of a text, before which nothing
    stands and which cannot be copied; in nats."""

    log_p: Float[np.ndarray, " word"]  # of every word of the vocabulary
    written: Float[np.ndarray, " rows"]  # of those that training rows begin with


@dataclass(frozen=True)
class Steps:
    """A model of sequences: how far its scores move when they should not, and when they should,
    relative to their size."""

    future_change: Float[np.ndarray, " rows"]  # of earlier steps, when later observations change
    padding_change: Float[np.ndarray, " padded"]  # of the objective's log-weights, by more padding
    padding_counted: int  # padded positions that the objective's record calls real
    # A particle's steps against its whole history; of no row where no particle goes step by step.
    descent_change: Float[np.ndarray, " followed"]
    lag_change: Float[np.ndarray, " lags"]  # of log p(x_t) when x_{t-1}, x_{t-2}, ... is exchanged


@dataclass(frozen=True)
class Mixtures:
    """The mixtures in a model whose components are the same whatever the context."""

    names: Shaped[np.ndarray, " mixture"]
    num_components: Int[np.ndarray, " mixture"]
    difference: Float[
        np.ndarray, " mixture"
    ]  # largest between components of log p(class | k), nats
    motion: Float[np.ndarray, " mixture"]  # the same of its slope along the training gradient, as a
    # share of the largest slope


@dataclass(frozen=True)
class Components:
    """The components of a proposal that is a mixture: where they are, what moves them, what they are
    worth. Norms are over a component's own parameters, figures of draws over the held-out rows."""

    gradient_norm: Float[np.ndarray, " component"]  # of what is raised, in nats per unit step
    attraction_norm: Float[np.ndarray, " component"]  # the stated Stein force's two parts; the
    repulsion_norm: Float[np.ndarray, " component"]  # gradient and 0 where no force is stated
    update_ratio: Float[np.ndarray, " component"]  # norm of the update over that of the parameters
    distance: Float[
        np.ndarray, "component other"
    ]  # of two, over the root mean square of their norms
    bound: Float[
        np.ndarray, " component"
    ]  # E[log p - log q] of its own draws, in nats per sequence
    usage: Float[np.ndarray, " component"]  # its share of the normalised weights, mean over rows
    entropy: Float[
        np.ndarray, " rows"
    ]  # of the responsibilities for a draw, in nats: log m if alike
    # Mean gain on the update's own batch, in nats per sequence, when only the components or only the
    # model move by the multiples of the line; NaN for a model without parameters.
    gains: Float[np.ndarray, "part multiple"]


@dataclass(frozen=True)
class Spreading:
    """What an optimiser does to a mixture's components where the bound has no slope."""

    stated: float  # the repulsion that is stated
    num_components: int
    # sum over pairs of (x - y) . (u_x - u_y) over the lengths of both, u the updates: from 1 (apart)
    # to -1 (together); 0 where nothing moves, NaN where all are equal
    spreading: float


@dataclass(frozen=True)
class Guard:
    """What a guarded optimiser refused: the step, replayed from the state that was kept."""

    step: int  # updates done before it; -1 where none was refused
    names: Shaped[np.ndarray, " site"]
    bad_scores: Int[np.ndarray, " site"]  # that are not finite, over draws and rows
    rows: Int[np.ndarray, " bad"]  # of the training split, where a score is not finite
    components: Int[np.ndarray, " bad_component"]  # whose gradient is not finite
    modules: Shaped[np.ndarray, " bad_module"]


@dataclass(frozen=True)
class Symbols:
    """Symbols that a split has and the training split has not, of text with a vocabulary."""

    split_names: Shaped[np.ndarray, " split"]
    num_new: Int[np.ndarray, " split"]  # different ones; 0 for the training split
    new_share: Float[np.ndarray, " split"]  # of the split's words


@dataclass(frozen=True)
class Transform:
    """Offsets as the model sees them, against the scale that is said to have made them."""

    split_names: Shaped[np.ndarray, " split"]
    mean: Float[np.ndarray, "split coordinate"]  # over real steps; 0 and 1 for the training split
    scale: Float[np.ndarray, "split coordinate"]
    mean_error: Float[np.ndarray, "split coordinate"]  # standard errors over rows
    scale_error: Float[np.ndarray, "split coordinate"]
    stated_mean: Float[np.ndarray, " coordinate"]  # in the file's units
    stated_scale: Float[np.ndarray, " coordinate"]
    round_trip: float  # largest |undo(apply(d)) - d|, in units of the scale


@dataclass(frozen=True)
class Evaluator:
    """The run's evaluator against the plain one, on the same rows and draws, in nats."""

    names: Shaped[np.ndarray, " site"]
    reported: Float[np.ndarray, "site rows"]
    expected: Float[np.ndarray, "site rows"]
    reported_saturated: Float[np.ndarray, "site rows"]  # on images that binarising leaves alone
    expected_saturated: Float[np.ndarray, "site rows"]
    parameters_changed: bool
    num_particles: int  # behind one draw: 1 where no filter runs
    trained_law: str
    evaluated_law: str
    under_trained_law: Float[np.ndarray, " rows"]  # the plain bound with the trained proposal
    reported_units: Int[np.ndarray, " rows"]  # that nats per unit divide by
    expected_units: Int[np.ndarray, " rows"]


@dataclass(frozen=True)
class Reported:
    """What a run's record says of held-out rows at this step, in nats per sequence."""

    stated: float  # the number in the record
    num_rows: int  # of the held-out split
    by_evaluator: Float[np.ndarray, " reported"]  # of every row, by the run's evaluator
    by_plain: Float[np.ndarray, " some"]  # of the first rows, by plain evaluation


@dataclass(frozen=True)
class Optimiser:
    """How the optimiser answers to made-up gradients: no model in it. A zero gradient is as many of them as
    one update comes of; the four figures are NaN where no two updates, or too few for their cost, came."""

    unanswered_share: float  # entries whose update is the same for a tenth of the gradient
    late_motion: float  # size of the update after 60 zero gradients, over the first one's
    held_motion: float  # after 29, over that of the same gradient at every step
    ignored_share: float  # how often one gradient among zeros never moves anything
    moved: Bool[np.ndarray, " modules"]  # does a gradient move this module at all
    modules: Shaped[np.ndarray, " modules"]
    gradients_per_update: int = 1  # 0 where no two updates came


@dataclass(frozen=True)
class Data:
    """The data as stored and as the model sees it."""

    split_names: Shaped[np.ndarray, " split"]
    scale: Float[np.ndarray, " split"]  # standard deviation of all numbers the model sees
    smallest: Float[np.ndarray, " split"]
    largest: Float[np.ndarray, " split"]
    bad_rows: Int[np.ndarray, " split"]  # first row with a value that is not finite, or -1
    empty_rows: Int[np.ndarray, " split"]  # first row without a real step, or -1
    duplicate_share: Float[np.ndarray, " split"]  # rows that stand elsewhere in the split
    overlap_share: Float[np.ndarray, " split"]  # rows that stand in the training split too
    off_support_share: float  # of the training numbers the likelihood gives zero density
    label_accuracy: float  # nearest class mean on held-out rows; NaN without labels
    label_chance: float


@dataclass(frozen=True)
class Splits:
    """Centre and width of what the model sees of every split, which a few numbers far out cannot move:
    each split's numbers are first pulled in to a window around its own middle 98 %."""

    split_names: Shaped[np.ndarray, " split"]
    centre: Float[np.ndarray, " split"]  # mean
    width: Float[np.ndarray, " split"]  # standard deviation
    centre_error: Float[np.ndarray, " split"]  # standard errors over rows, 0 of a single row
    width_error: Float[np.ndarray, " split"]  # that of the width over the width itself


@dataclass(frozen=True)
class Gradients:
    """Module by module: gradient, update and parameter norms; and where the gradient points."""

    modules: Shaped[np.ndarray, " module"]
    norm: Float[np.ndarray, " module"]
    update_norm: Float[np.ndarray, " module"]
    parameter_norm: Float[np.ndarray, " module"]
    quantiles: Float[np.ndarray, "module quantile"]  # of the gradient's entries, 0 to 1 in 32 steps
    cosine_with_bound: float  # training gradient against the bound's, both on the probe's batch
    cosine_of_halves: float  # the bound's gradient on two halves: the ceiling noise leaves


@dataclass(frozen=True)
class Line:
    """The bound of the same and of other rows along the actual update, fixed draws, in nats."""

    multiples: Float[np.ndarray, " multiple"]  # of the update; 0 and 1 among them
    same: Float[np.ndarray, "multiple rows"]
    other: Float[np.ndarray, "multiple rows"]


@dataclass(frozen=True)
class Schedule:
    """What the optimiser's schedules do to the size of an update in the steps to come."""

    largest_ahead: (
        float  # the largest update by this gradient until the last step, over the one now
    )


@dataclass(frozen=True)
class Evidence:
    """Everything gathered at one step."""

    step: int
    sites: Sites | None = None
    latents: Latents | None = None
    outputs: Outputs | None = None
    twin: Twin | None = None
    scores: Scores | None = None
    objective: Objective | None = None
    redrawn: Redrawn | None = None
    joint: Joint | None = None
    evaluator: Evaluator | None = None
    reported: Reported | None = None
    choices: Choices | None = None
    discrete: Discrete | None = None
    filters: Filters | None = None
    words: Words | None = None
    steps: Steps | None = None
    mixtures: Mixtures | None = None
    components: Components | None = None
    interaction: Spreading | None = None
    guard: Guard | None = None
    symbols: Symbols | None = None
    transform: Transform | None = None
    optimiser: Optimiser | None = None
    data: Data | None = None
    splits: Splits | None = None
    gradients: Gradients | None = None
    line: Line | None = None
    schedule: Schedule | None = None
    # groups of a family of one's own, as arrays called "group.field"
    others: Mapping[str, np.ndarray] = field(default_factory=dict)

    def with_groups(self, groups: Mapping[str, Any]) -> "Evidence":
        """The same with these groups, by name; those that have no field here are kept among the others."""
        known = {name: group for name, group in groups.items() if name in _GROUPS}
        arrays = {
            f"{name}.{part.name}": np.asarray(getattr(group, part.name))
            for name, group in groups.items()
            if name not in _GROUPS and group is not None
            for part in fields(group)
        }
        return replace(self, **known, others={**self.others, **arrays})

    def of(self, name: str, kind: type[Group]) -> Group | None:
        """A group of a family of one's own; None where it was not gathered."""
        return _load_group(kind, name, self.others, "this evidence")

    def save(self, path: str | os.PathLike[str]) -> None:
        """One `.npz` of arrays called "group.field", readable by NumPy alone."""
        arrays: dict[str, Any] = {"format": np.array(_FORMAT), "step": np.array(self.step)}
        for name in _GROUPS:
            group = getattr(self, name)
            if group is not None:
                arrays |= {
                    f"{name}.{part.name}": np.asarray(getattr(group, part.name))
                    for part in fields(group)
                }
        arrays |= self.others
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        with open(partial, "wb") as file:
            np.savez_compressed(file, **arrays)
        os.replace(partial, path)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> "Evidence":
        """Inverse of `save`; UserError where the file is something else."""
        arrays = read_npz(path)
        if str(arrays.get("format")) != _FORMAT:
            raise UserError(
                f"{path} holds {arrays.get('format', 'no format entry')}, but {_FORMAT} was meant."
            )
        step = _value(arrays.get("step", np.zeros(0)))
        if not isinstance(step, int):
            raise UserError(f"{path} does not say of which step it is: `step` is no whole number.")
        groups = {name: _load_group(kind, name, arrays, path) for name, kind in _GROUPS.items()}
        others = {
            name: array
            for name, array in arrays.items()
            if "." in name and name.partition(".")[0] not in _GROUPS
        }
        return Evidence(step=step, **groups, others=others)


_FORMAT = "tightbound.Evidence/1"
_GROUPS: Mapping[str, type] = {
    "sites": Sites,
    "latents": Latents,
    "outputs": Outputs,
    "twin": Twin,
    "scores": Scores,
    "objective": Objective,
    "redrawn": Redrawn,
    "joint": Joint,
    "evaluator": Evaluator,
    "reported": Reported,
    "choices": Choices,
    "discrete": Discrete,
    "filters": Filters,
    "words": Words,
    "steps": Steps,
    "mixtures": Mixtures,
    "components": Components,
    "interaction": Spreading,
    "guard": Guard,
    "symbols": Symbols,
    "transform": Transform,
    "optimiser": Optimiser,
    "data": Data,
    "splits": Splits,
    "gradients": Gradients,
    "line": Line,
    "schedule": Schedule,
}


def _load_group(
    kind: Any, name: str, arrays: Mapping[str, np.ndarray], path: str | os.PathLike[str]
) -> Any:
    """The group, None if the file has nothing of it; UserError where a field is missing or is not
    what its annotation says."""
    entries: dict[Any, str] = {part: f"{name}.{part.name}" for part in fields(kind)}
    if not any(entry in arrays for entry in entries.values()):
        return None
    values = {}
    with jaxtyped("context"):  # named axes must agree within a group
        for part, entry in entries.items():
            if entry not in arrays and part.default is not MISSING:
                continue  # what files of earlier runs do not say
            if entry not in arrays:
                raise UserError(
                    f"{path} has no entry `{entry}`, which its other entries need. It was edited, or "
                    "written by another version: gather the evidence again."
                )
            value, annotation = _value(arrays[entry]), part.type
            if not isinstance(value, annotation):
                raise UserError(
                    f"The entry `{entry}` of {path} is {arrays[entry].dtype} of shape "
                    f"{arrays[entry].shape}, but {_wanted(annotation)} was meant."
                )
            values[part.name] = value
    return kind(**values)


def _value(array: np.ndarray) -> Any:
    return array.item() if array.ndim == 0 else array


def _wanted(annotation: Any) -> str:
    """Names of kind and axes: "Float 'site samples rows'"."""
    axes = getattr(annotation, "dim_str", None)
    return annotation.__name__ if axes is None else f"{annotation.dtype.__name__} {axes.strip()!r}"


def read_npz(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """All arrays of a `.npz`, without pickles; UserError where it is none."""
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.") from None
    except Exception as error:  # zipfile, zlib, struct and NumPy each raise their own
        # NumPy's own words on pickles say how to load them, which is never the way out.
        reason = "it is no archive of plain arrays" if "pickle" in str(error) else str(error)
        raise UserError(
            f"{path} cannot be read as a NumPy .npz without pickles ({reason})."
        ) from error

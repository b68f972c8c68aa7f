"""Evidence of a run in which everything is right, made by hand; and one compilation for equal code."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tightbound.diagnose import evidence as ev
from tightbound.estimators.estimate import Estimate

MULTIPLES = np.array([0.0, 1 / 30, 0.1, 1 / 3, 1.0, 3.0, 10.0, 30.0])
ROWS = 32


def made_sites(rng: np.random.Generator) -> ev.Sites:
    """Draws whose weights are even and whose KL is five nats."""
    log_p_z = rng.normal(-4.0, 1.0, (200, 16))
    log_q_z = log_p_z + 5.0 + rng.normal(0.0, 0.3, (200, 16))
    log_p_x = rng.normal(-30.0, 2.0, 16) + rng.normal(0.0, 0.3, (200, 16))
    return ev.Sites(
        names=np.array(["z", "x"]),
        observed=np.array([False, True]),
        log_p=np.stack([log_p_z, log_p_x]),
        log_q=np.stack([log_q_z, np.zeros((200, 16))]),
        num_units=np.ones(16, int),
    )


def made_twin(rng: np.random.Generator) -> ev.Twin:
    """Eight bit vectors whose probabilities sum to 1 for each of four latents."""
    odds = rng.normal(size=(4, 8))
    return ev.Twin(
        log_likelihood=odds - np.log(np.exp(odds).sum(1, keepdims=True)),
        log_cell_volume=0.0,
        obs_size=3,
        relative_weight=1.0 + 0.01 * rng.normal(size=6),
        relative_error=np.full(6, 0.01),
    )


def made_redrawn(rng, *, keys=64, rows=16, latents=3, kl_form=None, shared=True, kl_weight=1.0):
    """The ELBO of a normal q with its KL in closed form, by many keys, against that of the draws; the KL may
    be another function of mean and scale, and log p(x | z) that of other draws."""
    mean, scale = rng.normal(0.0, 1.5, (rows, latents)), rng.uniform(0.3, 0.8, (rows, latents))
    noise = rng.normal(size=(keys, rows, latents))
    z = mean + scale * noise
    log_prior = (-0.5 * z**2 - 0.5 * np.log(2 * np.pi)).sum(-1)
    log_proposal = (-0.5 * noise**2 - np.log(scale) - 0.5 * np.log(2 * np.pi)).sum(-1)
    log_likelihood, other = rng.normal(-40.0, 4.0, rows) + rng.normal(0.0, 1.0, (2, keys, rows))
    kl = standard_kl(mean, scale) if kl_form is None else kl_form(mean, scale)
    claimed = log_likelihood + kl_weight * (log_prior - log_proposal)
    surrogate = (log_likelihood if shared else other) - kl_weight * kl
    return ev.Redrawn(
        surrogate=surrogate,
        claimed=claimed,
        log_likelihood=log_likelihood,
        log_prior=log_prior,
        log_proposal=log_proposal,
        batch_difference=(surrogate - claimed).mean(1),
        latent_mean=mean,
        latent_scale=scale,
        is_linear=True,
    )


def standard_kl(mean, scale):
    """KL of N(mean, scale^2) from N(0, 1), summed over the last axis."""
    return 0.5 * (mean**2 + scale**2 - 1 - 2 * np.log(scale)).sum(-1)


def made_objective(
    rng: np.random.Generator, *, samples: int = 1, estimator: str = "elbo", kl_weight: float = 1.0
) -> ev.Objective:
    """32 rows of terms of a usual size; the objective is the ELBO, weighted if asked for."""
    log_likelihood = rng.normal(-40.0, 4.0, (samples, ROWS))
    log_prior = rng.normal(-8.0, 2.0, (samples, ROWS))
    log_proposal = 0.5 * log_prior + rng.normal(0.0, 2.0, (samples, ROWS))
    claimed = (log_likelihood + kl_weight * (log_prior - log_proposal)).mean(0)
    slopes = rng.normal(0.0, 5.0, (6, 1))
    return ev.Objective(
        estimator=estimator,
        kl_weight=kl_weight,
        surrogate=claimed,
        claimed=claimed,
        batch_surrogate=float(claimed.mean()),
        batch_claimed=float(claimed.mean()),
        heads_averaged=np.full(ROWS, np.nan),  # an ELBO is no total of heads
        weights_dropped=np.full(ROWS, np.nan),  # and no filter's
        log_likelihood=log_likelihood,
        log_prior=log_prior,
        log_proposal=log_proposal,
        neighbour_change=0.0,
        slopes=slopes * np.array([1.0, 1.001]),
        slope_modules=np.repeat(["decoder", "q.encoder"], 3),
        gradient_change=np.nan,  # nothing is held constant
        full_gradient_change=np.nan,
        norms=np.array([3.6, 2.0, 6.1]),
        point_weight=1.0,
        log_q_per_datum=float(log_proposal.mean()),
        log_q_over_batch=float(log_proposal.mean()) - 0.9,
        log_q_own=float(log_proposal.mean()) + 0.4,
        num_components=3,
    )


def made_evaluator(rng: np.random.Generator) -> ev.Evaluator:
    """An evaluator that reports the plain scores, under the law that is trained on."""
    plain, saturated = rng.normal(-30.0, 4.0, (2, 2, 16))
    return ev.Evaluator(
        names=np.array(["z", "x"]),
        reported=plain,
        expected=plain,
        reported_saturated=saturated,
        expected_saturated=saturated,
        parameters_changed=False,
        num_particles=1,
        trained_law="GaussianProposal",
        evaluated_law="GaussianProposal",
        under_trained_law=plain.sum(0),
        reported_units=np.arange(3, 19),
        expected_units=np.arange(3, 19),
    )


def made_joint() -> ev.Joint:
    """A record that holds its weights up to rounding, of bits and of a density."""
    asked = np.random.default_rng(6).normal(-30.0, 4.0, (2, 4))
    names, discrete = np.array(["offset", "bits"]), np.array([False, True])
    return ev.Joint(asked + 1e-5, asked, names, discrete, np.array([3.0, -20.0]))


def made_reported() -> ev.Reported:
    """A record that states the mean of its rows, 16 of which were evaluated plainly."""
    rows = np.random.default_rng(5).normal(-30.0, 4.0, 40)
    return ev.Reported(float(rows.mean()), 40, rows, rows[:16])


def made_choices() -> ev.Choices:
    """Three strings, scored alike up to rounding; an estimate without bias; a law that sums to 1."""
    rng = np.random.default_rng(3)
    return ev.Choices(
        names=np.array(["first op", "op", "token", "end"]),
        replayed=1e-5 * rng.uniform(size=(4, 3)),
        after_resampling=2e-5,
        end_difference=-1e-5,
        relative_estimate=1.0 + 0.1 * np.tile([-1.0, 1.0], 128),
        num_paths=3,
        num_possible=4,
        proposal_mass=1.0 + 1e-6,
    )


def made_discrete() -> ev.Discrete:
    """Two rows of three values, drawn as often as they should be; the gradient arrives."""
    probability = np.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]])
    return ev.Discrete(
        log_q=np.log(probability),
        log_prior=np.full((2, 3), -np.log(3.0)),
        counts=np.round(4000 * probability).astype(int),
        num_draws=4000,
        estimator="vimco",
        reached=1.0 + 0.5 * np.tile([-1.0, 1.0], 128),
    )


def made_filters() -> ev.Filters:
    """Two rows whose estimates of p(x), by three filters, are 1 on average."""
    ratio = 1.0 + 0.2 * np.tile([-1.0, 1.0], (3, 2, 64))
    sources = np.array(["library", "objective", "evaluator"])
    return ev.Filters(sources, np.log(ratio), np.array([-20.0, -23.0]), 12, 16, 0.9)


def made_steps() -> ev.Steps:
    """Eight sequences whose scores move by rounding alone, and by earlier steps, the newest most."""
    rng = np.random.default_rng(4)
    future, padding, descent = 1e-7 * rng.uniform(size=(3, 8))
    return ev.Steps(future, padding, 0, descent, np.array([0.3, 0.2, 0.1, 0.05, 0.02]))


def made_mixtures() -> ev.Mixtures:
    """Two mixtures; the components of one are equal and are pulled apart."""
    return ev.Mixtures(
        names=np.array(["decoder.components", "emission.components"]),
        num_components=np.array([4, 32]),
        difference=np.array([3e-6, 2.0]),
        motion=np.array([0.7, 0.0]),
    )


def made_components() -> ev.Components:
    """Three components at unit distances, which share the weight and move by a thousandth."""
    return ev.Components(
        gradient_norm=np.array([2.0, 3.0, 2.5]),
        attraction_norm=np.array([2.2, 3.1, 2.4]),
        repulsion_norm=np.array([0.1, 0.2, 0.1]),
        update_ratio=np.array([1e-3, 2e-3, 1e-3]),
        distance=1.0 - np.eye(3),
        bound=np.array([-36.0, -37.0, -36.5]),
        usage=np.array([0.4, 0.25, 0.35]),
        entropy=np.linspace(0.2, 0.6, 16),
        gains=np.array([[0.0, 0.1, 0.3, 0.9, 1.5, 0.9, -3.0, -30.0]] * 2),
    )


def made_guard() -> ev.Guard:
    """A guard that has refused nothing."""
    none, unnamed = np.zeros(0, int), np.zeros(0, np.str_)
    return ev.Guard(-1, unnamed, none, none, none, unnamed)


def made_words() -> ev.Words:
    """Eight words, none of them much likelier than the others before training."""
    scores = np.array([0.5, -1.0, 1.0, 0.0, -0.5, 0.2, -0.2, 0.0])
    log_p = scores - np.log(np.exp(scores).sum())
    return ev.Words(log_p=log_p, written=log_p[[0, 1, 2]])


def made_symbols() -> ev.Symbols:
    """Three splits, of which the training split has every word."""
    return ev.Symbols(np.array(["train", "valid", "test"]), np.zeros(3, int), np.zeros(3))


def made_transform() -> ev.Transform:
    """Offsets normalised by the training split, and held-out splits that differ by chance."""
    return ev.Transform(
        split_names=np.array(["train", "valid", "test"]),
        mean=np.array([[1e-8, -2e-8], [0.03, -0.02], [-0.01, 0.04]]),
        scale=np.array([[1.0, 1.0], [0.98, 1.01], [1.02, 0.99]]),
        mean_error=np.full((3, 2), 0.02),
        scale_error=np.full((3, 2), 0.015),
        stated_mean=np.array([7.7, 0.5]),
        stated_scale=np.array([33.8, 36.8]),
        round_trip=1e-15,
    )


def made_line(rng: np.random.Generator, rise: float = 0.0) -> ev.Line:
    """An update whose bound is m - m^2 / 10 nats higher at m times itself, from a bound of -40 and
    `rise` on."""
    base = rng.normal(-40.0, 4.0, (2, ROWS)) + rise
    gain = (MULTIPLES - MULTIPLES**2 / 10)[:, None] + 0.001 * rng.normal(size=(8, ROWS))
    return ev.Line(MULTIPLES, base[0] + gain, base[1] + gain)


def made_evidence(step: int) -> ev.Evidence:
    """Every group, of a run in which everything is right."""
    rng = np.random.default_rng(step)
    return ev.Evidence(
        step=step,
        sites=made_sites(rng),
        latents=ev.Latents(rng.normal(size=(16, 3)), rng.uniform(0.3, 0.8, (16, 3))),
        outputs=ev.Outputs(np.linspace(-1.0, 1.0, 33)),
        twin=made_twin(rng),
        scores=ev.Scores(rng.normal(0.0, 0.1, 64), rng.normal(0.0, 0.1, 64), 1.3, 12.0),
        objective=made_objective(rng),
        redrawn=made_redrawn(np.random.default_rng(11)),
        joint=made_joint(),
        evaluator=made_evaluator(rng),
        reported=made_reported(),
        choices=made_choices(),
        discrete=made_discrete(),
        filters=made_filters(),
        steps=made_steps(),
        mixtures=made_mixtures(),
        components=made_components(),
        interaction=ev.Spreading(stated=1.0, num_components=3, spreading=0.9),
        guard=made_guard(),
        symbols=made_symbols(),
        words=made_words(),
        transform=made_transform(),
        optimiser=ev.Optimiser(
            0.0, 1e-3, 0.02, 0.0, np.ones(2, bool), np.array(["decoder", "q.encoder"])
        ),
        data=ev.Data(
            split_names=np.array(["train", "valid", "test"]),
            scale=np.array([0.45, 0.46, 0.44]),
            smallest=np.zeros(3),
            largest=np.ones(3),
            bad_rows=np.full(3, -1),
            empty_rows=np.full(3, -1),
            duplicate_share=np.zeros(3),
            overlap_share=np.zeros(3),
            off_support_share=0.0,
            label_accuracy=0.88,
            label_chance=0.12,
        ),
        splits=ev.Splits(
            split_names=np.array(["train", "valid", "test"]),
            centre=np.array([0.30, 0.31, 0.29]),
            width=np.array([0.45, 0.46, 0.44]),
            centre_error=np.full(3, 0.004),
            width_error=np.full(3, 0.01),
        ),
        gradients=ev.Gradients(
            modules=np.array(["decoder", "q.encoder"]),
            norm=np.array([3.0, 2.0]),
            update_norm=np.array([0.1, 0.1]),
            parameter_norm=np.array([9.0, 8.0]),
            quantiles=np.linspace(-1.0, 1.0, 66).reshape(2, 33),
            cosine_with_bound=0.9,
            cosine_of_halves=0.8,
        ),
        line=made_line(np.random.default_rng(7), rise=0.01 * step),
        schedule=ev.Schedule(1.0),
    )


def made_estimate(value: float, error: float | None = 0.2) -> Estimate:
    return Estimate(value, error, None, "nats per sequence", "lower", "elbo", 4, "valid")


class Made:
    """What the tests build evidence from; a fixture, since tests are not importable."""

    multiples = MULTIPLES
    sites = staticmethod(made_sites)
    twin = staticmethod(made_twin)
    objective = staticmethod(made_objective)
    redrawn = staticmethod(made_redrawn)
    joint = staticmethod(made_joint)
    choices = staticmethod(made_choices)
    filters = staticmethod(made_filters)
    steps = staticmethod(made_steps)
    mixtures = staticmethod(made_mixtures)
    components = staticmethod(made_components)
    guard = staticmethod(made_guard)
    symbols = staticmethod(made_symbols)
    words = staticmethod(made_words)
    transform = staticmethod(made_transform)
    line = staticmethod(made_line)
    evidence = staticmethod(made_evidence)
    estimate = staticmethod(made_estimate)

    @staticmethod
    def history(**changes: Any) -> list[ev.Evidence]:
        """Six probes of a run whose latents are numbers, up to step 300; `changes` replace groups of
        all of them. With `choices`, a run whose latents are strings."""
        changes = {"choices": None} | changes
        return [replace(made_evidence(step), **changes) for step in (0, 4, 16, 64, 100, 300)]

    source = made_estimate(-25.0, 0.0)  # what no model is better than
    baselines = {
        "uniform": made_estimate(-44.4, 0.0),
        "independent-pixel": made_estimate(-36.0, 0.3),
    }


@pytest.fixture(scope="session")
def made() -> type[Made]:
    return Made


@pytest.fixture(scope="module")
def compiled_once(tmp_path_factory):
    """Setups with one fault share most of their compiled code: XLA's cache makes it once."""
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    settings = {
        "jax_compilation_cache_dir": str(tmp_path_factory.getbasetemp() / "compiled"),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in settings}

    def configure(values):
        compilation_cache.reset_cache()
        for name, value in values.items():
            jax.config.update(name, value)

    configure(settings)
    yield
    configure(before)

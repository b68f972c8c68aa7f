"""Sequence VAEs are trained by the gradient of their bound; noise-free ones cannot be sampled."""

import itertools
from dataclasses import replace
from functools import cache
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tightbound.data.sentences import EOS
from tightbound.data.sequences import sequence_split
from tightbound.errors import UserError
from tightbound.families.language.build_latents import check_latent_objective, sequence_vae
from tightbound.families.language.sequence_latents import Prior
from tightbound.families.language.settings import (
    LanguageModelSettings,
    LatentSettings,
    StructureSettings,
)
from tightbound.inference.weigh import weigh
from tightbound.models.base import AbstractProposal
from tightbound.models.wrappers import Noiseless
from tightbound.nn.gaussian_outputs import DiagonalGaussianOutput
from tightbound.train.loop import fit, init_state
from tightbound.train.objective import Objective
from tightbound.train.settings import ObjectiveSettings
from tightbound.unread import replaced

# Two words and their mirror image: 16 strings, all equally likely.
MIRRORED = [np.array([a, b, b, a, EOS], np.int32) for a in range(3, 7) for b in range(3, 7)]
SPLIT = sequence_split("train", MIRRORED)
SETTINGS = LanguageModelSettings(
    context="gru", emission="matrix", size=8, latent=LatentSettings("gaussian", 2)
)


def pair_of(**latent: Any):
    settings = replace(SETTINGS, latent=replace(SETTINGS.latent, **latent))
    return sequence_vae(settings, 7, 5, jax.random.key(0))


def test_vimco_follows_the_gradient_of_the_bound_of_discrete_latents():
    """Enumeration of both draws of 2 bits: the mean gradient of 64 batches of 32 rows is that of
    E[L_2] within 4.5 standard errors, for every bias of the encoder. Planted: the estimator that
    differentiates through the draws, which have no gradient."""
    model, proposal = pair_of(kind="bernoulli")
    bias_of = lambda q: q.encoder.head.bias  # noqa: E731
    x = jax.tree.map(jnp.asarray, SPLIT.take(np.zeros(32, int)).x)
    batch = replace_rows(SPLIT.take(np.zeros(32, int)))

    def with_bias(bias):
        return eqx.tree_at(bias_of, proposal, bias)

    every_z = jnp.array(list(itertools.product([0, 1], repeat=2)))

    def exact(bias):
        one = jax.tree.map(lambda leaf: leaf[0], x)
        log_q = jax.vmap(with_bias(bias).proposal(one).log_prob)(every_z)
        log_p = jax.vmap(lambda z: sum(s.sum() for s in model.score(one, z).values()))(every_z)
        log_w = log_p - log_q
        bound = jnp.logaddexp(log_w[:, None], log_w[None]) - jnp.log(2.0)
        return (jnp.exp(log_q[:, None] + log_q[None]) * bound).sum()

    def gradients(estimator):
        objective = Objective(estimator, num_samples=2)

        def raised(bias, key):
            return objective(model, with_bias(bias), batch, key=key, step=jnp.zeros((), int))[0]

        of_key = jax.grad(raised)
        keys = jax.random.split(jax.random.key(2), 64)
        return np.asarray(jax.jit(lambda b: jax.lax.map(lambda k: of_key(b, k), keys))(bias))

    def errors_from_exact(gradients):
        error = gradients.std(0, ddof=1) / np.sqrt(len(gradients))
        return np.abs(gradients.mean(0) - jax.jit(jax.grad(exact))(bias)) / error

    # a bias away from 0, where the gradient is not small
    bias = jnp.array([1.5, -1.0])
    assert errors_from_exact(gradients("vimco")).max() < 4.5
    assert errors_from_exact(gradients("iwae")).max() > 8.0


def replace_rows(batch):
    """The same sequence again and again, drawn for with other keys."""
    return eqx.tree_at(lambda b: b.rows, batch, np.arange(len(batch.rows), dtype=np.int32))


@pytest.mark.parametrize(("floor", "is_paid"), [(50.0, False), (1e-6, True)])
def test_free_bits_give_the_latent_site_for_nothing_below_their_floor(floor, is_paid):
    """Identity: below the floor the prior has no gradient at all, above it that of the ELBO.
    Each planted as the other."""
    model, proposal = pair_of()
    batch = SPLIT.take(np.arange(8))
    features = lambda m: m.prior.features  # noqa: E731
    shifted = features(model) + 1.0  # so that the KL is well above 0

    def raised(features_now, objective):
        moved = eqx.tree_at(features, model, features_now)
        at = {"key": jax.random.key(1), "step": jnp.zeros((), int)}
        return objective(moved, proposal, batch, **at)[0]

    def gradient(objective):
        return jax.jit(jax.grad(lambda f: raised(f, objective)))(shifted)

    free, paid = gradient(Objective(free_bits=floor)), gradient(Objective())
    assert np.abs(paid).min() > 0.01
    assert_allclose(free, paid if is_paid else 0.0, rtol=1e-12)


# --- with and without noise ----------------------------------------------------------------------


@cache
def trained(latent_noise):
    """A VAE, or an auto-encoder that raises the reconstruction alone, after 200 steps."""
    model, proposal = pair_of(size=4)
    objective = Objective()
    if not latent_noise:
        proposal = Noiseless(proposal)
        objective = Objective(kl_weight=lambda step: jnp.zeros(()))
    optimiser = optax.adam(2e-2)
    state = init_state(model, proposal, optimiser)
    batch = SPLIT.take(np.arange(16))
    batches = (batch for _ in range(200))
    for record in fit(state, batches, objective, optimiser, key=jax.random.key(1)):
        state = record.state
    return state.model, state.proposal


def share_of_mirrored(model):
    """Of strings drawn from the prior, how many the language has."""
    keys = jax.random.split(jax.random.key(2), 400)
    drawn = np.asarray(jax.jit(jax.vmap(lambda key: model.sample(key)[1].values))(keys))
    language = {tuple(row) for row in MIRRORED}
    return np.mean([tuple(row) in language for row in drawn])


def distance_from_prior(model, proposal, batch, *, key):
    """How far the latents of a batch lie from the prior, one dimension at a time, in standard
    deviations of the prior.

        W_d = mean_i |sort(z_d)_i - sort(z'_d)_i| / std(z'_d),   z ~ q(z | x of row i),   z' ~ p(z)

    The 1-Wasserstein distance of two samples, one draw for each row: it does not become 0 where the
    laws are equal, but falls as 1 / sqrt(rows). Far from 0, samples start from places the decoder
    was never trained at, and are not what it learned to write. Being near 0 in every dimension
    does not say that dimensions are as independent as the prior's.
    """
    code_key, prior_key = jax.random.split(key)
    rows = jnp.arange(len(batch.rows))

    def code(x, row):
        return proposal.proposal(x).sample(jax.random.fold_in(code_key, row))

    codes = jnp.sort(jax.vmap(code)(batch.x, rows), axis=0)
    drawn = jax.vmap(lambda row: model.sample_prior(jax.random.fold_in(prior_key, row)))(rows)
    drawn = jnp.sort(drawn, axis=0)
    return jnp.abs(codes - drawn).mean(0) / drawn.std(0)


def reconstruction(model, proposal):
    batch = SPLIT.take(np.arange(16))
    terms = eqx.filter_jit(weigh)(model, proposal, batch, num_samples=1, key=jax.random.key(3))
    return float(terms.log_likelihood.mean())


def test_an_auto_encoder_without_noise_writes_rows_back_and_cannot_be_sampled():
    """Oracle: the language, of which every string is known. The auto-encoder writes back almost
    every string, far better than -log 16 for a model of the language, and yet most of what it draws
    is no string of it; of the VAE most are. Its codes lie far from the prior, the VAE's near."""
    vae, auto_encoder = trained(True), trained(False)
    assert reconstruction(*auto_encoder) > -0.2 > -np.log(16)
    assert reconstruction(*vae) < -np.log(16) / 2
    assert share_of_mirrored(vae[0]) > 0.7
    assert share_of_mirrored(auto_encoder[0]) < 0.2
    many = SPLIT.take(np.tile(np.arange(16), 16))
    distance = eqx.filter_jit(distance_from_prior)
    assert distance(*vae, many, key=jax.random.key(4)).mean() < 0.4
    assert distance(*auto_encoder, many, key=jax.random.key(4)).mean() > 1.2


def test_the_distance_from_the_prior_is_that_by_which_codes_are_shifted():
    """Closed form: for N(m + 3 s, s^2) it is 3 and for the prior 0, up to the noise of 2,000 draws,
    at most 0.1 (a mean of 2,000 has an error of 0.022, of a difference of two 0.032)."""
    prior = Prior(DiagonalGaussianOutput(0.01), 2)
    prior = eqx.tree_at(lambda p: p.features, prior, jnp.array([1.0, -2.0, 0.3, 2.0]))
    model, _ = pair_of()
    model = eqx.tree_at(lambda m: m.prior, model, prior)
    batch = SPLIT.take(np.zeros(2000, int))
    scale = jnp.sqrt(prior().variance)

    def found(shift):
        features = prior.features.at[:2].add(shift * scale)
        proposal = eqx.tree_at(lambda p: p.features, prior, features)
        return distance_from_prior(model, Ignores(proposal), batch, key=jax.random.key(6))

    assert_allclose(jax.jit(found)(0.0), 0.0, atol=0.1)
    assert_allclose(jax.jit(found)(3.0), 3.0, atol=0.15)


class Ignores(AbstractProposal):
    """A proposal that reads nothing."""

    law: Prior

    def proposal(self, x):
        return self.law()


# --- settings ------------------------------------------------------------------------------------


def test_a_global_scale_is_the_same_for_every_sequence():
    """Identity; without it every sequence has its own. In both the mean is of the sequence."""
    rows = jax.tree.map(jnp.asarray, SPLIT.x)

    @eqx.filter_jit
    def moments(proposal):
        return jax.vmap(lambda x: (proposal.proposal(x).mean, proposal.proposal(x).variance))(rows)

    mean, variance = moments(pair_of(global_scale=True)[1])
    assert np.abs(np.diff(mean, axis=0)).min() > 0
    assert_array_equal(variance, jnp.broadcast_to(variance[:1], variance.shape))
    _, variance = moments(pair_of()[1])
    assert np.abs(np.diff(variance, axis=0)).min() > 0


@pytest.mark.parametrize(
    ("latent", "objective", "said"),
    [
        ({"kind": "ternary"}, {}, "draw of a ternary latent has none"),
        ({"kind": "bernoulli"}, {"estimator": "iwae", "num_samples": 5}, "Use 'vimco'"),
        (
            {"kind": "bernoulli"},
            {"estimator": "vimco", "num_samples": 2, "latent_noise": False},
            "mean of a bernoulli latent is no value that it has",
        ),
    ],
)
def test_discrete_latents_refuse_what_leaves_them_without_gradient_or_value(
    latent, objective, said
):
    with pytest.raises(UserError, match=said):
        check_latent_objective(LatentSettings(**latent), ObjectiveSettings(**objective))
    check_latent_objective(LatentSettings("gaussian"), ObjectiveSettings(**objective))
    sound = ObjectiveSettings("wake-sleep", num_samples=4)
    check_latent_objective(LatentSettings(**latent), sound)


@pytest.mark.parametrize(
    ("latent", "changes", "said"),
    [
        ({}, {"context": "gpt"}, "context 'gpt', which has no state"),
        ({}, {"structure": StructureSettings("factorial")}, "a lower bound of its own"),
        ({"global_scale": True, "kind": "ternary"}, {}, "no scale for each dimension"),
        ({"decoder": "linear", "word_dropout": 0.1}, {}, "decoder is given no words"),
        ({"size": 0}, {}, "size 0 was asked for"),
        ({}, {"num_starts": 2}, "2 learned starts were combined with a latent"),
    ],
)
def test_settings_that_cannot_be_meant_together_are_refused(latent, changes, said):
    settings = replaced(SETTINGS, latent=replaced(SETTINGS.latent, **latent), **changes)
    with pytest.raises(UserError, match=said):
        sequence_vae(settings, 7, 5, jax.random.key(0))

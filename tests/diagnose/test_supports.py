"""Latents that are no real, unbounded laws: Stein's identity leaves them alone, and a histogram of draws is
held against a density with ends. Oracle: numpyro's and SciPy's laws, whose draws and densities belong
together, and the other law by which draws are scored."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats

from fixtures.examinations import SUBJECTS
from tightbound.diagnose.checks.probability import (
    prior_draws_what_it_scores,
    proposal_draws_what_it_scores,
)
from tightbound.diagnose.evidence import Scores
from tightbound.diagnose.finding import Verdict
from tightbound.diagnose.laws import scores as score_laws
from tightbound.models.base import AbstractModel, AbstractProposal
from tightbound.terms import Kind

pytestmark = pytest.mark.usefixtures("compiled_once")


class WithPrior(AbstractModel):
    """A model whose first latent has another prior, and whose second is normal, drawn at some scale."""

    inner: AbstractModel
    first: type = eqx.field(static=True)
    parameters: tuple = eqx.field(static=True)
    scale: float = eqx.field(static=True, default=1.0)
    scored: tuple = eqx.field(static=True, default=())  # other parameters

    @property
    def kinds(self):
        return self.inner.kinds

    @property
    def law(self):
        return self.first(*self.parameters)

    def sample_prior(self, key):
        here, there = jax.random.split(key)
        return jnp.stack([1.0 * self.law.sample(here), self.scale * jax.random.normal(there)])

    def score(self, x, z):
        score = self.inner.score(x, z)
        name = next(name for name, kind in self.kinds.items() if kind is Kind.LATENT)
        law = self.first(*(self.scored or self.parameters))
        log_p = law.log_prob(z[0]) + dist.Normal(0.0, 1.0).log_prob(z[1])
        return score | {name: log_p.reshape(score[name].shape)}

    def sample_likelihood(self, z, key):
        return self.inner.sample_likelihood(z, key)


@pytest.fixture(scope="module")
def tiny():
    recipe = SUBJECTS["vae/digits"]
    return replace(recipe, model=replace(recipe.model, hidden_size=8, latent_size=2)).build(0)


@pytest.mark.parametrize(
    ("law", "parameters", "left_out"),
    [
        (dist.Uniform, (0.0, 1.0), "bounded"),
        (dist.HalfNormal, (1.0,), "bounded"),
        (dist.Beta, (1.0, 1.5), "bounded"),
        (dist.Gamma, (1.0, 1.0), "bounded"),
        (dist.BernoulliProbs, (0.3,), "discrete"),
    ],
)
def test_a_latent_without_steins_identity_is_left_out(tiny, law, parameters, left_out):
    """The normal latent beside it is judged as before: drawn twice as wide it is a fault."""
    for scale, verdict in ((1.0, Verdict.OK), (2.0, Verdict.FAULT)):
        model = WithPrior(tiny.model, law, parameters, scale)
        scores = score_laws.scores(tiny, (model, tiny.proposal), jax.random.key(1))
        assert getattr(scores, f"prior_{left_out}") == 0.5
        assert scores.prior_bounded + scores.prior_discrete == 0.5
        assert prior_draws_what_it_scores(scores).verdict is verdict


class BetaProposal(AbstractProposal):
    """q(z | x): two Beta laws whatever x is, drawn with some parameters and scored with others."""

    drawn: tuple = eqx.field(static=True)
    scored: tuple = eqx.field(static=True)

    def proposal(self, x):
        return _Beta(self.drawn, self.scored)


class _Beta:
    def __init__(self, drawn, scored):
        pair = (dist.Beta(*(jnp.full(2, number) for number in law)) for law in (drawn, scored))
        self.drawn, self.scored = pair

    def sample(self, key):
        return self.drawn.sample(key)

    def log_prob(self, value):
        return self.scored.log_prob(value).sum()


@pytest.mark.parametrize(
    ("law", "drawn", "scored"),
    [
        (dist.Uniform, (0.0, 1.0), (0.0, 2.0)),
        (dist.HalfNormal, (1.0,), (1.5,)),
        (dist.Beta, (1.0, 1.5), (1.0, 3.0)),
    ],
)
def test_another_scale_of_a_prior_with_ends_is_a_fault(tiny, law, drawn, scored):
    """A uniform law's slope is 0 at any width: its density alone tells."""
    for other, verdict in ((drawn, Verdict.OK), (scored, Verdict.FAULT)):
        model = WithPrior(tiny.model, law, drawn, scored=other)
        scores = score_laws.scores(tiny, (model, tiny.proposal), jax.random.key(1))
        finding = prior_draws_what_it_scores(scores)
        assert finding.verdict is verdict
        if verdict is Verdict.FAULT:
            assert finding.where == "p(z), whose latents have ends"
            assert finding.causes[0].name == "prior_sampled_and_scored_differ"


def test_another_scale_of_a_proposal_with_ends_is_a_fault(tiny):
    """Both latents have ends, so nothing is left for Stein's identity."""
    for scored, verdict in (((1.0, 1.5), Verdict.OK), ((1.0, 3.0), Verdict.FAULT)):
        proposal = BetaProposal((1.0, 1.5), scored)
        scores = score_laws.scores(tiny, (tiny.model, proposal), jax.random.key(1))
        assert (len(scores.proposal), scores.proposal_bounded) == (0, 1.0)
        assert proposal_draws_what_it_scores(scores).verdict is verdict


@pytest.mark.parametrize("size", [1, 8, 32])
def test_a_histogram_is_its_density_in_the_mean(size):
    """Oracle: E_p[h / p] = 1 for any density h within p's support. Planted: another width, a half-normal law
    of 1.3 times the scale, a constant of 0.2 nats."""
    rng, nothing = np.random.default_rng(0), np.zeros(0)

    def verdict(draws, log_density):
        ratio = score_laws.histogram_over_density(draws, log_density)[None]
        finding = prior_draws_what_it_scores(
            Scores(nothing, nothing, 1.0, 1.0, prior_bounded=1.0, prior_ratio=ratio)
        )
        return finding.verdict

    half = np.abs(rng.normal(size=(4096, size)))
    uniform = rng.uniform(size=(4096, size))
    for draws, right, wrong in (
        (uniform, stats.uniform(), stats.uniform(0, 2)),
        (half, stats.halfnorm(), stats.halfnorm(0, 1.3)),
    ):
        log_density = right.logpdf(draws).sum(1)
        assert verdict(draws, log_density) is Verdict.OK
        assert verdict(draws, wrong.logpdf(draws).sum(1)) is Verdict.FAULT
        assert verdict(draws, log_density + 0.2) is Verdict.FAULT
        assert verdict(draws, log_density + np.nan) is Verdict.UNDECIDED


def test_latents_that_depend_on_each_other_are_not_called_ill():
    """Fifty copies of one uniform number but for a little noise: no histogram of each alone follows them."""
    rng = np.random.default_rng(0)
    draws = rng.uniform(size=(4096, 1)) + 0.01 * rng.normal(size=(4096, 50))
    spread = dist.Normal(0.0, 0.01).log_prob(draws - draws.mean(1, keepdims=True)).sum(1)
    ratio = score_laws.histogram_over_density(draws, np.asarray(spread))[None]
    scores = Scores(np.zeros(0), np.zeros(0), 1.0, 1.0, prior_bounded=1.0, prior_ratio=ratio)
    assert prior_draws_what_it_scores(scores).verdict is Verdict.NOT_RUN


def test_what_is_left_out_everywhere_is_not_run(tiny):
    scores = score_laws.scores(tiny, (tiny.model, tiny.proposal), jax.random.key(1))
    none = replace(scores, prior=scores.prior[:0], prior_bounded=0.5, prior_discrete=0.5)
    finding = prior_draws_what_it_scores(none)
    assert finding.verdict is Verdict.NOT_RUN
    assert "50% take few values and 50% end where the density does not vanish" in finding.meaning

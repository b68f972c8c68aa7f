"""Priors that are no real, unbounded laws: TB103 leaves them alone. Oracle: numpyro's laws, whose draws and
densities belong together, and the scale at which a draw is planted."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
import pytest

from fixtures.examinations import SUBJECTS
from tightbound.diagnose.checks.probability import prior_draws_what_it_scores
from tightbound.diagnose.finding import Verdict
from tightbound.diagnose.laws import gather as laws
from tightbound.models.base import AbstractModel
from tightbound.terms import Kind

pytestmark = pytest.mark.usefixtures("compiled_once")


class WithPrior(AbstractModel):
    """A model whose first latent has another prior, and whose second is normal, drawn at some scale."""

    inner: AbstractModel
    first: type = eqx.field(static=True)
    parameters: tuple = eqx.field(static=True)
    scale: float = eqx.field(static=True, default=1.0)

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
        log_p = self.law.log_prob(z[0]) + dist.Normal(0.0, 1.0).log_prob(z[1])
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
        scores = laws.scores(tiny, (model, tiny.proposal), jax.random.key(1))
        assert getattr(scores, f"prior_{left_out}") == 0.5
        assert scores.prior_bounded + scores.prior_discrete == 0.5
        assert prior_draws_what_it_scores(scores).verdict is verdict


def test_what_is_left_out_everywhere_is_not_run(tiny):
    scores = laws.scores(tiny, (tiny.model, tiny.proposal), jax.random.key(1))
    none = replace(scores, prior=scores.prior[:0], prior_bounded=0.5, prior_discrete=0.5)
    finding = prior_draws_what_it_scores(none)
    assert finding.verdict is Verdict.NOT_RUN
    assert "50% take few values and 50% end where the density does not vanish" in finding.meaning

"""Oracles: enumeration and quadrature of p(x), and the laws of a record."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpyro.distributions import Normal

from tightbound.data.batch import Batch
from tightbound.data.sequences import Sequence
from tightbound.errors import UserError
from tightbound.families.edits.exact import all_sequences, quadrature_log_marginal
from tightbound.families.lookup import find_recipe
from tightbound.inference.weigh import weigh
from tightbound.models.base import AbstractModel, AbstractProposal
from tightbound.models.hmm import CategoricalEmission, HiddenMarkovModel
from tightbound.models.ppca import ProbabilisticPCA
from tightbound.terms import Kind


class ScriptedChain(eqx.Module):
    """q(z_t) = softmax(logits), every position alone; its draw is given."""

    logits: jax.Array
    given: jax.Array

    def sample(self, key):
        return self.given

    def log_prob(self, value):
        return {"z": jax.nn.log_softmax(self.logits)[value]}


class ScriptedProposal(AbstractProposal):
    """Draws the path that x carries with it, so that the rows of a batch can be all of them."""

    logits: jax.Array

    def proposal(self, x):
        return ScriptedChain(self.logits, x[1])


class HMMOfScript(AbstractModel):
    """The chain, scoring the first part of x."""

    kinds = HiddenMarkovModel.kinds

    chain: HiddenMarkovModel

    def sample_prior(self, key):
        return self.chain.sample_prior(key)

    def score(self, x, z):
        return self.chain.score(x[0], z)

    def sample_likelihood(self, z, key):
        return self.chain.sample_likelihood(z, key), z


@pytest.fixture(scope="module")
def enumerated():
    """Every path of a chain of 3 steps as a row, its log q, its record, and log p(x)."""
    keys = jax.random.split(jax.random.key(0), 3)
    logits = [jax.random.normal(k, s) for k, s in zip(keys, [(3,), (3, 3), (3, 4)], strict=True)]
    chain = HiddenMarkovModel(logits[0], logits[1], CategoricalEmission(logits[2]), num_steps=3)
    proposal = ScriptedProposal(jnp.array([0.3, -0.5, 0.1]))
    paths, mask = jnp.asarray(all_sequences(3, 3)), jnp.ones((27, 3), bool)
    x = Sequence(jnp.broadcast_to(jnp.array([1, 3, 0]), (27, 3)), mask)
    batch = Batch((x, paths), mask, mask.sum(1), jnp.arange(27))
    terms = eqx.filter_jit(weigh)(
        HMMOfScript(chain), proposal, batch, num_samples=1, key=jax.random.key(0)
    )
    log_q = jax.nn.log_softmax(proposal.logits)[paths].sum(1)
    log_marginal = eqx.filter_jit(chain.log_marginal)(jax.tree.map(lambda leaf: leaf[0], x))
    return terms, np.asarray(log_q), float(log_marginal)


def test_the_mean_weight_is_the_marginal_by_enumeration(enumerated):
    """Oracle: sum over all 27 paths of q(z) w(z) is p(x), to rounding. It fails when the latent
    site is left out, when its log q is, and when the first position alone is summed."""
    terms, log_q, log_marginal = enumerated
    z, x = terms.sites
    right = np.asarray(terms.log_weights[0])
    assert_allclose(np.exp(log_q + right).sum(), np.exp(log_marginal), rtol=1e-12)
    wrongs = {
        "without log p(z)": right - np.asarray(z.total_log_p[0]),
        "without log q(z)": right + np.asarray(z.total_log_q[0]),
        "first position": np.asarray((z.log_p - z.log_q + x.log_p)[0, :, 0]),
    }
    for name, wrong in wrongs.items():
        assert abs(np.log(np.exp(log_q + wrong).sum()) - log_marginal) > 0.1, name


def test_a_record_has_the_kinds_masks_and_units_it_was_given(enumerated):
    terms, *_ = enumerated
    assert [(site.name, site.kind) for site in terms.sites] == [
        ("z", Kind.LATENT),
        ("x", Kind.OBSERVED),
    ]
    assert terms.sites[1].log_q is None
    assert_array_equal(terms.num_units, jnp.full(27, 3))


class LinearProposal(AbstractProposal):
    """q(z | x) = N(weight^T x / 4, scale^2): wrong, but wider than the posterior."""

    weight: jax.Array
    scale: jax.Array
    scored_scale: jax.Array  # what log_prob believes; differs in the planted bug

    def proposal(self, x):
        centre = self.weight.T @ x / 4
        return MismatchedNormal(centre, self.scale, self.scored_scale)


class MismatchedNormal(eqx.Module):
    centre: jax.Array
    scale: jax.Array
    scored_scale: jax.Array

    def sample(self, key):
        return Normal(self.centre, self.scale).sample(key)

    def log_prob(self, value):
        return Normal(self.centre, self.scored_scale).log_prob(value).sum()


@pytest.fixture(scope="module")
def continuous():
    model = ProbabilisticPCA(4, 1, key=jax.random.key(1))
    x = 0.7 * jax.random.normal(jax.random.key(2), (3, 4))
    batch = Batch(x, jnp.ones((3, 1), bool), jnp.ones(3, int), jnp.array([5, 0, 8]))
    return model, LinearProposal(model.weight, jnp.ones(1), jnp.ones(1)), batch


run = eqx.filter_jit(weigh)


def test_the_mean_weight_is_the_marginal_by_quadrature(continuous):
    """w / p(x) of 20,000 draws has mean 1 within 4 standard errors (3 sequences, level 1e-3), with
    p(x) by quadrature; scoring another scale than was drawn moves it by more than 8."""
    model, proposal, batch = continuous

    @jax.jit
    def log_marginal(x):
        return jax.vmap(lambda x: quadrature_log_marginal(model, x, num_nodes=24))(x)

    def z_scores(proposal):
        terms = run(model, proposal, batch, num_samples=20_000, key=jax.random.key(3))
        ratios = np.exp(np.asarray(terms.log_weights - log_marginal(batch.x)[None]))
        return np.abs(ratios.mean(0) - 1) / (ratios.std(0) / np.sqrt(len(ratios)))

    assert z_scores(proposal).max() < 4
    mismatched = eqx.tree_at(lambda q: q.scored_scale, proposal, jnp.full(1, 1.25))
    assert z_scores(mismatched).max() > 8


def test_batch_neighbours_change_nothing(continuous):
    """Law: alone, or among others in another order, a sequence has the same weights, because its
    draws belong to its row; with keys by place they would differ."""
    model, proposal, batch = continuous
    key = jax.random.key(4)
    expected = run(model, proposal, batch, num_samples=5, key=key).log_weights
    for rows in ([1], [2, 0, 1]):
        part = jax.tree.map(lambda leaf, rows=rows: leaf[jnp.array(rows)], batch)
        found = run(model, proposal, part, num_samples=5, key=key).log_weights
        assert_allclose(found, expected[:, jnp.array(rows)], rtol=1e-12)
    by_place = eqx.tree_at(lambda b: b.rows, batch, jnp.arange(3))
    assert (run(model, proposal, by_place, num_samples=5, key=key).log_weights != expected).all()


def test_the_gradient_path_does_not_change_the_value(continuous):
    """Identity: "stop_proposal" and "doubly" differ from "full" in their gradients only."""
    model, proposal, batch = continuous
    key = jax.random.key(5)
    full, *others = [
        run(model, proposal, batch, num_samples=4, key=key, path=path).log_weights
        for path in ("full", "stop_proposal", "doubly")
    ]
    for other in others:
        assert_allclose(other, full, rtol=1e-14)


def test_padding_changes_nothing(enumerated):
    """Law: what stands outside the mask, even NaN, leaves every total alone."""
    terms, *_ = enumerated
    mask = jnp.broadcast_to(jnp.array([True, True, False]), terms.sites[0].mask.shape)
    for site in terms.sites:
        short = eqx.tree_at(lambda s: s.mask, site, mask)
        broken = eqx.tree_at(lambda s: s.log_p, short, site.log_p.at[..., 2].set(jnp.nan))
        assert_array_equal(broken.total_log_p, site.log_p[..., :2].sum(-1))


def test_many_calls_are_one_trace(continuous):
    """Other keys, rows and values of the same shapes do not compile anew."""
    model, proposal, batch = continuous

    @eqx.filter_jit
    @eqx.debug.assert_max_traces(max_traces=1)
    def traced(batch, key):
        return weigh(model, proposal, batch, num_samples=2, key=key).log_weights

    for index in range(3):
        other = Batch(batch.x + index, batch.mask, batch.num_units, batch.rows + index)
        traced(other, jax.random.key(index))


def test_zero_samples_are_refused(continuous):
    with pytest.raises(ValueError, match="`num_samples` is 0, but a bound needs at least one draw"):
        weigh(*continuous, num_samples=0, key=jax.random.key(0))


def test_a_model_without_latents_is_refused(continuous):
    model, proposal, batch = continuous

    class Summed(AbstractModel):
        kinds = {"x": Kind.OBSERVED}

        def sample_prior(self, key):
            return ()

        def score(self, x, z):
            return {"x": model.log_marginal(x)[None]}

        def sample_likelihood(self, z, key):
            return model.sample_likelihood(model.sample_prior(key), key)

    with pytest.raises(ValueError, match="observed sites only, so there is nothing to propose"):
        weigh(Summed(), proposal, batch, num_samples=1, key=jax.random.key(0))


class TwoLatents(AbstractModel):
    """a, b ~ N(0, 1),  x ~ N(a + b, 1)."""

    kinds = {"a": Kind.LATENT, "b": Kind.LATENT, "x": Kind.OBSERVED}

    def sample_prior(self, key):
        return {"a": jax.random.normal(key, (1,)), "b": jnp.zeros(1)}

    def score(self, x, z):
        at = {"a": (z["a"], 0.0), "b": (z["b"], 0.0), "x": (x, z["a"] + z["b"])}
        return {name: Normal(mean, 1.0).log_prob(value) for name, (value, mean) in at.items()}

    def sample_likelihood(self, z, key):
        return z["a"] + z["b"]


class Named(AbstractProposal):
    """Draws zeros for these latents and scores these sites."""

    drawn: tuple[str, ...] = eqx.field(static=True)
    scored: tuple[str, ...] = eqx.field(static=True)

    def proposal(self, x):
        return self

    def sample(self, key):
        return {name: jnp.zeros(1) for name in self.drawn}

    def log_prob(self, value):
        return {name: jnp.zeros(1) for name in self.scored}


@pytest.mark.parametrize(
    ("drawn", "scored", "words"),
    [
        (("a", "b"), ("a",), "'b' is not scored"),
        (("a", "b"), ("a", "b", "bb"), "'bb' is unknown"),
        (("a",), ("a", "b"), r"draws \['a'\], but the latents of TwoLatents are \['a', 'b'\]"),
    ],
)
def test_a_proposal_that_lacks_a_latent_or_names_another_is_refused(drawn, scored, words):
    """Left out of log q without a word, the weights would bound nothing."""
    x = np.ones((1, 1))
    batch = Batch(x, np.ones((1, 1), bool), np.ones(1, np.int32), np.zeros(1, np.int32))
    good = Named(("a", "b"), ("a", "b"))
    assert weigh(TwoLatents(), good, batch, num_samples=1, key=jax.random.key(0)).log_weights.shape
    with pytest.raises(ValueError, match=words):
        weigh(TwoLatents(), Named(drawn, scored), batch, num_samples=1, key=jax.random.key(0))


class JointNormal(eqx.Module):
    """N(centre, scale^2) of every latent, scored in the way that `scored` names."""

    centre: jax.Array
    scale: jax.Array
    scored: str = eqx.field(static=True)

    def sample(self, key):
        return self.centre + self.scale * jax.random.normal(key, self.centre.shape)

    def log_prob(self, value):
        each = Normal(self.centre, self.scale).log_prob(value)
        return {
            "joint": lambda: each.sum(),
            "once": lambda: {"z": each.sum()[None]},
            "each": lambda: {"z": each},
        }[self.scored]()


class Independent(AbstractModel):
    """z_t ~ N(0, 1), x_t ~ N(z_t, 1) at every real position; `scored` says how each site is returned."""

    kinds = {"z": Kind.LATENT, "x": Kind.OBSERVED}

    scored: str = eqx.field(static=True, default="each")

    def sample_prior(self, key):
        return jax.random.normal(key, (6,))

    def sample_likelihood(self, z, key):
        return z + jax.random.normal(key, z.shape)

    def score(self, x, z):
        each = {"z": Normal(0.0, 1.0).log_prob(z), "x": Normal(z, 1.0).log_prob(x)}
        if self.scored == "once":
            return {name: score.sum()[None] for name, score in each.items()}
        return {
            "each": lambda: each,
            "scalar": lambda: {"z": each["z"].sum(), "x": each["x"]},
            "number": lambda: {"z": 1.0, "x": each["x"]},
            "tuple": lambda: (each["z"], each["x"]),
            "list": lambda: [each["z"], each["x"]],
            "missing": lambda: {"x": each["x"]},
            "unknown": lambda: each | {"y": each["x"]},
            "batch": lambda: {"z": each["z"][None], "x": each["x"]},
            "fewer": lambda: {"z": each["z"][:4], "x": each["x"]},
            "numpy": lambda: {"z": np.asarray(each["z"]), "x": each["x"]},
        }[self.scored]()


class ExactPosterior(AbstractProposal):
    """q(z | x) = p(z | x) = N(x / 2, 1 / 2)."""

    scored: str = eqx.field(static=True)

    def proposal(self, x):
        return JointNormal(x / 2, jnp.sqrt(jnp.full(x.shape, 0.5)), self.scored)


SIX = jnp.array([[0.4, -1.1, 0.9, 0.2, -0.3, 1.7], [1.5, 0.1, -2.0, 0.6, 0.0, 0.3]])


def weigh_independent(model, proposal, positions=6):
    mask = jnp.ones((2, positions), bool)
    batch = Batch(SIX, mask, mask.sum(1), jnp.arange(2))
    return weigh(model, proposal, batch, num_samples=3, key=jax.random.key(0))


@pytest.mark.parametrize("positions", [6, 1])
@pytest.mark.parametrize("of_q", ["joint", "once", "each"])
@pytest.mark.parametrize("of_p", ["each", "once"])
def test_each_score_counts_by_its_own_shape(of_p, of_q, positions):
    """Oracle: with the exact posterior as q every weight is p(x), whose log is the sum of N(x_t; 0, 2)
    in closed form, whether log p and log q are of positions or of the whole. What a mask of one position
    does not cover is refused."""
    model, proposal = Independent(of_p), ExactPosterior(of_q)
    if positions == 1 and "each" in (of_p, of_q):
        with pytest.raises(ValueError, match=r"with shape \(6,\), but the mask .* shape \(1,\)"):
            weigh_independent(model, proposal, positions)
        return
    terms = weigh_independent(model, proposal, positions)
    log_p_x = Normal(0.0, jnp.sqrt(2.0)).log_prob(SIX).sum(1)
    assert_allclose(terms.log_weights, jnp.broadcast_to(log_p_x, (3, 2)), rtol=1e-12)


@pytest.mark.parametrize(
    ("scored", "sentence"),
    [
        ("scalar", r"log p of 'z' with shape \(\), .* use `\[None\]` on a single number"),
        ("number", r"log p of 'z' as a float, but an array was meant"),
        ("tuple", r"returned a tuple, but a dictionary of sites was meant"),
        ("list", r"returned a list, but a dictionary of sites was meant"),
        ("missing", r"\['x'\], but `kinds` names \['z', 'x'\]: 'z' is not scored"),
        ("unknown", r"'y' is unknown"),
        ("batch", r"'z' with shape \(1, 6\), .* leave samples and batch to `weigh`"),
        ("fewer", r"'z' with shape \(4,\), but the mask of one sequence has shape \(6,\)"),
        ("numpy", r"Independent or ExactPosterior uses a NumPy function"),
    ],
)
def test_what_a_score_may_not_be_is_refused_in_one_sentence(scored, sentence):
    with pytest.raises(ValueError, match=sentence):
        weigh_independent(Independent(scored), ExactPosterior("joint"))


@pytest.mark.parametrize("path", ["stop_proposal", "doubly"])
def test_a_gradient_path_through_strings_is_refused(path):
    setup = find_recipe("edits/doubling").build(0)
    batch = setup.data["train"].take(np.arange(2))
    with pytest.raises(ValueError, match=f"The gradient path '{path}'.*draws strings"):
        weigh(setup.model, setup.proposal, batch, num_samples=1, key=jax.random.key(0), path=path)


def test_dropout_is_refused_where_edits_are_summed_out():
    recipe = find_recipe("edits/ewt-autoregressive")
    toy = replace(find_recipe("edits/doubling"), training=recipe.training)
    model = replace(toy.model, handed_on="tokens", temperature=1.0, dropout=0.1)
    with pytest.raises(
        UserError, match=r"A dropout of 0\.1 was combined with the training method 'exact'"
    ):
        replace(toy, model=model).build(0)

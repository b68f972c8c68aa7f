"""What saved arrays are judged by: TB305 to TB308, and the general checks on them. Oracle: arrays made by
hand, whose mistake and whose log p(x) are known; SciPy for ranks; the JAX estimators for numbers."""

from collections import Counter

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import friedmanchisquare

from fixtures.saved_draws import filtered, normal_draws
from tightbound.diagnose.checks.saved import axes_stand_in_order, weights_are_logs
from tightbound.diagnose.examined import (
    examine_steps,
    examine_weights,
    judge_weights,
    of_weights,
)
from tightbound.diagnose.finding import Verdict
from tightbound.diagnose.saved import steps_from, weights_from
from tightbound.errors import UserError
from tightbound.estimators.bounds import bound_estimate, step_evidence_and_weights
from tightbound.estimators.host import bounds_of_weights, step_weights
from tightbound.terms import StepTerms

FAULT, OK, UNDECIDED, NOT_RUN = Verdict.FAULT, Verdict.OK, Verdict.UNDECIDED, Verdict.NOT_RUN
PARTS = ("log_weights", "log_p_x", "log_p_z", "log_q")


def parts(**changes):
    draws = normal_draws(**changes)
    return {name: draws[name] for name in PARTS}


def verdicts(findings):
    return {finding.code: finding.verdict for finding in findings}


def faults(findings):
    return {finding.code for finding in findings if finding.verdict is FAULT}


def log_weights(samples=30, rows=40, spread=1.0, between=5.0, centre=-90.0, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(centre, between, rows) + spread * rng.normal(size=(samples, rows))


# TB305: weights instead of their logarithms


@pytest.mark.parametrize("made", ["exp", "softmax", "over the largest"])
def test_weights_in_place_of_log_weights_are_named(made):
    values = log_weights(centre=-3.0, between=1.0)
    weights = np.exp(values - (0 if made == "exp" else values.max(0)))
    weights = weights / (weights.sum(0) if made == "softmax" else 1)
    finding = weights_are_logs(weights)
    assert finding.verdict is FAULT
    assert finding.causes[0].name == "weights_were_exponentiated"
    assert weights_are_logs(values).verdict is OK


@pytest.mark.parametrize("skew", [-1, 1])
def test_log_densities_of_real_data_may_all_be_above_zero(skew):
    """Of either skew: narrow proposals lean to the right, as weights do, but stay far from 0."""
    values = 60 + skew * np.random.default_rng(0).chisquare(3, (50, 100))
    assert (values > 0).all()
    assert weights_are_logs(values).verdict is OK


def test_weights_that_differ_between_rows_only_are_named_where_none_is_above_one():
    """A good proposal: the weights of a row are nearly p(x), which differs by orders of magnitude. Log p of
    sequences of unequal length varies so too, but is above 1."""
    rng = np.random.default_rng(0)
    alike = np.exp(rng.normal(-8.0, 1.5, 300) + 0.1 * rng.normal(size=(20, 300)))
    assert weights_are_logs(alike).verdict is FAULT
    lengths = 40 * np.exp(rng.normal(0.0, 1.0, 300)) + rng.normal(size=(20, 300)) + 5
    assert weights_are_logs(lengths).verdict is UNDECIDED


def test_too_few_weights_to_lean_are_undecided_or_not_judged():
    weights = np.exp(log_weights(rows=4, centre=0.0, between=1.0))
    assert weights_are_logs(weights).verdict is UNDECIDED
    assert weights_are_logs(weights[:1]).verdict is NOT_RUN
    assert weights_are_logs(np.where(weights > 1, np.inf, weights)).verdict is NOT_RUN
    assert weights_are_logs(None).verdict is NOT_RUN
    assert weights_are_logs(np.full((3, 9), np.nan)).verdict is NOT_RUN
    assert weights_are_logs(np.zeros((3, 2))).verdict is OK


# TB306: axes


@pytest.mark.parametrize(("samples", "rows"), [(5, 800), (700, 6), (40, 40)])
def test_swapped_axes_are_named_and_axes_in_order_pass(samples, rows):
    values = log_weights(samples, rows)
    assert axes_stand_in_order(values).verdict is OK
    finding = axes_stand_in_order(values.T)
    assert (finding.verdict, finding.causes[0].name) == (FAULT, "axes_swapped")


def test_where_sequences_are_alike_or_draws_are_shared_the_axes_are_not_judged():
    alike = log_weights(between=0.0)
    shared = np.random.default_rng(1).normal(0, 5, 30)[:, None] + log_weights()
    for values, reason in (
        (alike, "same both ways"),
        (shared, "both axes"),
        (np.sort(log_weights(), 0), "both"),
    ):
        for turned in (values, values.T):
            finding = axes_stand_in_order(turned)
            assert finding.verdict is NOT_RUN
            assert reason in finding.meaning
    assert axes_stand_in_order(log_weights(samples=1)).verdict is NOT_RUN
    assert axes_stand_in_order(np.full((4, 4), np.nan)).verdict is NOT_RUN


def test_the_axes_of_draws_that_differ_by_nothing_are_never_called_swapped():
    """Independent draws of any shape, with ties or without: no false alarm in 400."""
    rng = np.random.default_rng(2)
    found = Counter()
    for _ in range(400):
        shape = rng.integers(2, 40, 2)
        values = rng.normal(size=shape) if rng.random() < 0.5 else rng.integers(0, 3, shape) + 0.0
        found[
            axes_stand_in_order(values + rng.choice([0, 3]) * rng.normal(size=shape[1])).verdict
        ] += 1
    assert found[FAULT] == 0
    assert found[OK] > 50


@pytest.mark.parametrize("ties", [False, True])
def test_the_statistic_of_the_axes_is_friedmans(ties):
    """SciPy's, through the cube root of Wilson and Hilferty."""
    values = (
        log_weights(samples=6, rows=9)
        if not ties
        else np.random.default_rng(0).integers(0, 3, (6, 9)) * 1.0
    )
    values[2] += 2.0
    statistic, freedom = friedmanchisquare(*values).statistic, 5
    spread = 2 / (9 * freedom)
    expected = ((statistic / freedom) ** (1 / 3) - (1 - spread)) / np.sqrt(spread)
    from tightbound.diagnose.checks.saved import _differences

    assert_allclose(_differences(values), expected, rtol=1e-10)


# Log-weights with their parts


def test_healthy_draws_pass_with_the_numbers_that_jax_gives_for_them():
    draws = parts()
    examined = of_weights(weights_from(draws), split="here")
    assert faults(examined.findings) == set()
    named = {estimate.estimator: estimate for estimate in examined.estimates}
    for bound, name in (("elbo", "elbo"), ("iwae", "iwae-50")):
        oracle = bound_estimate(draws["log_weights"], bound=bound, split="here")
        assert named[name].value == pytest.approx(oracle.value, rel=1e-12)
        assert named[name].standard_error == pytest.approx(oracle.standard_error, rel=1e-9)
        assert named[name].monte_carlo_error == pytest.approx(oracle.monte_carlo_error, rel=1e-9)
        assert (named[name].bound, named[name].unit) == (oracle.bound, oracle.unit)
    truth = normal_draws()["log_marginal"].mean()
    assert named["elbo"].value < truth
    assert abs(named["iwae-50"].value - truth) < 0.05
    kl = (draws["log_q"] - draws["log_p_z"]).mean()
    assert_allclose(named["kl"].value, kl)
    assert_allclose(named["reconstruction"].value - named["kl"].value, named["elbo"].value)
    assert {named["kl"].bound, named["reconstruction"].bound} == {"none"}


@pytest.mark.parametrize(
    "given", [PARTS, PARTS[1:], PARTS[:2], ("log_weights", "log_p_z", "log_q")]
)
def test_a_collapsed_file_is_told_from_a_healthy_one(given):
    """By whatever parts tell the KL; log-weights alone cannot."""
    healthy, collapsed = parts(), parts(used=False)
    used = verdicts(judge_weights(**{name: healthy[name] for name in given}))
    unused = judge_weights(**{name: collapsed[name] for name in given})
    assert used["TB401"] is OK
    assert verdicts(unused)["TB401"] is FAULT
    assert verdicts(judge_weights(collapsed["log_weights"]))["TB401"] is NOT_RUN


def test_a_decoder_that_does_not_hear_z_is_named():
    assert "TB402" in faults(judge_weights(**parts(used=False)))
    assert "TB402" not in faults(judge_weights(**parts()))


def test_a_proposal_that_is_the_prior_by_construction_is_not_called_collapsed():
    draws = parts()
    draws["log_q"], draws["log_weights"] = draws["log_p_z"], draws["log_p_x"]
    found = judge_weights(**draws)
    assert verdicts(found)["TB401"] is NOT_RUN
    assert "TB401" not in faults(found)


def test_parts_that_do_not_sum_to_the_weight_are_named_and_bound_nothing():
    draws = parts()
    draws["log_weights"] = draws["log_weights"] + draws["log_q"]  # log q left out
    examined = examine_weights(**draws)
    assert "TB119" in faults(examined.findings)
    assert {estimate.bound for estimate in examined.estimates} == {"none"}
    assert verdicts(judge_weights(**parts()))["TB119"] is OK
    summed = {name: value for name, value in parts().items() if name != "log_weights"}
    assert verdicts(judge_weights(**summed))["TB119"] is NOT_RUN


def test_a_kl_below_zero_is_named():
    draws = parts()
    draws["log_q"] = draws["log_q"] - 20.0
    draws["log_weights"] = draws["log_weights"] + 20.0
    examined = examine_weights(**draws)
    assert "TB117" in faults(examined.findings)
    assert examined.estimates[0].bound == "none"


def test_a_density_of_levels_is_no_probability():
    """By log p(x | z) where it is given, by the bound where it is not; both pass without `levels`."""
    draws = parts()
    for name in ("log_weights", "log_p_x"):
        draws[name] = draws[name] + 4 * np.log(255)
    whole = judge_weights(**draws, levels=256)
    assert {"TB118", "TB605"} <= faults(whole)
    found = {finding.code: finding for finding in whole}
    assert found["TB118"].causes[0].name == "density_of_levels"
    assert "log(255) = 5.541" in found["TB118"].advice
    assert faults(judge_weights(draws["log_weights"], levels=256)) == {"TB605"}
    assert faults(judge_weights(**draws)) == set()
    assert faults(judge_weights(**parts(), levels=256)) == set()


def test_units_give_nats_and_bits_per_unit():
    """Oracle: the sum of nats over the sum of units."""
    draws, units = parts(), np.arange(1, 201)
    examined = examine_weights(**draws, num_units=units, levels=256)
    found = {(e.estimator, e.unit): e for e in examined.estimates}
    nats = -draws["log_weights"].mean(0).sum() / units.sum()
    assert_allclose(found["elbo", "nats per unit"].value, nats)
    assert_allclose(found["elbo", "bits per unit"].value, nats / np.log(2))
    assert found["elbo", "nats per unit"].bound == "upper"
    ones = examine_weights(**draws, num_units=np.ones(200, int))
    assert {e.unit for e in ones.estimates} == {"nats per sequence"}


def test_what_was_not_drawn_is_exact():
    (estimate,) = examine_weights([[-3.0, -4.0]], has_latents=False).estimates
    assert (estimate.bound, estimate.num_samples, estimate.value) == ("exact", 0, -3.5)


def test_no_number_of_weights_that_are_none_calls_itself_a_bound():
    for wrong in (np.exp(log_weights(centre=-3.0)), log_weights().T, np.full((3, 4), np.nan)):
        estimates = examine_weights(wrong).estimates
        assert {estimate.bound for estimate in estimates} == {"none"}


# Lists and tensors


class Tensor:
    """What a tensor of another library has, on a device and with a gradient."""

    def __init__(self, values, is_known_to_numpy=True, held=True):
        self.values, self.is_known_to_numpy, self.held = values, is_known_to_numpy, held

    def detach(self):
        return Tensor(self.values, self.is_known_to_numpy, held=False)

    def cpu(self):
        return self

    def float(self):
        return Tensor(self.values, held=self.held)

    def numpy(self):
        if self.held:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad.")
        if not self.is_known_to_numpy:
            raise TypeError("Got unsupported ScalarType BFloat16")
        return np.asarray(self.values)

    def __array__(self, *_args, **_kwargs):
        raise RuntimeError("Can't call numpy() on Tensor that requires grad.")


@pytest.mark.parametrize(
    "wrap",
    [
        np.asarray,
        np.ndarray.tolist,
        jnp.asarray,
        Tensor,
        lambda v: Tensor(v, is_known_to_numpy=False),
    ],
    ids=["numpy", "list", "jax", "tensor", "bfloat16"],
)
def test_lists_arrays_and_tensors_are_judged_alike(wrap):
    plain = judge_weights(**parts(), num_units=np.arange(1, 201))
    found = judge_weights(
        **{name: wrap(value) for name, value in parts().items()}, num_units=wrap(np.arange(1, 201))
    )
    assert found == plain


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"log_weights": [[1.0, 2.0], [3.0]]}, "equally long"),
        ({"log_weights": [["a", "b"]]}, "numbers were meant"),
        ({"log_weights": [[True, False]]}, "bool"),
        ({"log_p_x": [[1.0]]}, "no array `log_weights`"),
        ({"log_weights": np.zeros((3, 2)), "log_q": np.zeros((2, 3))}, "axes look swapped"),
        (
            {"log_weights": np.zeros((3, 2)), "num_units": [1, 2, 3]},
            "axes of the log-weights look swapped",
        ),
        ({"log_weights": np.zeros((3, 2)), "num_units": [1, -2]}, "none below 0"),
        ({"log_weights": np.zeros((3, 2)), "levels": 1}, "from 2 on"),
        ({"log_weights": np.zeros((3, 2)), "log_qz": np.zeros((3, 2))}, "Did you mean `log_q`"),
    ],
)
def test_arrays_that_cannot_be_meant_are_refused_in_a_sentence(arrays, words):
    with pytest.raises(UserError, match=words):
        judge_weights(**arrays)


# Filters


def test_a_filter_passes_and_its_bound_is_that_of_the_record():
    """Oracle: `step_evidence_and_weights`, and log p(x), of which the bound lies below."""
    arrays = filtered()
    examined = examine_steps(**arrays)
    assert {f.verdict for f in examined.findings} == {OK}
    assert {f.code for f in examined.findings} == {"TB301", "TB302", "TB307", "TB308", "TB122"}
    named = [e.estimator for e in examined.estimates]
    assert named == ["fivo-40", "ess"]
    bound, share = examined.estimates
    terms = StepTerms(
        log_increments=jnp.asarray(arrays["log_increments"]),
        ancestors=jnp.asarray(arrays["ancestors"]),
        resampled=jnp.asarray(arrays["resampled"]),
        mask=jnp.asarray(arrays["mask"]),
        ess=jnp.asarray(arrays["ess"]),
        num_units=jnp.full(60, 10),
    )
    evidence, after = step_evidence_and_weights(terms)
    assert_allclose(bound.value, evidence.sum(0).mean(), rtol=1e-10)
    assert bound.bound == "lower"
    assert bound.value < arrays["log_marginal"].mean()
    assert_allclose(share.value, (arrays["ess"] / 40).mean(), rtol=1e-10)
    assert_allclose(
        step_weights(*(arrays[n] for n in ("log_increments", "resampled", "mask")))[2],
        np.exp(after),
        rtol=1e-9,
    )


def test_padding_counts_for_nothing_whatever_it_holds():
    arrays = filtered()
    longer = {
        name: np.concatenate([value, np.full_like(value[:1], fill)])
        for (name, value), fill in zip(
            ((n, arrays[n]) for n in ("log_increments", "ancestors", "resampled", "mask", "ess")),
            (np.nan, 99, True, False, np.nan),
            strict=True,
        )
    }
    plain = {name: arrays[name] for name in longer}
    padded, alone = examine_steps(**longer), examine_steps(**plain)
    assert padded.estimates == alone.estimates
    assert verdicts(padded.findings) == verdicts(alone.findings)


@pytest.mark.parametrize(
    ("mistake", "code", "cause"),
    [
        ("unmarked", "TB307", "resampling_unrecorded"),
        ("kept", "TB307", "weights_not_reset"),
        ("kept", "TB308", "chosen_by_other_weights"),
        ("uniform", "TB308", "chosen_by_other_weights"),
    ],
)
def test_a_filter_whose_record_contradicts_itself_is_named(mistake, code, cause):
    examined = examine_steps(**filtered(mistake=mistake))
    found = {finding.code: finding for finding in examined.findings}
    assert found[code].verdict is FAULT
    assert found[code].causes[0].name == cause
    assert examined.estimates[0].bound == "none"


def test_children_follow_the_weights_in_every_run_of_a_right_filter():
    """Fifty runs of few particles: no false alarm, and the error is that of multinomial draws."""
    off = []
    for seed in range(50):
        arrays = filtered(particles=10, sequences=10, seed=seed)
        finding = {f.code: f for f in examine_steps(**arrays).findings}["TB308"]
        assert finding.verdict is not FAULT
        assert finding.measured is not None
        error = float(finding.meaning.split("± ")[1].split()[0])
        off.append((finding.measured / error) ** 2)
    assert 0.5 < np.mean(off) < 1.6


def test_a_biased_filter_is_found_where_log_p_is_known():
    arrays = filtered()
    arrays["log_increments"] = arrays["log_increments"] + 0.05
    found = verdicts(examine_steps(**arrays).findings)
    assert found["TB122"] is FAULT
    del arrays["log_marginal"]
    assert verdicts(examine_steps(**arrays).findings)["TB122"] is NOT_RUN


def test_increments_that_were_normalised_or_are_no_numbers_are_named():
    arrays = filtered()
    normalised = (
        arrays["log_increments"] - np.logaddexp.reduce(arrays["log_increments"], axis=1)[:, None]
    )
    found = faults(examine_steps(**{**arrays, "log_increments": normalised}).findings)
    assert "TB302" in found
    arrays["log_increments"][3, :, 7] = np.nan
    found = {f.code: f for f in examine_steps(**arrays).findings}
    assert found["TB301"].verdict is FAULT
    assert found["TB301"].where == "step 3 of sequence 7"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"resampled": None}, "no array `resampled`"),
        ({"mask": np.ones((60, 10), bool)}, "look swapped"),
        ({"ancestors": np.zeros((10, 40, 60))}, "whole numbers from 0 to 39"),
        ({"mask": np.zeros((10, 60), bool)}, "no real step"),
        ({"log_increments": np.zeros((10, 60))}, "time, particles, sequences"),
        ({"ancestor": np.zeros((10, 40, 60), int)}, "Did you mean `ancestors`"),
    ],
)
def test_arrays_of_a_filter_that_cannot_be_meant_are_refused(changes, words):
    with pytest.raises(UserError, match=words):
        steps_from({**filtered(), **changes})


def test_a_filter_without_a_choice_of_ancestors_is_not_judged_by_them():
    arrays = filtered()
    own = np.broadcast_to(np.arange(40)[:, None], arrays["ancestors"].shape)
    never = {**arrays, "ancestors": own, "resampled": np.zeros((10, 60), bool), "ess": None}
    found = {f.code: f for f in examine_steps(**never).findings}
    assert found["TB308"].verdict is NOT_RUN
    assert found["TB307"].not_checked


def test_host_bounds_refuse_no_unit_that_the_others_have():
    """Of one draw there is no error over draws, and no IWAE bound beside the ELBO."""
    (only,) = bounds_of_weights(np.array([[-3.0, -4.0]]), split="here")
    assert (only.value, only.monte_carlo_error, only.estimator) == (-3.5, None, "elbo")

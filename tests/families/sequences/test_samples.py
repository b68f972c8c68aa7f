"""Sequences drawn from a run, beside held-out ones."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from matplotlib.image import imread
from mido import MidiFile

from tightbound.commands.sample import refuse_options_of_others
from tightbound.data.sequences import sequence_split
from tightbound.data.strokes import OffsetScale, Strokes
from tightbound.errors import UserError
from tightbound.families.lookup import find_family, find_recipe
from tightbound.families.sequences.draws import (
    between,
    free,
    latents_of,
    linear_mixture,
    primed,
    spherical_mixture,
    states_after,
)
from tightbound.families.sequences.model import VRNN
from tightbound.families.sequences.profile import along_draws, kl_by_latent, profile
from tightbound.families.sequences.samples import (
    SequenceSamples,
    Shown,
    continued_rows,
    medium_of,
    mixed,
    run_free,
    stroke_picture,
    write_sheet,
)
from tightbound.families.settings import with_settings
from tightbound.models.stateful import FromPrior, continued
from tightbound.runs.training import TrainOptions, begin
from tightbound.train.folder import RunFolder
from tightbound.train.run import first_state, run

SETTINGS = {
    "data": {"max_rows": 40},
    "model": {
        **{"latent_size": 2, "hidden_size": 4, "network_size": 4, "num_components": 2},
        "smoothing": True,  # a proposal that could tell of what follows a prefix
    },
    "run": {"batch_size": 8},
}
SCALE = OffsetScale(np.array([3.0, -1.0]), np.array([10.0, 4.0]))


@pytest.fixture(scope="module")
def setup():
    """Words of a few letters, and a tiny untrained model."""
    return with_settings(find_recipe("vrnn/toy-strokes"), SETTINGS).build(0)


@pytest.fixture(scope="module")
def stroke_run(setup, tmp_path_factory):
    """A run of it that has just begun: its first checkpoint is there, and no step is compiled."""
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "strokes")
    recipe = with_settings(find_recipe("vrnn/toy-strokes"), SETTINGS)
    begin(recipe, "vrnn/toy-strokes", folder, TrainOptions(), setup)
    next(iter(run(setup, folder)))
    return folder.path


@pytest.fixture(scope="module")
def seen(setup):
    """Two held-out words, as long as the longer of them."""
    batch = setup.data["valid"].take(np.arange(2))
    width = int(batch.num_units.max())
    x = jax.tree.map(lambda leaf: leaf[:, :width], batch.x)
    return replace_batch(batch, x=x, mask=batch.mask[:, :width])


def replace_batch(batch, **changes):
    names = list(changes)
    return eqx.tree_at(
        lambda b: [getattr(b, name) for name in names], batch, [changes[name] for name in names]
    )


def path(num_steps, *, seed=0):
    random = np.random.default_rng(seed)
    pen = (random.uniform(size=num_steps) < 0.3).astype(float)
    return Strokes(random.normal(size=(num_steps, 2)), pen)


def walked(strokes, scale):
    """Oracle: a pen that is moved point by point, and lifted after those that say so."""
    lines, position, is_down = [], np.zeros(2), False
    for offset, pen in zip(strokes.offset, strokes.pen, strict=True):
        position = position + offset * scale.scale + scale.mean
        if not is_down:
            lines.append([])
        lines[-1].append(position)
        is_down = pen == 0
    return [np.array(line) for line in lines]


def same_lines(found, expected):
    return len(found) == len(expected) and all(
        len(a) == len(b) and np.allclose(a, b, rtol=1e-12)
        for a, b in zip(found, expected, strict=True)
    )


def test_positions_are_sums_of_denormalised_offsets_broken_where_the_pen_is_lifted():
    """Oracle: a pen moved in a loop. Planted: the first offset lost, (x + mean) * scale, a pen that is
    always down."""
    strokes = path(40)
    found = [line.points for line in stroke_picture(Shown("a", strokes, 40), SCALE).lines]
    assert same_lines(found, walked(strokes, SCALE))
    lost = Strokes(np.append(np.zeros((1, 2)), strokes.offset[1:], 0), strokes.pen)
    wrong = OffsetScale(SCALE.mean * SCALE.scale, SCALE.scale)
    down = Strokes(strokes.offset, np.zeros(40))
    for twin in (walked(lost, SCALE), walked(strokes, wrong), walked(down, SCALE)):
        assert not same_lines(found, twin)


def test_a_pen_that_is_a_probability_is_not_drawn():
    """The planted bug, thresholded probabilities, is refused: nothing decides at one half."""
    strokes = Strokes(np.zeros((2, 2)), np.array([0.0, 0.04]))
    with pytest.raises(ValueError, match="must draw from them: `sample`, not `mean`"):
        stroke_picture(Shown("a", strokes, 0), SCALE)


@pytest.mark.parametrize("num_given", [1, 7, 39])
def test_what_is_given_and_what_is_drawn_join_in_the_last_given_point(num_given):
    """Identity: the two kinds of line are together those of the whole path."""
    strokes = path(40)
    lines = stroke_picture(Shown("a", strokes, num_given), SCALE).lines
    given = [line.points for line in lines if line.kind == "given"]
    assert sum(map(len, given)) == num_given
    whole = []
    for before, line in zip([None, *lines], lines, strict=False):
        joins = before is not None and before.kind == "given" and line.kind == "drawn"
        if joins and np.array_equal(before.points[-1], line.points[0]):
            whole[-1] = np.append(whole[-1], line.points[1:], 0)
        else:
            whole.append(line.points)
    assert same_lines(whole, walked(strokes, SCALE))


def test_pens_are_drawn_as_often_as_the_model_says(setup):
    """A decoder that always gives 3 lifts in 10: the share of 2,000 drawn bits lies within 4 of its
    standard errors, and is 29 of them away where bits are thresholded at one half."""
    decoder = setup.model.decoder
    silent = jax.tree.map(lambda a: jnp.zeros_like(a) if eqx.is_array(a) else a, decoder)
    last = silent.layers[-1]
    bias = last.bias.at[-1].set(np.log(0.3 / 0.7))
    silent = eqx.tree_at(lambda net: net.layers[-1].bias, silent, bias)
    model = eqx.tree_at(lambda model: model.decoder, setup.model, silent)
    pen = np.asarray(free(model, jax.random.key(3), 40, 50).pen)
    assert set(np.unique(pen)) == {0.0, 1.0}
    error = np.sqrt(0.3 * 0.7 / pen.size)
    assert abs(pen.mean() - 0.3) < 4 * error
    assert 8 * error < 0.3


def test_a_primed_sequence_begins_with_the_given_steps_to_the_bit(setup, seen):
    """Identity, at every sample, where rows are continued more than once too; and the continuations
    of one row differ."""
    request = SequenceSamples(num=5, prefix=6, num_steps=4)
    shown = continued_rows(setup.model, setup.proposal, seen, request, jax.random.key(0))
    samples = [one for one in shown if not one.is_real]
    assert [one.num_given for one in samples] == [6] * 5
    for i, one in enumerate(samples):
        assert len(one.values.pen) == 10
        for leaf, given in zip(
            jax.tree.leaves(one.values), jax.tree.leaves(seen.x.values), strict=True
        ):
            np.testing.assert_array_equal(leaf[:6], given[i % 2, :6])
    assert np.abs(samples[0].values.offset[6:] - samples[2].values.offset[6:]).max() > 1e-3


def test_what_follows_the_prefix_does_not_reach_the_continuation(setup, seen):
    """Identity: the rest of the row is replaced and nothing changes, though the proposal reads
    backwards. Planted: inference on the whole row, whose state after the prefix would change."""
    key = jax.random.key(1)
    later = jax.tree.map(
        lambda leaf: np.concatenate([leaf[:, :6], leaf[:, 6:] + 1], 1), seen.x.values
    )
    other = eqx.tree_at(lambda b: b.x.values, seen, later)
    drawn = []
    for batch in (seen, other):
        five = jax.tree.map(lambda leaf: leaf[[0, 1, 0, 1, 0]], batch)  # a shape compiled before
        drawn.append(primed(setup.model, setup.proposal, five, 6, 4, key))
    np.testing.assert_array_equal(drawn[0].offset, drawn[1].offset)
    z = [latents_of(setup.model, setup.proposal, batch, key)[:, :6] for batch in (seen, other)]
    assert np.abs(z[0] - z[1]).max() > 1e-6


def test_a_continuation_goes_on_from_the_state_the_prefix_leads_to(setup, seen):
    """Oracle: a network without latents, whose state after the prefix has one value: a plain loop
    over it. Planted: a fresh state instead."""
    sizes = {"num_features": setup.model.decoder.out_size, "hidden_size": 4, "network_size": 4}
    model = VRNN(3, 0, setup.model.output, **sizes, key=jax.random.key(5))
    batch = jax.tree.map(lambda leaf: leaf[:1], seen)

    @jax.jit
    def step(state, x_t):
        return model.advance(state, jnp.zeros(0), model.read(x_t))

    state = model.init()
    for t in range(5):
        state = step(state, jax.tree.map(lambda leaf, t=t: jnp.asarray(leaf[0, t]), batch.x.values))
    x, mask = jax.tree.map(lambda leaf: leaf[:, :5], (batch.x, batch.mask))
    cut = replace_batch(batch, x=x, mask=mask, num_units=np.array([5]))
    found = states_after(model, FromPrior(), cut, jax.random.key(0))[0]
    np.testing.assert_allclose(found, state, rtol=1e-10)
    assert np.abs(found - model.init()).max() > 0.01
    later = primed(model, FromPrior(), batch, 5, 3, jax.random.key(0))
    key = jax.random.split(jax.random.split(jax.random.key(0))[1], 1)[0]
    _, expected = continued(model, state, jnp.asarray(5), key, 3)
    np.testing.assert_allclose(later.offset[0], expected.offset, rtol=1e-10)


def test_mixtures_go_from_one_row_s_latents_to_the_other_s(setup, seen):
    """Identities: the ends of the way are draws along z of one row, with the same noise; where both
    rows' latents are equal, nothing changes along the way."""
    num_steps = int(seen.num_units.min())
    z = latents_of(setup.model, setup.proposal, seen, jax.random.key(0))[:, :num_steps]
    shares = jnp.array([0.0, 0.5, 1.0])
    draw = eqx.Partial(between, setup.model, key=jax.random.key(1))
    for spherical in (False, True):
        drawn = draw(z[0], z[1], shares, spherical=spherical).offset
        still = draw(z[0], z[0], shares, spherical=spherical).offset
        np.testing.assert_allclose(still, jnp.broadcast_to(still[0], still.shape), atol=1e-12)
        np.testing.assert_allclose(drawn[0], still[0], atol=1e-12)
        back = draw(z[1], z[0], shares, spherical=spherical).offset
        np.testing.assert_allclose(drawn, back[::-1], atol=1e-12)
    request = SequenceSamples(num=3, between=(0, 1))
    shown = mixed(setup.model, setup.proposal, seen, request, jax.random.key(0))
    assert [one.name for one in shown[1:-1]] == [f"{n}% of the way" for n in (0, 50, 100)]
    assert {len(one.values.pen) for one in shown[1:-1]} == {num_steps}


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_arc_keeps_lengths_that_the_line_does_not(share):
    """Oracle: on the unit circle Slerp is the angle between, in equal parts. Parallel, opposite and
    zero vectors have no arc of their own, and take the line."""
    a, b = jnp.array([1.0, 0.0]), jnp.array([np.cos(2.0), np.sin(2.0)])
    found = spherical_mixture(a, b, jnp.asarray(share))
    np.testing.assert_allclose(found, [np.cos(2.0 * share), np.sin(2.0 * share)], atol=1e-12)
    if 0 < share < 1:
        assert jnp.linalg.norm(linear_mixture(a, b, jnp.asarray(share))) < 0.9
    for other in (2 * a, -a, 0 * a):
        flat = linear_mixture(a, other, jnp.asarray(share))
        np.testing.assert_allclose(spherical_mixture(a, other, jnp.asarray(share)), flat)


def test_free_samples_are_as_long_as_the_rows_beside_them(setup, seen):
    """Real, drawn, real, drawn, ...; more samples than rows begin with the rows' lengths again."""
    shown = run_free(setup.model, seen, SequenceSamples(num=4), jax.random.key(0))
    assert [one.is_real for one in shown] == [True, False] * 2 + [False] * 2
    lengths = [len(one.values.pen) for one in shown]
    assert lengths == [n for n in seen.num_units for _ in "ab"] + list(seen.num_units)


def test_every_kind_of_sequence_is_drawn_as_what_it_is(tmp_path):
    """Counted by hand: rolls have 88 bits, images are square and full, other numbers are series."""
    random = np.random.default_rng(0)
    bits = [random.integers(2, size=(n, 88)).astype(np.float32) for n in (5, 9)]
    rolls = sequence_split("valid", bits)
    rows = sequence_split("valid", [random.uniform(size=(6, 6)) for _ in range(2)])
    series = sequence_split("valid", [random.normal(size=(n, 6)) for n in (6, 4)])
    strokes = sequence_split("valid", [path(5)])
    kinds = [medium_of(split) for split in (rolls, rows, series, strokes)]
    assert kinds == ["rolls", "images", "series", "strokes"]
    for kind, values in {"rolls": bits, "images": rows.x.values, "series": series.x.values}.items():
        shown = [Shown("real", values[0], len(values[0])), Shown("drawn", values[1], 0)]
        files = write_sheet(shown, kind, tmp_path, kind, 2, None)
        assert imread(files[0]).std() > 0.01
        assert [f.name for f in files[1:]] == (["rolls-000.mid"] if kind == "rolls" else [])
    ticks = sum(m.time for m in MidiFile(tmp_path / "rolls-000.mid").tracks[0])
    assert ticks == 9 * 480


def test_the_kl_of_a_latent_is_that_of_two_gaussians():
    """Oracle: 1/2 (v/w + (m - n)^2/w - 1 + log w/v), in NumPy. A joint Gaussian has no such parts."""
    m, n, v, w = np.random.default_rng(0).uniform(0.5, 2, (4, 3))
    q, p = (dist.Normal(m, np.sqrt(v)).to_event(1), dist.Normal(n, np.sqrt(w)).to_event(1))
    expected = 0.5 * (v / w + (m - n) ** 2 / w - 1 + np.log(w / v))
    np.testing.assert_allclose(kl_by_latent(q, p), expected, rtol=1e-12)
    joint = dist.MultivariateNormal(m, np.eye(3))
    assert kl_by_latent(q, joint) is kl_by_latent(joint, p) is None


def test_the_profile_is_what_the_proposal_says_along_the_row(setup, stroke_run):
    """Identities: KL by latent and KL by step sum to the same; padding counts nowhere; moments
    stand where the row has steps."""
    state = first_state(setup)
    document = profile(setup, state, jax.random.key(0))
    by_latent = [e["value"] for e in document["kl_by_latent"]]
    by_step = document["kl_by_step"]
    total = np.dot(by_step["mean"], by_step["rows"]) / document["num_rows"]
    assert sum(by_latent) == pytest.approx(document["kl"]["value"], rel=1e-9)
    assert total == pytest.approx(document["kl"]["value"], rel=1e-5)
    valid = setup.data["valid"]
    lengths = valid.num_units[: document["num_rows"]]
    assert by_step["rows"] == [int((lengths > t).sum()) for t in range(lengths.max())]
    batch = valid.take(np.arange(32))
    moments = along_draws(
        setup.model, setup.proposal, batch, jax.random.split(jax.random.key(0))[1]
    )
    for row, n in zip(document["rows"], lengths, strict=False):
        assert {len(x) for part in row["outputs"] for x in part.values()} == {n}
        for latent in row["latents"]:
            expected = moments.latent_variance[row["row"], :n, latent["latent"]]
            np.testing.assert_allclose(latent["variance"], expected, rtol=1e-5)
    observed = [part["observed"] for part in document["rows"][1]["outputs"]]
    x = valid.x.values
    np.testing.assert_allclose(observed[2], x.pen[1, : lengths[1]])
    np.testing.assert_allclose(np.transpose(observed[:2]), x.offset[1, : lengths[1]], rtol=1e-5)


def test_a_run_on_strokes_is_sampled_into_pictures(tightbound, stroke_run):
    """Oracle: other readers. `--json` lists the files, and they are there."""
    options = ["--num", "5", "--num-steps", "4", "--prefix", "6", "--json"]
    result = tightbound("sample", stroke_run, *options)
    assert result.code == 0, result.err
    names = [name.rpartition("/")[2] for name in result.document["files"]]
    ends = [("primed", "png"), ("primed", "svg"), ("profile", "json"), ("profile", "png")]
    assert names == [f"{name}-step-00000000.{end}" for name, end in ends]
    for file in result.document["files"]:
        if file.endswith(".png"):
            assert imread(file).std() > 0.01
    text = (stroke_run / "samples" / "profile-step-00000000.json").read_text()
    assert json.loads(text)["entries"] == ["dx", "dy", "pen"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--prefix", "the"], "invalid literal for int() with base 10: 'the'"),
        (["--prefix", "0"], "--prefix 0 was asked for"),
        (["--prefix", "400"], "no held-out row has more than"),
        (["--num-steps", "0"], "--num-steps 0 was asked for; give at least 1"),
        (["--row", "40"], "--row 40 was asked for, but the held-out split has the rows 0 to 39"),
        (["--between", "0", "-1"], "--between -1 was asked for"),
        (["--between", "0", "1", "--prefix", "2"], "--prefix was given with --between"),
        (["--spherical"], "Give --between ROW ROW too"),
        (["--temperature", "0.5"], "--temperature is for runs on text"),
    ],
)
def test_what_cannot_be_sampled_is_refused(tightbound, stroke_run, options, words):
    """One sentence, exit code 2."""
    result = tightbound("sample", stroke_run, *options)
    assert result.code == 2
    assert words in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize("family", ["images", "edits"])
def test_steps_are_for_runs_on_sequences(family):
    with pytest.raises(UserError, match="--num-steps is for runs on sequences, and a is one on"):
        refuse_options_of_others(["a", "--num-steps", "3"], find_family(family), "a")

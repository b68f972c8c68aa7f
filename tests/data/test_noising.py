"""The laws by which a stored image becomes what a model sees.

Two sampled tests; level 1e-3 for the file, so |z| < 3.9 for each of the largest of at most ten
statistics. Keys are fixed.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tightbound.data.batch import chunks, rows
from tightbound.data.catalogue import DataError
from tightbound.data.labelled import labelled
from tightbound.data.noising import AsFloat, Binarise, Dequantise, Rescale, validate_images

KEY = jax.random.key(20)


@pytest.fixture(scope="module")
def split():
    """Forty images of six pixels: black, four grey values and full ink, the same in every row."""
    grey = np.tile(np.array([0, 3, 64, 128, 250, 255], np.uint8), (40, 1))
    return rows("train", grey, law="dynamic binarisation", labels=np.arange(40) % 4)


def _mean_z(draws, probability):
    """Distance of the mean of Bernoulli draws from its law, in its own standard errors."""
    error = np.sqrt(probability * (1 - probability) / len(draws))
    return (draws.mean(0) - probability) / error


def test_pixels_are_on_with_the_probability_of_their_grey_level(split):
    """Oracle: x / 255, within 3.9 standard errors. Planted: dividing by 256 - 16, and thresholding
    at one half, which must be at least 8 away."""
    batch = split.take(np.arange(40))
    noising = Binarise(255)
    keys = jax.random.split(KEY, 2000)
    draws = jax.jit(jax.vmap(lambda key: noising(batch, key).x))(keys)
    draws = np.asarray(draws).reshape(-1, 6)
    assert set(np.unique(draws)) == {0.0, 1.0}
    assert (draws[:, 0] == 0).all()
    assert (draws[:, 5] == 1).all()
    law = np.array([3, 64, 128, 250]) / 255
    assert np.abs(_mean_z(draws[:, 1:5], law)).max() < 3.9
    assert np.abs(_mean_z(draws[:, 1:4], law[:3] * 255 / 240)).max() > 8
    thresholded = np.tile((law > 0.5).astype(float), (len(draws), 1))
    assert np.abs(_mean_z(thresholded, law)).min() > 8


@pytest.mark.parametrize("noising", [Binarise(255), Dequantise(255)])
def test_neighbours_order_and_filling_change_no_draw(split, noising):
    """Identity, to the bit. Planted: one key for the whole batch, which breaks it."""
    draw = jax.jit(lambda batch: noising(batch, KEY).x)
    whole = draw(split.take(np.arange(40)))
    order = np.array([7, 31, 7, 0])
    np.testing.assert_array_equal(draw(split.take(order)), whole[order])
    for batch, num_rows in chunks(split, 16):
        rows = np.asarray(batch.rows)[:num_rows]
        np.testing.assert_array_equal(draw(batch)[:num_rows], whole[rows])

    def wrong(batch):
        return jax.random.bernoulli(KEY, jnp.asarray(batch.x) / 255.0)

    assert (wrong(split.take(order)) != wrong(split.take(np.arange(40)))[order]).any()


def test_rows_and_calls_are_drawn_apart(split):
    """Equal images in different rows, and one row under two keys, do not share their noise."""
    batch = split.take(np.arange(40))
    first, second = (Dequantise(255)(batch, key).x for key in jax.random.split(KEY))
    assert len(np.unique(np.asarray(first), axis=0)) == 40
    assert (first != second).all()


def test_dequantised_values_stay_in_the_interval_of_their_level(split):
    """Oracle: floor(256 y) = x, and E[y] = (x + 1/2) / 256 within 3.9 standard errors; the noise
    of a planted U[-1/2, 1/2) is 8 and more away."""
    batch = split.take(np.arange(40))
    noising = Dequantise(255)
    draws = jax.jit(jax.vmap(lambda key: noising(batch, key).x))(jax.random.split(KEY, 200))
    draws = np.asarray(draws).reshape(-1, 6)
    np.testing.assert_array_equal(np.floor(draws * 256), np.tile(split.x[0], (len(draws), 1)))
    error = 1 / (256 * np.sqrt(12 * len(draws)))
    z = (draws.mean(0) - (split.x[0] + 0.5) / 256) / error
    assert np.abs(z).max() < 3.9
    assert np.abs(z + 0.5 / 256 / error).min() > 8


@pytest.mark.parametrize(
    ("noising", "expected"),
    [
        (AsFloat(), [0, 3, 64, 128, 250, 255]),
        (Rescale(255), np.array([0, 3, 64, 128, 250, 255]) / 255),
    ],
)
def test_laws_without_noise_compute_and_draw_nothing(split, noising, expected):
    """Identity: the value itself, whatever the key."""
    for key in jax.random.split(KEY):
        batch = noising(split.take(np.arange(2)), key)
        np.testing.assert_array_equal(batch.x, np.tile(expected, (2, 1)))


@pytest.mark.parametrize("noising", [Binarise(255), AsFloat(), Rescale(255), Dequantise(255)])
def test_labels_and_the_rest_of_the_batch_pass_unchanged(split, noising):
    """Identity: the image is what it is without labels, in the default float type."""
    rows = np.array([5, 2, 11])
    plain = noising(split.take(rows), KEY)
    with_labels = noising(labelled(split).take(rows), KEY)
    np.testing.assert_array_equal(with_labels.x.image, plain.x)
    np.testing.assert_array_equal(with_labels.x.label, rows % 4)
    np.testing.assert_array_equal(with_labels.rows, rows)
    assert plain.x.dtype == jnp.zeros(()).dtype


@pytest.mark.parametrize(
    ("value", "said"), [(np.nan, "nan"), (-1.0, "-1.0"), (17.0, "17.0"), (np.inf, "inf")]
)
def test_the_first_bad_row_is_named(value, said):
    x = np.zeros((9, 4))
    x[4, 2] = x[7, 0] = value
    sentence = (
        f"Row 4 of `own` has the value {said}, but .* from 0 to 16 \\(2 of 9 rows are wrong\\)"
    )
    with pytest.raises(DataError, match=sentence):
        validate_images(x, "own", 16)


def test_good_images_pass_validation(split):
    validate_images(split.x, "train")
    validate_images(split.x / 255.0, "train", 1)

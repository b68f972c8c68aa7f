"""MNIST row by row: the same pixels as the images, by each law."""

import gzip
import struct

import jax
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tightbound.data.catalogue import DataError
from tightbound.data.sets.sequential_mnist import BinariseRows, load_sequential_mnist

SIDE = 4


@pytest.fixture
def idx(tmp_path):
    """Grey images of 4 x 4 pixels under MNIST's names; the images."""
    random = np.random.default_rng(0)
    grey = {}
    for name, rows in {"train": 9, "t10k": 5}.items():
        grey[name] = random.integers(0, 256, (rows, SIDE, SIDE), dtype=np.uint8)
        grey[name][0] = np.arange(16).reshape(SIDE, SIDE) % 2 * 255
        labels = random.integers(0, 10, rows, dtype=np.uint8)
        header = struct.pack(">4B3I", 0, 0, 8, 3, *grey[name].shape)
        (tmp_path / f"{name}-images-idx3-ubyte.gz").write_bytes(
            gzip.compress(header + grey[name].tobytes())
        )
        header = struct.pack(">4BI", 0, 0, 8, 1, rows)
        (tmp_path / f"{name}-labels-idx1-ubyte.gz").write_bytes(
            gzip.compress(header + labels.tobytes())
        )
        grey[f"{name}-labels"] = labels
    return tmp_path, grey


def test_a_step_is_a_row_of_pixels_from_the_top(idx):
    """Oracle: the images before they were flattened. Planted: columns are something else."""
    path, grey = idx
    splits = load_sequential_mnist(path, law="grey", num_valid=3)
    expected = grey["t10k"].astype(np.float32) / np.float32(255)
    test = splits["test"]
    assert_array_equal(test.x.values, expected)
    assert not np.array_equal(test.x.values, expected.swapaxes(1, 2))
    assert_array_equal(test.groups, grey["t10k-labels"])
    assert test.num_units.tolist() == [SIDE] * 5
    assert test.mask.all()
    assert test.mask.shape == (5, SIDE)
    assert test.description == "test (grey levels)"
    assert [len(split) for split in splits.values()] == [6, 3, 5]


def test_thresholded_pixels_are_one_above_one_half(idx):
    path, grey = idx
    split = load_sequential_mnist(path, law="thresholded", num_valid=3)["test"]
    assert_array_equal(split.x.values, grey["t10k"] > 127)
    assert split.x.values.dtype == np.float32


def test_static_bits_come_as_stored(tmp_path):
    bits = np.random.default_rng(0).integers(0, 2, (3, 4, SIDE * SIDE), dtype=np.uint8)
    names = ("train", "valid", "test")
    path = tmp_path / "binarized_mnist.npz"
    packed = np.packbits(bits, axis=2)
    np.savez(path, **dict(zip(names, packed, strict=True)))
    splits = load_sequential_mnist(path)
    for name, rows in zip(names, bits, strict=True):
        assert_array_equal(splits[name].x.values.reshape(4, -1), rows)
    assert splits["test"].law == "static binarisation"
    assert splits["test"].groups is None


def test_drawn_bits_keep_black_and_full_ink_and_belong_to_their_row(idx):
    """Identity: grey 0 gives 0, full ink 1; a row draws the same alone and among others. The mean
    over 4,000 draws is the grey value, within 5 of its own standard errors everywhere. Planted: a
    threshold in place of draws is 8 and more errors further away."""
    path, grey = idx
    split = load_sequential_mnist(path, law="dynamic", num_valid=3)["test"]
    assert split.law == BinariseRows.law
    noise, key = BinariseRows(), jax.random.key(0)
    whole = noise(split.take(np.arange(5)), key).x.values
    alone = noise(split.take(np.array([3])), key).x.values
    assert_array_equal(whole[3], alone[0])
    assert_array_equal(whole[0], grey["t10k"][0] / 255)
    keys = jax.random.split(key, 4000)
    batch = split.take(np.arange(5))
    mean = np.asarray(jax.vmap(lambda key: noise(batch, key).x.values)(keys)).mean(0)
    p = split.x.values
    error = np.sqrt(p * (1 - p) / 4000)
    assert np.all(np.abs(mean - p) <= 5 * error + 1e-6)
    assert np.any(np.abs((p > 0.5) - p) > 13 * error)


def test_what_is_no_square_or_no_law_is_refused(tmp_path):
    path = tmp_path / "own.npz"
    rows = np.zeros((2, 3), np.uint8)
    np.savez(path, train=rows, valid=rows, test=rows)
    with pytest.raises(DataError, match="images of 24 pixels, which are no square"):
        load_sequential_mnist(path)

"""The idx reader: what is written comes back, and hostile bytes are refused in one sentence."""

import gzip
import hashlib
import os
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tightbound.data.catalogue import DataError, find
from tightbound.data.formats.idx import load_mnist, read_images, read_labels
from tightbound.data.labelled import Labelled, labelled

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
NAMES += ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")

needs_data = pytest.mark.skipif(
    "TIGHTBOUND_DATA" not in os.environ, reason="TIGHTBOUND_DATA names no folder of real data"
)


def idx(values: np.ndarray) -> bytes:
    """The format as published: two zeros, 08 for unsigned bytes, the number of axes, the sizes."""
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    return header + values.astype(np.uint8).tobytes()


@pytest.fixture
def folder(tmp_path):
    """Twelve training and five test images of 2 x 3 pixels, with labels; returns their arrays too."""
    random = np.random.default_rng(0)
    arrays = (
        *(random.integers(0, 256, (12, 2, 3)), random.integers(0, 10, 12)),
        *(random.integers(0, 256, (5, 2, 3)), random.integers(0, 10, 5)),
    )
    for name, array in zip(NAMES, arrays, strict=True):
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
    return tmp_path, arrays


@pytest.mark.parametrize("pack", [lambda content: content, gzip.compress])
def test_what_is_written_comes_back(tmp_path, pack):
    """Oracle: the array itself. Packing is recognised by content, whatever the name."""
    grey = np.random.default_rng(1).integers(0, 256, (4, 3, 5)).astype(np.uint8)
    (tmp_path / "images").write_bytes(pack(idx(grey)))
    (tmp_path / "labels").write_bytes(pack(idx(grey[0, 0])))
    np.testing.assert_array_equal(read_images(tmp_path / "images"), grey)
    np.testing.assert_array_equal(read_labels(tmp_path / "labels"), grey[0, 0])


def test_validation_is_the_end_of_the_training_file(folder):
    path, (train, train_labels, test, test_labels) = folder
    splits = load_mnist(path, num_valid=4)
    expected = {
        "train": (train[:8], train_labels[:8]),
        "valid": (train[8:], train_labels[8:]),
        "test": (test, test_labels),
    }
    for name, (grey, labels) in expected.items():
        split = splits[name]
        np.testing.assert_array_equal(split.x, grey.reshape(-1, 6))
        np.testing.assert_array_equal(split.groups, labels)
        assert split.x.dtype == np.uint8
        assert split.description == f"{name} (dynamic binarisation)"


def test_one_images_file_is_cut_into_three_splits_without_labels(folder):
    path, (train, *_) = folder
    splits = load_mnist(path / "train-images-idx3-ubyte.gz", num_valid=3, law="grey levels")
    for name, grey in {"train": train[:6], "valid": train[6:9], "test": train[9:]}.items():
        np.testing.assert_array_equal(splits[name].x, grey.reshape(-1, 6))
        assert splits[name].groups is None
        assert splits[name].law == "grey levels"
    with pytest.raises(DataError, match="the train split has no labels"):
        labelled(splits["train"])


def test_labels_travel_with_the_images_a_batch_takes(folder):
    path, (train, train_labels, *_) = folder
    batch = labelled(load_mnist(path, num_valid=2)["train"]).take(np.array([3, 1]))
    assert isinstance(batch.x, Labelled)
    np.testing.assert_array_equal(batch.x.image, train[[3, 1]].reshape(2, 6))
    np.testing.assert_array_equal(batch.x.label, train_labels[[3, 1]])


def test_unpacked_files_of_ones_own_are_read_too(folder):
    path, (train, *_) = folder
    for name in NAMES:
        packed = path / f"{name}.gz"
        (path / name).write_bytes(gzip.decompress(packed.read_bytes()))
        packed.unlink()
    assert len(load_mnist(path, num_valid=1)["train"]) == len(train) - 1


def test_a_folder_without_the_files_and_no_folder_are_told_apart(folder):
    path, _ = folder
    with pytest.raises(
        DataError, match=r"There is no .*nowhere. Give a path that holds train-images"
    ):
        load_mnist(path / "nowhere")
    (path / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(
        DataError, match=r"has no t10k-labels-idx1-ubyte.gz. Files of your own need"
    ):
        load_mnist(path)


@pytest.mark.parametrize("num_valid", [-1, 0, 12, 100])
def test_a_validation_part_must_be_smaller_than_the_file(folder, num_valid):
    with pytest.raises(DataError, match=f"{num_valid} rows were to be held out of 12"):
        load_mnist(folder[0], num_valid=num_valid)


def test_labels_must_be_as_many_as_images(folder):
    path, _ = folder
    (path / f"{NAMES[1]}.gz").write_bytes(gzip.compress(idx(np.zeros(11))))
    with pytest.raises(DataError, match=r"has 12 images, but .* has 11 labels"):
        load_mnist(path)


def test_train_and_test_images_must_have_one_size(folder):
    path, _ = folder
    (path / f"{NAMES[2]}.gz").write_bytes(gzip.compress(idx(np.zeros((5, 2, 2)))))
    with pytest.raises(DataError, match=r"has 6 pixels per image, but .* has 4"):
        load_mnist(path, num_valid=1)


GOOD = idx(np.arange(24).reshape(2, 3, 4))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "begins with nothing, expected 00000803"),
        (b"PK\x03\x04 something else", "begins with 504b0304, expected 00000803"),
        (idx(np.arange(4)), "begins with 00000801, expected 00000803. Was it given in the place"),
        (GOOD[:9], "ends inside its header"),
        (GOOD[:-1], "announces 24 bytes of images and holds only 23"),
        (GOOD + b"\0", "announces 24 bytes of images and holds more"),
        (struct.pack(">4B3I", 0, 0, 8, 3, 2**31, 2**31, 2**31), "announces images of shape"),
        (struct.pack(">4B3I", 0, 0, 8, 3, 0, 28, 28), r"shape \(0, 28, 28\), 0 bytes"),
        (gzip.compress(GOOD)[:-9], "cannot be read"),
        (gzip.compress(GOOD) + b"rest", "cannot be read: Not a gzipped file"),
        (gzip.compress(GOOD)[:-8] + b"\1" * 8, "cannot be read: CRC check failed"),
    ],
    ids=[
        *("empty", "another format", "labels for images", "half a header", "one byte short"),
        *("one byte over", "absurd sizes", "no rows", "gzip cut", "gzip and more", "gzip changed"),
    ],
)
def test_bytes_that_are_no_idx_file_are_refused_with_their_fault(tmp_path, content, sentence):
    (tmp_path / "images.gz").write_bytes(content)
    with pytest.raises(DataError, match=sentence):
        read_images(tmp_path / "images.gz")


def test_a_header_cannot_make_the_reader_take_memory(tmp_path):
    """Oracle: the traced peak stays below 32 MB where the header announces 3.9 GB and 24 bytes follow."""
    lie = struct.pack(">4B3I", 0, 0, 8, 3, 5_000_000, 28, 28) + bytes(24)
    (tmp_path / "images").write_bytes(lie)
    tracemalloc.start()
    with pytest.raises(DataError, match="holds only 24"):
        read_images(tmp_path / "images")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32e6


def test_a_file_that_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nothing cannot be read: .*No such file"):
        read_images(tmp_path / "nothing")


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    head=st.sampled_from([b"", GOOD[:4], GOOD[:16], b"\x1f\x8b", b"\x1f\x8b\x08\x00"]),
    tail=st.binary(max_size=64),
    packed=st.booleans(),
)
@example(head=GOOD, tail=b"", packed=True)
def test_random_bytes_are_read_or_refused_and_never_anything_else(tmp_path, head, tail, packed):
    """Fuzz: any exception but `DataError` fails, and what is read is what was announced."""
    content = head + tail
    (tmp_path / "fuzz").write_bytes(gzip.compress(content) if packed else content)
    try:
        grey = read_images(tmp_path / "fuzz")
    except DataError:
        return
    assert idx(grey) == content


@needs_data
def test_the_published_files_have_the_well_known_checksums_and_counts():
    """Oracle: the md5 sums of LeCun's uncompressed files, and the published class counts' total."""
    known = (
        "6bbc9ace898e44ae57da46a324031adb",
        "a25bea736e30d166cdddb491f175f624",
        "2646ac647ad5339dbf082846283269ea",
        "27ae3e4e09519cfbb04c329615203637",
    )
    md5 = [hashlib.md5(gzip.decompress(path.read_bytes())).hexdigest() for path in find("mnist")]
    assert tuple(md5) == known
    splits = load_mnist()
    assert {name: split.x.shape for name, split in splits.items()} == {
        "train": (59_600, 784),
        "valid": (400, 784),
        "test": (10_000, 784),
    }
    # mean grey levels in [0, 1] as everybody quotes them: 0.1307 (train), 0.1325 (test)
    whole = np.concatenate([splits["train"].x, splits["valid"].x])
    assert whole.mean() / 255 == pytest.approx(0.1307, abs=5e-5)
    assert splits["test"].x.mean() / 255 == pytest.approx(0.1325, abs=5e-5)
    assert np.bincount(splits["test"].groups).tolist() == [
        *(980, 1135, 1032, 1010, 982),
        *(892, 958, 1028, 974, 1009),
    ]

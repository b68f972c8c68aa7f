"""Bit-packed images: what is written comes back, and files nobody vouches for are refused."""

import hashlib
import io
import os
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tightbound.data.catalogue import DataError
from tightbound.data.sets.static_mnist import load_static_mnist

needs_data = pytest.mark.skipif(
    "TIGHTBOUND_DATA" not in os.environ, reason="TIGHTBOUND_DATA names no folder of real data"
)


@pytest.fixture
def bits():
    random = np.random.default_rng(0)
    return {
        name: random.integers(0, 2, (rows, 24), dtype=np.uint8)
        for name, rows in {"train": 5, "valid": 3, "test": 2}.items()
    }


def _packed(bits):
    return {name: np.packbits(rows, axis=1) for name, rows in bits.items()}


def test_what_is_written_comes_back_from_a_file_and_from_a_folder(tmp_path, bits):
    """Oracle: the bits themselves, stored by rows and by columns."""
    path = tmp_path / "binarized_mnist.npz"
    for order in ("C", "F"):
        np.savez_compressed(
            path, **{name: np.asarray(a, order=order) for name, a in _packed(bits).items()}
        )
        for given_path in (path, tmp_path):
            splits = load_static_mnist(given_path)
            for name, rows in bits.items():
                np.testing.assert_array_equal(splits[name].x, rows)
                assert splits[name].x.dtype == np.uint8
                assert splits[name].description == f"{name} (static binarisation)"
                assert splits[name].groups is None


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda p: p | {"test": p["test"].astype(float)}, "`test` of type float64"),
        (lambda p: p | {"test": p["test"].ravel()}, r"`test` of type uint8 and shape \(6,\)"),
        (lambda p: p | {"test": p["test"][:0]}, r"shape \(0, 3\)"),
        (lambda p: p | {"test": p["test"][:, :2]}, r"splits of \[3, 3, 2\] bytes per row"),
        (lambda p: {"train": p["train"]}, "has no array 'valid'"),
        (lambda p: p | {"test": np.array([{"a": 1}])}, "announces type object"),
    ],
)
def test_arrays_that_are_not_packed_bits_are_refused(tmp_path, bits, change, sentence):
    path = tmp_path / "own.npz"
    np.savez(path, **change(_packed(bits)))
    with pytest.raises(DataError, match=sentence):
        load_static_mnist(path)


def test_a_pickle_is_never_opened(tmp_path, bits):
    """Planted: an object whose unpickling would leave a trace on disk."""
    trace = tmp_path / "trace"

    class Trap:
        def __reduce__(self):
            return (open, (str(trace), "w"))

    path = tmp_path / "own.npz"
    np.savez(path, **_packed(bits) | {"train": np.array([Trap()], dtype=object)})
    with pytest.raises(DataError, match="announces type object"):
        load_static_mnist(path)
    assert not trace.exists()


def test_a_header_cannot_make_the_reader_take_memory(tmp_path):
    """Oracle: the traced peak stays below 32 MB where the header announces 8 TB."""
    stream = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": (10**9, 8000)}
    np.lib.format.write_array_header_1_0(stream, header)
    path = tmp_path / "own.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train.npy", stream.getvalue() + bytes(24))
    tracemalloc.start()
    with pytest.raises(DataError, match=r"shape \(1000000000, 8000\) and has 24 bytes"):
        load_static_mnist(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32e6


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(where=st.floats(0, 1), junk=st.binary(min_size=1, max_size=12), cut=st.booleans())
def test_a_damaged_file_is_read_or_refused_and_never_anything_else(
    tmp_path, bits, where, junk, cut
):
    """Fuzz: a good file overwritten or cut short anywhere; only `DataError` may be raised."""
    path = tmp_path / "fuzz.npz"
    np.savez(path, **_packed(bits))
    content = path.read_bytes()
    at = int(where * len(content))
    path.write_bytes(content[:at] + junk + (b"" if cut else content[at + len(junk) :]))
    try:
        splits = load_static_mnist(path)
    except DataError:
        return
    assert all(set(np.unique(split.x)) <= {0, 1} for split in splits.values())


@needs_data
def test_the_published_bits_have_the_known_counts_means_and_checksums():
    """Oracle: md5 of the first ten rows as the readers of other projects assert them, and the means
    the data page verified against the original files."""
    known = {
        "train": (50_000, 0.13056, "0922fefc9a9d097e3b086b89107fafce"),
        "valid": (10_000, 0.13113, "65e8099613162b3110a7618037011617"),
        "test": (10_000, 0.13251, "0fa539ed8cb008880a61be77f744f06a"),
    }
    for name, split in load_static_mnist().items():
        rows, mean, md5 = known[name]
        assert split.x.shape == (rows, 784)
        assert split.x.mean() == pytest.approx(mean, abs=5e-6)
        assert hashlib.md5(split.x[:10].tobytes()).hexdigest() == md5

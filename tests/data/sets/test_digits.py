"""The digits that ship with scikit-learn, and files of the same format."""

import gzip
import sys

import numpy as np
import pytest
import sklearn.datasets
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tightbound.data.catalogue import DataError
from tightbound.data.sets.digits import fixed_order, load_digits, read_digits

LINE = b",".join(b"%d" % (pixel % 17) for pixel in range(64)) + b",7\n"


def test_the_splits_are_all_of_scikit_learns_digits_once():
    """Oracle: the rows of scikit-learn's own loader, as a multiset."""
    splits = load_digits()
    assert {name: split.x.shape for name, split in splits.items()} == {
        "train": (1297, 64),
        "valid": (200, 64),
        "test": (300, 64),
    }
    ours = np.concatenate([np.c_[split.x, split.groups] for split in splits.values()])
    theirs = np.c_[sklearn.datasets.load_digits(return_X_y=True)]
    np.testing.assert_array_equal(
        ours[np.lexsort(ours.T)], theirs[np.lexsort(theirs.T)].astype(np.uint8)
    )
    order = fixed_order(1797)
    np.testing.assert_array_equal(splits["train"].x, theirs[order[:1297], :-1])
    np.testing.assert_array_equal(splits["valid"].x, theirs[order[1297:1497], :-1])
    assert all(split.x.dtype == np.uint8 and split.x.max() == 16 for split in splits.values())


def test_every_split_has_every_class():
    """The published order is by writer; after `fixed_order` no class is rare anywhere."""
    for split in load_digits().values():
        assert np.bincount(split.groups, minlength=10).min() >= len(split) / 20


def test_the_order_is_a_permutation_that_stays_as_it_is():
    """Oracle: sha256 of "0", "1", ... sorted by hand for four rows: 5f.., 6b.., d4.., 4e.. ."""
    assert fixed_order(4).tolist() == [3, 0, 1, 2]
    np.testing.assert_array_equal(np.sort(fixed_order(1797)), np.arange(1797))


@pytest.mark.parametrize("pack", [lambda content: content, gzip.compress])
def test_a_file_of_ones_own_gives_what_was_written(tmp_path, pack):
    """Oracle: the shipped digits written as text give the shipped splits."""
    table = np.c_[sklearn.datasets.load_digits(return_X_y=True)]
    text = "\n".join(",".join(str(int(value)) for value in row) for row in table)
    (tmp_path / "digits.csv").write_bytes(pack(text.encode()))
    own, shipped = load_digits(tmp_path / "digits.csv", law="grey levels"), load_digits()
    for name in ("train", "valid", "test"):
        np.testing.assert_array_equal(own[name].x, shipped[name].x)
        np.testing.assert_array_equal(own[name].groups, shipped[name].groups)
        assert own[name].description == f"{name} (grey levels)"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"", "is empty"),
        (LINE + b"1,2,3\n", "Line 2 of .* is not 64 grey values from 0 to 16"),
        (LINE.replace(b"16", b"17"), "Line 1 of"),
        (LINE.replace(b"16", b"nan"), "Line 1 of"),
        (LINE.replace(b"16", b"-1"), "Line 1 of"),
        (LINE.replace(b",7", b",700"), "Line 1 of"),
        (b"\x1f\x8bnot gzip", "cannot be read"),
    ],
    ids=["empty", "short line", "too bright", "no number", "negative", "label", "damaged gzip"],
)
def test_text_that_is_no_file_of_digits_is_refused(tmp_path, text, sentence):
    (tmp_path / "digits.csv").write_bytes(text)
    with pytest.raises(DataError, match=sentence):
        read_digits(tmp_path / "digits.csv")


def test_too_few_rows_for_the_splits_are_refused(tmp_path):
    (tmp_path / "digits.csv").write_bytes(LINE * 5)
    with pytest.raises(DataError, match="5 digits cannot be split into 200 for validation"):
        load_digits(tmp_path / "digits.csv")
    splits = load_digits(tmp_path / "digits.csv", num_valid=1, num_test=2)
    assert [len(split) for split in splits.values()] == [2, 1, 2]


def test_without_scikit_learn_the_extra_to_install_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(DataError, match=r"not installed. Install `tightbound\[demo\]`"):
        load_digits()


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(junk=st.binary(max_size=80))
@example(junk="²,".encode())
@example(junk=b"9" * 5000 + b"," + LINE)
def test_random_bytes_are_read_or_refused_and_never_anything_else(tmp_path, junk):
    """Fuzz: any exception but `DataError` fails."""
    (tmp_path / "fuzz").write_bytes(LINE + junk)
    try:
        grey, labels = read_digits(tmp_path / "fuzz")
    except DataError:
        return
    assert grey.max() <= 16
    assert len(grey) == len(labels)

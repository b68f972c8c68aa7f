"""UCI regression sets: whose rows are whose, what normalises them, files that cannot be."""

import gzip
import hashlib
import os
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from tightbound.data import catalogue
from tightbound.data.catalogue import DataError
from tightbound.data.point_tables import TargetScale
from tightbound.data.sets import uci
from tightbound.data.sets.uci import load_uci
from tightbound.errors import UserError

needs_data = pytest.mark.skipif(
    "TIGHTBOUND_DATA" not in os.environ, reason="TIGHTBOUND_DATA names no folder of real data"
)
NUM_ROWS, NUM_FOLDS = 40, 4


@pytest.fixture(scope="module")
def table():
    """Two inputs and a target; the first input is the row's number, so a row can be recognised."""
    random = np.random.default_rng(0)
    return np.stack(
        [np.arange(NUM_ROWS), random.normal(5, 3, NUM_ROWS), random.normal(-7, 2, NUM_ROWS)], axis=1
    )


@pytest.fixture(scope="module")
def masks():
    """Row r is tested in fold r mod 4: no fold has neighbours."""
    return np.eye(NUM_FOLDS, dtype=int)[np.arange(NUM_ROWS) % NUM_FOLDS]


def text_of(rows):
    return "".join(",".join(str(cell) for cell in row) + "\n" for row in rows)


def written(folder, data, masks, name="yacht"):
    """A folder with both files, packed."""
    for part, text in (("data", data), ("test_mask", masks)):
        text = text if isinstance(text, str) else text_of(text.tolist())
        (folder / f"{name}.{part}.csv.gz").write_bytes(gzip.compress(text.encode()))
    return folder


def rows_of(split):
    """Which rows of the table a split without normalisation has."""
    return split.x.inputs[:, 0].astype(int).tolist()


def test_the_folds_are_those_of_the_mask_and_every_row_is_in_one_split_of_each(
    tmp_path, table, masks
):
    """Oracle: the mask itself. Planted: the complement of the mask's column is not the test split."""
    folder = written(tmp_path, table, masks)
    tested = []
    for fold in range(NUM_FOLDS):
        splits, scale = load_uci("yacht", fold, folder, normalise=False)
        rows = {name: rows_of(split) for name, split in splits.items()}
        assert rows["test"] == np.flatnonzero(masks[:, fold]).tolist()
        assert rows["test"] != np.flatnonzero(masks[:, fold] == 0).tolist()
        assert sorted(chain.from_iterable(rows.values())) == list(range(NUM_ROWS))
        assert [len(part) for part in rows.values()] == [27, 3, 10]
        tested += rows["test"]
        assert scale == TargetScale(0.0, 1.0)
        for name, split in splits.items():
            expected = table[rows[name]].astype(np.float32)
            assert_array_equal(split.x.inputs, expected[:, :-1])
            assert_array_equal(split.x.target, expected[:, -1])
    assert sorted(tested) == list(range(NUM_ROWS))


def test_the_rows_that_validate_are_the_first_of_an_order_that_nothing_changes(
    tmp_path, table, masks
):
    """Oracle: rows sorted by the sha256 of their number, by the standard library."""
    folder = written(tmp_path, table, masks)
    order = sorted(range(NUM_ROWS), key=lambda row: hashlib.sha256(str(row).encode()).digest())
    rest = [row for row in order if not masks[row, 1]]
    for num_valid in (1, 3, 29):
        splits, _ = load_uci("yacht", 1, folder, num_valid=num_valid, normalise=False)
        assert rows_of(splits["valid"]) == sorted(rest[:num_valid])
    for num_valid in (0, 30):
        with pytest.raises(DataError, match=f"10 rows are for testing .* {num_valid} were to val"):
            load_uci("yacht", 1, folder, num_valid=num_valid)


def test_normalising_takes_its_statistics_from_the_training_rows_alone(tmp_path, table, masks):
    """Identity: training columns have mean 0 and variance 1, and undoing gives the file's numbers.

    Planted: with held-out rows far away, statistics of all rows leave the training mean elsewhere.
    """
    moved = table + 100.0 * masks[:, 2:3] * np.array([0, 1, 1])
    splits, scale = load_uci("yacht", 2, written(tmp_path, moved, masks))
    plain, _ = load_uci("yacht", 2, tmp_path, normalise=False)
    train = np.column_stack([splits["train"].x.inputs, splits["train"].x.target]).astype(float)
    assert_allclose(train.mean(0), 0, atol=1e-6)
    assert_allclose(train.var(0), 1, rtol=1e-6)
    for name, split in splits.items():
        assert_allclose(scale.undo(split.x.target), plain[name].x.target, rtol=1e-5)
        assert_allclose(scale.apply(plain[name].x.target), split.x.target, rtol=1e-4, atol=1e-6)
    rows = rows_of(plain["train"])
    assert_allclose(scale.mean, moved[rows, 2].mean(), rtol=1e-12)
    leaked = (moved[rows] - moved.mean(0)) / moved.std(0)
    assert np.abs(leaked[:, 1:].mean(0)).min() > 0.3
    assert np.abs(leaked[:, 1:].var(0) - 1).min() > 0.3


def test_a_density_of_normalised_targets_is_one_in_the_units_of_the_file_less_log_scale():
    """Oracle: scipy's Gaussian in both units, and the change of the RMSE. Planted: the wrong sign."""
    scale = TargetScale(mean=-7.0, scale=2.5)
    y = np.linspace(-12.0, 3.0, 7)
    normalised = stats.norm.logpdf(scale.apply(y), 0.3, 0.8)
    expected = stats.norm.logpdf(y, scale.undo(np.array(0.3)), 0.8 * scale.scale)
    assert_allclose(scale.log_density(normalised), expected, rtol=1e-12)
    assert np.abs(normalised + np.log(scale.scale) - expected).min() > 1
    assert_allclose(scale.undo(scale.apply(y)), y, rtol=1e-12)
    assert_allclose(np.ptp(y), scale.scale * np.ptp(scale.apply(y)), rtol=1e-12)


def test_held_out_points_are_predicted_from_the_training_points_and_say_so(tmp_path, table, masks):
    """Oracle: the sentence; all three splits hold points of one data set, in 32 bits."""
    splits, _ = load_uci("yacht", 3, written(tmp_path, table, masks))
    law = (
        "(target in the last column of a file that is not the collection's, fold 3 of 4, normalised "
        "by the training rows)"
    )
    assert splits["train"].description == f"train {law}"
    assert splits["test"].description == f"test given train {law}"
    assert [split.given for split in splits.values()] == ["", "train", "train"]
    for split in splits.values():
        assert split.pooled
        assert split.x.inputs.dtype == split.x.target.dtype == np.float32
        assert split.num_units.tolist() == [1] * len(split)


@pytest.fixture
def as_published(monkeypatch):
    """Enters both files of a folder in the catalogue, as if they were the published ones."""

    def enter(folder, name):
        entry = catalogue.CATALOGUE[f"uci-{name}"]
        files = []
        for file in entry.files:
            content = gzip.decompress((folder / file.name).read_bytes())
            digest = hashlib.sha256(content).hexdigest()
            files.append(replace(file, sha256=digest, size=len(content)))
        monkeypatch.setitem(catalogue.CATALOGUE, f"uci-{name}", replace(entry, files=tuple(files)))

    return enter


def test_the_repositorys_own_target_is_another_column_or_an_undone_log(
    tmp_path, table, masks, as_published
):
    """Identity: the log of the restored target is the stored one but for a constant; for wine the
    last two columns change places; energy stays. Planted: the stored target is not the restored."""
    table = np.column_stack([table[:, :-1], table[:, -1] / 10])
    plain = {}
    for name in ("yacht", "wine", "protein", "energy"):
        as_published(written(tmp_path, table, masks, name), name)
        stored, _ = load_uci(name, 0, tmp_path, normalise=False)
        other, _ = load_uci(name, 0, tmp_path, target="repository", normalise=False)
        assert "target as stored" in stored["test"].description
        assert "target of the repository" in other["test"].description
        plain[name] = stored["train"].x, other["train"].x
    for name, log in (("yacht", np.log), ("protein", np.log1p)):
        stored, other = plain[name]
        constant = log(other.target.astype(float)) - stored.target
        assert_allclose(constant, constant[0], atol=1e-5)
        assert np.abs(other.target - stored.target).min() > 0.1
        assert_array_equal(other.inputs, stored.inputs)
    stored, other = plain["wine"]
    assert_array_equal(other.target, stored.inputs[:, 1])
    assert_array_equal(other.inputs, np.column_stack([stored.inputs[:, 0], stored.target]))
    stored, other = plain["energy"]
    assert_array_equal(other.target, stored.target)


@pytest.mark.parametrize("name", ["yacht", "wine", "protein", "energy", "concrete"])
def test_of_a_file_of_ones_own_the_target_is_its_last_column_and_the_law_says_so(
    tmp_path, table, masks, name
):
    """Oracle: the file's own last column, whatever target of the collection is asked for. It holds
    numbers whose exponential no 32-bit number can be."""
    table = table + np.array([0, 0, 500])
    folder = written(tmp_path, table, masks, name)
    for target in ("stored", "repository"):
        splits, _ = load_uci(name, 0, folder, target=target, normalise=False)
        for split in splits.values():
            expected = table[rows_of(split), -1].astype(np.float32)
            assert_array_equal(split.x.target, expected)
            assert "last column of a file that is not the collection's" in split.description


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("1,2", "Line 3 of .* has 2 cells, but the first has 3"),
        ("1,2,3,4", "Line 3 of .* has 4 cells, but the first has 3"),
        ("1,two,3", "Line 3 of .* has 'two' where a finite number was meant"),
        ("1,nan,3", "has 'nan' where a finite number"),
        ("1,2,1e999", "has '1e999' where a finite number"),
        ("1,,3", "Line 3 of .* has '' where a finite number"),
        ("", "Line 3 of .* has 1 cells, but the first has 3"),
        ("1,2,1e300", "has 1e\\+300 in column 3, which no 32-bit number holds"),
        ("1,\0,3", "Line 3 of .* holds a zero byte"),
    ],
)
def test_a_line_that_cannot_be_is_named_by_its_number(tmp_path, table, masks, line, sentence):
    lines = text_of(table.tolist()).splitlines()
    lines[2] = line
    folder = written(tmp_path, "\n".join(lines) + "\n", masks)
    with pytest.raises(DataError, match=sentence):
        load_uci("yacht", 2, folder)


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ([0, 0, 0, 0], "Line 6 of .*test_mask.* is not a single 1 .* adds up to 0"),
        ([1, 0, 1, 0], "Line 6 .* is not a single 1 .* adds up to 2"),
        ([2, -1, 0, 0], "Line 6 .* is not a single 1 among zeros"),
        ([0.5, 0.5, 0, 0], "Line 6 .* is not a single 1 among zeros"),
    ],
)
def test_a_row_in_no_fold_or_in_two_is_refused(tmp_path, table, masks, row, sentence):
    masks = masks.astype(float)
    masks[5] = row
    with pytest.raises(DataError, match=sentence):
        load_uci("yacht", 0, written(tmp_path, table, masks))


def test_files_that_are_not_of_one_set_are_refused(tmp_path, table, masks):
    with pytest.raises(DataError, match="has 39 lines, but the data have 40"):
        load_uci("yacht", 0, written(tmp_path, table, masks[:-1]))
    with pytest.raises(DataError, match=r"data.csv.gz is empty"):
        load_uci("yacht", 0, written(tmp_path, "", masks))
    with pytest.raises(DataError, match="has one column; give at least one input and the target"):
        load_uci("yacht", 0, written(tmp_path, table[:, :1], masks))
    never = np.column_stack([masks, np.zeros(NUM_ROWS, int)])
    with pytest.raises(DataError, match=r"In fold 4 of .*, 0 rows are for testing and 40 are not"):
        load_uci("yacht", 4, written(tmp_path, table, never))
    for fold in (-1, NUM_FOLDS):
        with pytest.raises(UserError, match=f"Fold {fold} was asked for, .* has 4: give 0 to 3"):
            load_uci("yacht", fold, written(tmp_path, table, masks))


@pytest.mark.parametrize("value", [0.0, 0.1, 1e9])
def test_a_column_without_spread_in_the_training_rows_is_refused(tmp_path, table, masks, value):
    """Planted: held-out rows do spread, so a statistic of all rows would pass."""
    table = table.copy()
    table[masks[:, 0] == 0, 1] = value
    folder = written(tmp_path, table, masks)
    with pytest.raises(DataError, match=r"Column 2 of .* is constant in the 27 training rows"):
        load_uci("yacht", 0, folder)
    plain, _ = load_uci("yacht", 0, folder, normalise=False)
    assert_array_equal(plain["train"].x.inputs[:, 1], np.float32(value))


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, table, masks, monkeypatch):
    """Planted: one line of 50 million digits, and more short lines than a table may have."""
    folder = written(tmp_path, table, masks)
    (folder / "yacht.data.csv.gz").write_bytes(gzip.compress(b"7" * 50_000_000, compresslevel=1))
    with pytest.raises(DataError, match="more than 1,048,576 bytes in line 1"):
        load_uci("yacht", 0, folder)
    monkeypatch.setattr(uci, "MOST_CELLS", 119)
    with pytest.raises(DataError, match="has more than 119 numbers"):
        load_uci("yacht", 0, written(tmp_path, table, masks))


@needs_data
@pytest.mark.parametrize(
    ("name", "num_rows", "num_inputs", "num_tested"),
    [
        ("yacht", 308, 6, [30, 31]),
        ("energy", 768, 8, [76, 77]),
        ("concrete", 1_030, 8, [103]),
        ("wine", 1_599, 11, [159, 160]),
        ("protein", 45_730, 9, [4_573]),
    ],
)
def test_the_published_files_have_the_known_sizes_and_checksums(
    name, num_rows, num_inputs, num_tested
):
    """Oracle: the sizes that the repository states, a tenth of the rows in each of ten folds."""
    assert [status.status for status in catalogue.verify(f"uci-{name}")] == ["ok", "ok"]
    for fold in (4,) if name == "protein" else (0, 5, 9):
        splits, _ = load_uci(name, fold)
        sizes = {part: len(split) for part, split in splits.items()}
        assert sum(sizes.values()) == num_rows
        assert sizes["test"] in num_tested
        assert sizes["valid"] == round((num_rows - sizes["test"]) / 10)
        assert splits["train"].x.inputs.shape[1] == num_inputs


@needs_data
def test_the_repositorys_targets_are_the_ones_it_describes():
    """Oracles: resistances are given to two decimals, from 0.01 to 62.42; wines are judged from 3 to 8
    in whole numbers; distances of decoys are from 0 to 21 angstroms. Planted: the stored ones."""

    def targets(name, target):
        splits, _ = load_uci(name, 0, target=target, normalise=False)
        return np.concatenate([split.x.target for split in splits.values()]).astype(float)

    resistance = targets("yacht", "repository")
    assert np.abs(resistance - resistance.round(2)).max() < 0.003
    assert_allclose([resistance.min(), resistance.max()], [0.01, 62.42], atol=0.003)
    quality = targets("wine", "repository")
    assert_allclose(np.unique(quality) - quality.min(), np.arange(6), atol=1e-4)
    assert len(np.unique(targets("wine", "stored"))) == 65
    distance = targets("protein", "repository")
    assert_allclose([distance.min(), distance.max()], [0, 21], atol=0.002)
    assert targets("protein", "stored").max() < 2

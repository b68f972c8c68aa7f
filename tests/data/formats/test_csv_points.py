"""Tables of one's own: what separates cells, which column is the target, lines that cannot be."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tightbound.data.catalogue import DataError
from tightbound.data.formats.csv_points import load_csv_points
from tightbound.data.sets.digits import fixed_order
from tightbound.errors import UserError

NAMES = ("height", "width", "price")


@pytest.fixture(scope="module")
def table():
    """The first column is the row's number, so that a row can be recognised."""
    random = np.random.default_rng(0)
    return np.column_stack([np.arange(40), random.normal(5, 3, 40), random.normal(-7, 2, 40)])


def written(path, table, separator=",", names=NAMES, end="\n"):
    rows = [separator.join(names)] if names else []
    rows += [separator.join(str(cell) for cell in row) for row in table.tolist()]
    path.write_text(end.join(rows) + end)
    return path


def values_of(splits):
    """Inputs and target of all splits as they were read, in the order of the file."""
    x = np.concatenate([np.column_stack([s.x.inputs, s.x.target]) for s in splits.values()])
    return x[np.argsort(x[:, 0])]


@pytest.mark.parametrize("separator", [",", ";", "\t", " ", ", ", "  "])
@pytest.mark.parametrize("names", [NAMES, ()])
def test_a_table_is_read_whatever_separates_its_cells_with_and_without_names(
    tmp_path, table, separator, names
):
    """Oracle: the numbers that were written; the last column is the target where none is named."""
    path = written(tmp_path / "own.csv", table, separator, names, end="\r\n")
    splits, _, notes = load_csv_points(path, normalise=False)
    assert_array_equal(values_of(splits), table.astype(np.float32))
    assert f"the target is column {'price' if names else '3'!r}" in notes[0]


@pytest.mark.parametrize(("target", "place"), [("height", 0), ("width", 1), ("price", 2)])
def test_the_named_column_is_the_target_and_the_law_says_which(tmp_path, table, target, place):
    """Oracle: the column itself, under its name and, in a file without names, under its number."""
    named = written(tmp_path / "named.csv", table)
    bare = written(tmp_path / "bare.csv", table, names=())
    for path, name in ((named, target), (bare, str(place + 1))):
        splits, _, _ = load_csv_points(path, name, normalise=False)
        for split in splits.values():
            rows = np.searchsorted(table[:, place], np.sort(split.x.target)) if place == 0 else None
            assert np.isin(split.x.target, table[:, place].astype(np.float32)).all()
            assert rows is None or len(set(rows)) == len(split)
            assert split.x.inputs.shape == (len(split), 2)
            assert f"target {name} of {path.name}, fold 0 of 10" in split.description


def test_columns_that_are_left_out_may_hold_words(tmp_path, table):
    lines = written(tmp_path / "own.csv", table).read_text().splitlines()
    lines = [lines[0] + ",colour"] + [line + ',"red, or so"' for line in lines[1:]]
    (tmp_path / "own.csv").write_text("\n".join(lines))
    splits, _, _ = load_csv_points(
        tmp_path / "own.csv", "price", leave_out=["colour", "width"], normalise=False
    )
    assert_array_equal(values_of(splits), table[:, [0, 2]].astype(np.float32))
    with pytest.raises(DataError, match=r"Line 2 of .* has 'red, or so' in column 'colour', where"):
        load_csv_points(tmp_path / "own.csv", "price")


def test_every_row_is_tested_in_one_of_ten_folds(tmp_path, table):
    """Oracle: the order that nothing changes, dealt by hand. A tenth of the others validates."""
    path, tested = written(tmp_path / "own.csv", table), []
    for fold in range(10):
        splits, _, _ = load_csv_points(path, fold=fold, normalise=False)
        found = splits["test"].x.inputs[:, 0].astype(int).tolist()
        assert sorted(found) == sorted(fixed_order(40)[fold::10].tolist())
        assert [len(split) for split in splits.values()] == [32, 4, 4]
        tested += found
    assert sorted(tested) == list(range(40))
    for fold in (-1, 10):
        with pytest.raises(UserError, match=f"Fold {fold} was asked for; .* give 0 to 9"):
            load_csv_points(path, fold=fold)


def test_normalising_is_by_the_training_rows_and_can_be_undone(tmp_path, table):
    """Identity: training columns have mean 0 and variance 1; undoing gives the file's targets."""
    path = written(tmp_path / "own.csv", table)
    splits, scale, _ = load_csv_points(path)
    plain, _, _ = load_csv_points(path, normalise=False)
    train = splits["train"].x
    assert_allclose([train.target.mean(), train.target.std()], [0, 1], atol=1e-6)
    assert_allclose(train.inputs.mean(0), 0, atol=1e-6)
    for name, split in splits.items():
        assert_allclose(scale.undo(split.x.target), plain[name].x.target, rtol=1e-5)


def test_test_points_that_are_trained_on_too_are_counted(tmp_path, table):
    """Planted: every row twice."""
    _, _, notes = load_csv_points(written(tmp_path / "own.csv", np.tile(table, (2, 1))))
    assert not notes[1].startswith("0 of 8")
    _, _, notes = load_csv_points(written(tmp_path / "own.csv", table))
    assert notes[1] == "0 of 4 test points stand in the training split too."


@pytest.mark.parametrize(
    ("line", "text", "sentence"),
    [
        (3, "1,2", "Line 3 of .* has 2 cells, but the first has 3"),
        (3, "1,,3", "Line 3 of .* has '' in column 'width', where a finite number was meant"),
        (3, "1,2,NA", "Line 3 of .* has 'NA' in column 'price'"),
        (3, "1,inf,3", "has 'inf' in column 'width'"),
        (3, "1,2,1e300", r"Line 3 of .* has 1e\+300 in column 'price', which no 32-bit number"),
        (3, '1,"2,3', "Line 3 of .* cannot be cut into cells"),
        (3, "1,\0,3", "Line 3 of .* holds a zero byte"),
        (1, "a,b,a", "Line 1 of .* has the name 'a' twice"),
        (1, "a,,c", "Line 1 of .* has the name '' for one"),
        (1, "1,2,red", "Line 1 of .* has the number '1' and 'red', which is none"),
        (1, "a,b", "Line 2 of .* has 3 cells, but the first has 2"),
    ],
)
def test_a_line_that_cannot_be_is_named(tmp_path, table, line, text, sentence):
    path = written(tmp_path / "own.csv", table)
    lines = path.read_text().splitlines()
    lines[line - 1] = text
    path.write_text("\n".join(lines))
    with pytest.raises(DataError, match=sentence):
        load_csv_points(path)


def test_what_is_no_table_of_points_is_refused_in_a_sentence(tmp_path, table):
    path = written(tmp_path / "own.csv", table)
    with pytest.raises(UserError, match=r"has no column 'prices'. Did you mean 'price'"):
        load_csv_points(path, "prices")
    with pytest.raises(UserError, match=r"has no column '4'. It has '1', '2', '3'"):
        load_csv_points(written(tmp_path / "bare.csv", table, names=()), "4")
    with pytest.raises(UserError, match="has no column 'colour'"):
        load_csv_points(path, leave_out=["colour"])
    with pytest.raises(UserError, match="needs at least one input beside the target"):
        load_csv_points(path, "price", leave_out=["height", "width"])
    with pytest.raises(UserError, match="has no column 'price'"):  # it was left out
        load_csv_points(path, "price", leave_out=["price"])
    with pytest.raises(DataError, match=r"In fold 0 of .*, 1 rows are for testing"):
        load_csv_points(written(tmp_path / "few.csv", table[:2]))
    constant = table * np.array([1, 0, 1])
    with pytest.raises(DataError, match=r"Column 'width' of .* is constant in the 32 training"):
        load_csv_points(written(tmp_path / "constant.csv", constant))
    for text, sentence in (("", "has no numbers"), ("a,b\n", "has no numbers")):
        path.write_text(text)
        with pytest.raises(DataError, match=sentence):
            load_csv_points(path)
    with pytest.raises(DataError, match="there is no such file"):
        load_csv_points(tmp_path / "absent.csv")
    with pytest.raises(DataError, match="it is a folder"):
        load_csv_points(tmp_path)

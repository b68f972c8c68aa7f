"""Folders of one's own: splits by the names of files or folders, else shuffled; half a split is refused."""

import pytest

from tightbound.data.catalogue import DataError
from tightbound.data.formats.own_files import own_rows


def lines(path):
    return path.read_text().split()


def written(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    "names",
    [
        ("en_x-ud-train.txt", "en_x-ud-dev.txt", "en_x-ud-test.txt"),
        ("train/a.txt", "validation/a.txt", "test/a.txt"),
        ("TRAIN.TXT", "val.txt", "Test.txt"),
        ("train.txt", "valid.txt.gz", "testing.txt.xz"),
        ("test/train.txt", "test/valid.txt", "test/test.txt"),  # a folder that is called test
    ],
)
def test_files_that_say_their_split_are_split_so(tmp_path, names):
    """Oracle: which file a row was written to. A name says more than the folder above it."""
    files = dict(zip(names, ("a b", "c", "d"), strict=True)) | {"notes.md": "e"}
    rows, note = own_rows(written(tmp_path, files), (".txt",), lines)
    assert rows == {"train": ["a", "b"], "valid": ["c"], "test": ["d"]}
    assert note == "Split by the names of the files."


@pytest.mark.parametrize("many", [False, True])
def test_rows_that_nobody_has_split_are_shuffled_whatever_their_files(tmp_path, many):
    """Oracle: every row in one split, 8, 1 and 1; a file's own name may be any."""
    words = list("abcdefghij")
    files = {f"{word}/contest.txt": word for word in words} if many else {"train": " ".join(words)}
    folder = written(tmp_path, files)
    rows, note = own_rows(folder if many else folder / "train", (".txt",), lines)
    assert sorted(row for part in rows.values() for row in part) == words
    assert [len(part) for part in rows.values()] == [8, 1, 1]
    assert note.startswith("Shuffled")


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"train.txt": "a", "test.txt": "b"}, "but no file of the split valid. Name every file"),
        (
            {"train.txt": "a", "dev.txt": "b", "test.txt": "c", "more.txt": "d"},
            "but more.txt among them, whose name says no split",
        ),
        ({"train.txt": "a", "dev.txt": "b", "test.txt": " "}, "have nothing for the split test"),
        ({"a.md": "a"}, "has no file that ends in .txt, nor have folders in it"),
        ({"a.txt": "a b"}, "has 2 sequences: too few"),
    ],
)
def test_what_makes_no_three_splits_is_refused(tmp_path, files, sentence):
    with pytest.raises(DataError, match=sentence.replace(".", r"\.")):
        own_rows(written(tmp_path, files), (".txt",), lines)

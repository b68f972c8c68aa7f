"""Lookup, checksums and fetching, against files the tests write and a server on the loopback."""

import dataclasses
import functools
import gzip
import hashlib
import http.server
import lzma
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from tightbound.data import catalogue
from tightbound.data.catalogue import DataError, DataFile, DataSet

CONTENT = b"a few bytes of content, long enough to be packed" * 50

needs_data = pytest.mark.skipif(
    "TIGHTBOUND_DATA" not in os.environ, reason="TIGHTBOUND_DATA names no folder of real data"
)


@pytest.fixture
def roots(tmp_path, monkeypatch):
    """A data folder and a cache of the test's own."""
    monkeypatch.setenv("TIGHTBOUND_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("TIGHTBOUND_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "data", tmp_path / "cache"


@pytest.fixture
def toy(roots, tmp_path, monkeypatch):
    """A catalogue entry whose only file has a file:// origin."""
    origin = tmp_path / "origin.gz"
    origin.write_bytes(gzip.compress(CONTENT, compresslevel=1))
    file = DataFile(
        "toy/content.gz", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), (origin.as_uri(),)
    )
    return _enter(monkeypatch, file)


def _enter(monkeypatch, *files):
    entry = DataSet("toy", "a toy", "none", "this test", files)
    monkeypatch.setitem(catalogue.CATALOGUE, "toy", entry)
    return entry


def _put(root, content=CONTENT, compresslevel=9):
    path = root / "toy" / "content.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress(content, compresslevel=compresslevel))
    return path


@needs_data
@pytest.mark.parametrize(
    "name",
    [
        *("mnist", "mnist-static", "ewt", "multi30k"),
        *("multi30k-raw", "cath-s35", "cath-s20", "wikitext2", "tiny-shakespeare"),
        *("omniglot", "unipen", "jsb", "muse", "nutria", "exchange-rates"),
    ],
)
def test_the_real_files_have_the_catalogued_checksums(name):
    """Oracle: sha256 of content, of files that the data page compared with their origins."""
    assert [status.status for status in catalogue.verify(name)] == ["ok"] * len(
        catalogue.CATALOGUE[name].files
    )


def test_the_catalogue_is_read_without_numpy_and_without_jax():
    """Oracle: the modules a fresh interpreter has loaded."""
    code = (
        "import sys, tightbound.data.catalogue as c; c.list_data(); "
        "print(sorted({'numpy', 'jax'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_the_data_folder_comes_before_the_cache(toy, roots):
    data, cache = roots
    in_cache = _put(cache)
    assert catalogue.find("toy") == (in_cache,)
    in_data = _put(data)
    assert catalogue.find("toy") == (in_data,)


def test_the_only_file_of_a_set_may_be_given_itself_or_by_its_folder(toy, roots, tmp_path):
    in_data, own = _put(roots[0]), tmp_path / "own.gz"
    own.write_bytes(b"anything: the reader checks it")
    assert catalogue.find_one("toy") == in_data
    assert catalogue.find_one("toy", own) == own
    assert catalogue.find_one("toy", in_data.parent) == in_data
    with pytest.raises(DataError, match="There is no"):
        catalogue.find_one("toy", tmp_path / "nowhere")


@pytest.mark.parametrize("compresslevel", [0, 1, 9])
def test_the_checksum_is_of_the_content_not_of_its_packing(toy, roots, compresslevel):
    path = _put(roots[0], compresslevel=compresslevel)
    assert catalogue.find("toy") == (path,)


@pytest.mark.parametrize("preset", [0, 9])
def test_the_checksum_of_an_xz_is_of_its_content_too(roots, monkeypatch, preset):
    path = roots[0] / "toy" / "content.xz"
    path.parent.mkdir(parents=True)
    path.write_bytes(lzma.compress(CONTENT, preset=preset))
    digest = hashlib.sha256(CONTENT).hexdigest()
    _enter(monkeypatch, DataFile("toy/content.xz", digest, len(CONTENT)))
    assert catalogue.find("toy") == (path,)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="cannot be unpacked"):
        catalogue.find("toy")
    path.write_bytes(lzma.compress(CONTENT + b"more"))
    with pytest.raises(DataError, match="more than the expected 2,400 bytes"):
        catalogue.find("toy")


@pytest.mark.parametrize(("suffix", "unpack"), [("gz", gzip.decompress), ("xz", lzma.decompress)])
def test_what_an_origin_sends_plain_is_kept_packed(roots, tmp_path, monkeypatch, suffix, unpack):
    """Oracle: the bytes of the origin, unpacked with the library that the file's name asks for."""
    origin = tmp_path / "content"
    origin.write_bytes(CONTENT)
    digest = hashlib.sha256(CONTENT).hexdigest()
    _enter(
        monkeypatch,
        DataFile(f"toy/content.{suffix}", digest, len(CONTENT), (origin.as_uri(),)),
    )
    assert [status.status for status in catalogue.fetch("toy")] == ["ok"]
    (path,) = catalogue.find("toy")
    assert unpack(path.read_bytes()) == CONTENT


def test_a_missing_file_says_where_it_was_looked_for_and_what_to_run(toy, roots):
    data, cache = roots
    with pytest.raises(DataError) as raised:
        catalogue.find("toy")
    sentence = str(raised.value)
    assert f"none in {data / 'toy'} or {cache / 'toy'}. Run `tightbound data fetch toy`" in sentence
    assert "or set TIGHTBOUND_DATA to a folder that holds toy/content.gz." in sentence


def test_a_file_of_ones_own_in_the_place_of_a_published_one_says_how_to_train_on_it(toy, roots):
    """Oracle: the sentence, with both checksums. Planted: one changed byte inside a whole gzip file,
    and a file with more bytes. Such a file is not called damaged, and nobody is told to delete it."""
    wrong = b"A" + CONTENT[1:]
    path = _put(roots[0], wrong)
    with pytest.raises(DataError) as raised:
        catalogue.find("toy")
    assert str(raised.value) == (
        f"{path} is another file than the published content.gz of toy: expected sha256 "
        f"{toy.files[0].sha256}, found {hashlib.sha256(wrong).hexdigest()} in {len(wrong):,} bytes. "
        f"To train on a file of your own, give its path: `--data.path {path}`. To have the published "
        "one, move this one elsewhere and run `tightbound data fetch toy`."
    )
    path.write_bytes(gzip.compress(CONTENT + b"more"))
    with pytest.raises(
        DataError, match=r"is another file than .* more than the expected 2,400 bytes"
    ):
        catalogue.find("toy")
    assert catalogue.verify("toy")[0].status == "other"


def test_of_several_files_the_advice_names_their_folder(toy, roots, monkeypatch):
    file = dataclasses.replace(toy.files[0], path="toy/second.gz")
    _enter(monkeypatch, toy.files[0], file)
    path = _put(roots[0], b"another")
    with pytest.raises(DataError, match=f"`--data.path {path.parent}`"):
        catalogue.find("toy")


def test_a_file_is_known_by_its_content_wherever_it_lies(toy, roots, tmp_path):
    """Oracle: the bytes. Planted: one that differs."""
    same, other = tmp_path / "mine.txt", tmp_path / "other.txt"
    same.write_bytes(CONTENT)
    other.write_bytes(CONTENT[:-1])
    assert catalogue.is_published("toy", same)
    assert not catalogue.is_published("toy", other)


def test_a_missing_file_without_an_address_says_what_to_make_it_from(toy, roots, monkeypatch):
    """Planted: advice to fetch what cannot be fetched."""
    _enter(monkeypatch, dataclasses.replace(toy.files[0], urls=()))
    with pytest.raises(DataError, match=r"Make it from its origin \(this test\), or set") as raised:
        catalogue.find("toy")
    assert "data fetch" not in str(raised.value)


@pytest.mark.parametrize(
    "damage", [lambda packed: packed[:-20], lambda packed: b"no gzip at all", lambda packed: b""]
)
def test_a_file_that_cannot_be_unpacked_is_named_damaged(toy, roots, damage):
    path = _put(roots[0])
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match="is damaged: it cannot be unpacked"):
        catalogue.find("toy")
    assert catalogue.verify("toy")[0].status == "damaged"


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(DataError, match=r"no data set `mnits`. Did you mean `mnist`?"):
        catalogue.find("mnits")


def test_fetched_data_is_found_verified_and_listed(toy, roots):
    """Oracle: the bytes of the origin. A second fetch leaves the file alone."""
    assert catalogue.verify("toy")[0].status == "missing"
    assert [status.status for status in catalogue.fetch("toy")] == ["ok"]
    (path,) = catalogue.find("toy")
    assert path == roots[1] / "toy" / "content.gz"
    assert gzip.decompress(path.read_bytes()) == CONTENT
    before = path.stat().st_mtime_ns
    catalogue.fetch("toy")
    assert path.stat().st_mtime_ns == before
    row = next(row for row in catalogue.list_data() if row.name == "toy")
    assert (row.found, row.where) == (True, str(path.parent))


def test_a_damaged_file_in_the_cache_is_fetched_again(toy, roots):
    path = _put(roots[1])
    path.write_bytes(path.read_bytes()[:-20])
    assert catalogue.fetch("toy")[0].status == "ok"


@pytest.mark.parametrize("root", [0, 1])
def test_fetching_never_touches_a_file_of_ones_own(toy, roots, root):
    """Oracle: the bytes afterwards, in the data folder and in the cache."""
    path = _put(roots[root], b"wrong")
    with pytest.raises(DataError, match="move this one elsewhere and run"):
        catalogue.fetch("toy")
    assert gzip.decompress(path.read_bytes()) == b"wrong"


def test_what_an_origin_sends_is_kept_only_if_it_is_the_published_content(toy, roots, tmp_path):
    """Planted: an origin that answers with something else. Nothing stays, not even in part."""
    (tmp_path / "origin.gz").write_bytes(gzip.compress(b"something else"))
    with pytest.raises(DataError, match=r"is not content.gz: expected sha256 .* Nothing was kept"):
        catalogue.fetch("toy")
    assert list((roots[1] / "toy").iterdir()) == []


def test_an_endless_answer_is_cut_off(toy, roots, monkeypatch):
    monkeypatch.setattr(catalogue, "_LARGEST_DOWNLOAD", 20)
    with pytest.raises(DataError, match="sent more than 20 bytes; stopped"):
        catalogue.fetch("toy")
    assert list((roots[1] / "toy").iterdir()) == []


def test_an_origin_that_cannot_be_reached_is_named(toy, roots, tmp_path):
    (tmp_path / "origin.gz").unlink()
    with pytest.raises(DataError, match=r"content.gz could not be fetched from file://.*try again"):
        catalogue.fetch("toy")


def test_a_cache_that_cannot_be_written_is_named(toy, roots):
    roots[1].write_bytes(b"a file in the place of the folder")
    with pytest.raises(DataError, match=r"could not be fetched from .* to .*Nothing was kept"):
        catalogue.fetch("toy")


def test_a_file_without_an_origin_says_where_to_put_it(toy, roots, monkeypatch):
    entry = _enter(monkeypatch, dataclasses.replace(toy.files[0], urls=()))
    with pytest.raises(DataError, match=r"comes from this test. Put it at .*content.gz"):
        catalogue.fetch(entry.name)


def test_data_that_ships_with_a_package_needs_no_file():
    assert catalogue.find("digits") == ()
    assert catalogue.fetch("digits") == []
    assert catalogue.verify("digits") == []


@pytest.fixture
def server(tmp_path):
    """An HTTP server on the loopback that serves the folder `site`."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    (tmp_path / "site").mkdir()
    handler = functools.partial(Quiet, directory=str(tmp_path / "site"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", tmp_path / "site"
        server.shutdown()
        thread.join()


def test_text_files_of_bits_become_one_npz_over_http(server, roots, monkeypatch):
    """Oracle: numpy.packbits of the same bits, and their checksum; the text is the .amat format."""
    url, site = server
    bits = np.random.default_rng(0).integers(0, 2, (3, 5, 16), dtype=np.uint8)
    for name, rows in zip(("train", "valid", "test"), bits, strict=True):
        np.savetxt(site / f"{name}.amat", rows, fmt="%d")
    packed = np.packbits(bits, axis=2)
    file = DataFile(
        "toy/bits.npz",
        hashlib.sha256(packed.tobytes()).hexdigest(),
        packed.nbytes,
        tuple(f"{url}/{name}.amat" for name in ("train", "valid", "test")),
    )
    _enter(monkeypatch, file)
    assert catalogue.fetch("toy")[0].status == "ok"
    (path,) = catalogue.find("toy")
    with np.load(path) as arrays:
        for name, rows in zip(("train", "valid", "test"), packed, strict=True):
            np.testing.assert_array_equal(arrays[name], rows)
    assert [file.name for file in path.parent.iterdir()] == ["bits.npz"]


def test_the_checksum_of_an_npz_does_not_depend_on_the_order_in_memory(roots, monkeypatch):
    """Oracle: the same values stored by columns."""
    values = np.arange(12, dtype=np.uint8).reshape(3, 4)
    digest = hashlib.sha256(values.tobytes()).hexdigest()
    _enter(monkeypatch, DataFile("toy/values.npz", digest, 12))
    path = roots[0] / "toy" / "values.npz"
    path.parent.mkdir(parents=True)
    for stored in (values, np.asfortranarray(values)):
        np.savez_compressed(path, train=stored)
        assert catalogue.verify("toy")[0].status == "ok"


def test_an_address_that_does_not_exist_is_named(server, toy, roots, monkeypatch):
    url = f"{server[0]}/nothing.gz"
    _enter(monkeypatch, dataclasses.replace(toy.files[0], urls=(url,)))
    with pytest.raises(DataError, match=r"could not be fetched from http://127.* 404"):
        catalogue.fetch("toy")


@pytest.mark.parametrize(
    "text", [b"", b"0 1 0\n", b"0 1 0 1 0 1 0 2\n", b"0" * 8 + b"\n" + b"0" * 16]
)
def test_text_that_is_no_matrix_of_bits_is_refused(text):
    with pytest.raises(DataError, match=r"Is this the \.amat file"):
        catalogue.pack_rows(text.splitlines(), "x.amat")

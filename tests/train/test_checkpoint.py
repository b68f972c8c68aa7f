"""A checkpoint is whole or absent, and what comes back is what was saved, to the bit."""

import os
import re
import resource
import subprocess
import sys
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tightbound.errors import UserError
from tightbound.train.checkpoint import (
    checkpoints,
    find_checkpoint,
    load_state,
    save_checkpoint,
)
from tightbound.train.loop import TrainState, init_state


@pytest.fixture
def state(make_setup) -> TrainState:
    """A state with every kind of array: scalars, integers, 64 and 32 bits, optimiser moments."""
    setup = make_setup()
    state = init_state(setup.model, setup.proposal, setup.optimiser)
    awkward = jnp.array([-0.0, jnp.pi, 5e-324, -jnp.inf, jnp.nan])
    return replace(
        state,
        opt_state=(state.opt_state, awkward, awkward.astype(jnp.float32)),
        step=jnp.asarray(7, jnp.int32),
    )


def write(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_state_comes_back_to_the_bit_with_its_progress(state, tmp_path):
    """Round trip, compared as bytes: signs of zeros, NaN, and the shapes of scalars included."""
    saved = save_checkpoint(tmp_path, state, step=7, progress={"best": -1.5, "best_step": 3})
    [found], problems = checkpoints(tmp_path)
    assert (found, problems) == (saved, [])
    assert (found.step, found.progress) == (7, {"best": -1.5, "best_step": 3})
    loaded = load_state(found, state)
    assert jax.tree.structure(loaded) == jax.tree.structure(state)
    for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(loaded), strict=True):
        assert (old.dtype, old.shape) == (new.dtype, new.shape)
        assert np.asarray(old).tobytes() == np.asarray(new).tobytes()


def truncate(path):
    data = (path / "state.safetensors").read_bytes()
    (path / "state.safetensors").write_bytes(data[: len(data) // 2])


def flip_a_byte(path):
    data = bytearray((path / "state.safetensors").read_bytes())
    data[-3] ^= 1
    (path / "state.safetensors").write_bytes(bytes(data))


DAMAGES = {
    "truncated": (truncate, r"state\.safetensors is damaged: its sha256 is"),
    "flipped": (flip_a_byte, r"state\.safetensors is damaged: its sha256 is"),
    "no state": (
        lambda path: (path / "state.safetensors").unlink(),
        r"is not a whole checkpoint \(.*No such file",
    ),
    "no manifest": (
        lambda path: (path / "manifest.json").unlink(),
        r"is not a whole checkpoint \(.*No such file",
    ),
    "half a manifest": (
        lambda path: (path / "manifest.json").write_text('{"format": "tight'),
        r"is not a whole checkpoint \(Unterminated string",
    ),
    "a manifest of something else": (
        lambda path: (path / "manifest.json").write_text("[1, 2]"),
        r"is not a whole checkpoint \(list indices",
    ),
    "another format": (
        lambda path: write(path / "manifest.json", "checkpoint/1", "checkpoint/9"),
        r"has the format 'tightbound.checkpoint/9', not 'tightbound.checkpoint/1'\.",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_checkpoint_is_named_in_a_sentence_and_the_one_before_it_is_used(
    state, tmp_path, name
):
    """Every damage is seen, told once with its path, and leaves the others valid."""
    damage, sentence = DAMAGES[name]
    for step in (3, 7, 12):
        save_checkpoint(tmp_path, state, step=step, progress={})
    damage(tmp_path / "step-00000012")
    valid, [problem] = checkpoints(tmp_path)
    assert [checkpoint.step for checkpoint in valid] == [3, 7]
    assert "step-00000012" in problem
    assert re.search(sentence, problem)
    with pytest.raises(UserError, match=r"no valid checkpoint of step 12\. It has: 3, 7\."):
        find_checkpoint(tmp_path, 12)
    assert find_checkpoint(tmp_path, 7) == valid[-1]


def test_a_folder_without_checkpoints_has_none(tmp_path):
    """Neither an error nor a problem; asking for one says that there are none."""
    assert checkpoints(tmp_path / "nowhere") == ([], [])
    with pytest.raises(UserError, match=r"step 3\. It has: none\."):
        find_checkpoint(tmp_path, 3)


def test_what_a_kill_left_half_written_is_not_seen_and_the_next_save_sweeps_it_up(state, tmp_path):
    """A partial folder of another step is what a SIGKILL inside a save leaves behind."""
    save_checkpoint(tmp_path, state, step=3, progress={})
    partial = tmp_path / ".partial-00000005"
    partial.mkdir()
    (partial / "state.safetensors").write_bytes(b"half of")
    valid, problems = checkpoints(tmp_path)
    assert ([c.step for c in valid], problems) == ([3], [])
    save_checkpoint(tmp_path, state, step=7, progress={})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000003", "step-00000007"]


def test_a_damaged_checkpoint_is_replaced_by_the_next_save_of_its_step(state, tmp_path):
    """A resumed run comes by the damaged step again and must not stumble over it."""
    truncate(save_checkpoint(tmp_path, state, step=3, progress={}).path)
    save_checkpoint(tmp_path, state, step=3, progress={})
    assert [c.step for c in checkpoints(tmp_path)[0]] == [3]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda state: eqx.tree_at(lambda s: s.model.offset, state, jnp.zeros((2, 1))),
            r"holds float64\[\] for \.model\.offset, but this run has float64\[2, 1\] there",
        ),
        (
            lambda state: eqx.tree_at(lambda s: s.step, state, jnp.zeros(())),
            r"holds int32\[\] for \.step, but this run has float64\[\] there",
        ),
        (
            lambda state: replace(state, opt_state=(*state.opt_state, jnp.zeros(3))),
            r"holds nothing for \.opt_state\[3\], but this run has float64\[3\] there\. Were the",
        ),
    ],
)
def test_a_state_of_other_shapes_is_refused_by_the_name_of_the_array(
    state, tmp_path, change, sentence
):
    """Another size, another type, and something that was not saved."""
    checkpoint = save_checkpoint(tmp_path, state, step=3, progress={})
    with pytest.raises(UserError, match=sentence):
        load_state(checkpoint, change(state))


def test_a_part_of_a_state_can_be_read_alone(state, tmp_path):
    """Another run's parameters, whatever optimiser it had."""
    checkpoint = save_checkpoint(tmp_path, state, step=3, progress={})
    part = load_state(checkpoint, replace(state, opt_state=None))
    assert_array_equal(part.model.offset, state.model.offset)
    assert part.opt_state is None


def test_a_disk_that_fills_up_leaves_earlier_checkpoints_and_nothing_half_written(tmp_path):
    """The kernel fails the write in a process of its own: no file there may grow past 4 kB."""
    result = subprocess.run(
        [sys.executable, __file__, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert result.stdout.strip() == "OSError: File too large", result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    [valid], _ = checkpoints(tmp_path)
    assert_array_equal(load_state(valid, jnp.zeros(10)), np.arange(10.0))


def _fill_the_disk(folder):
    """A save that fits, then one that does not."""
    from pathlib import Path

    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))  # Python ignores SIGXFSZ
    save_checkpoint(Path(folder), np.arange(10.0), step=1, progress={})
    try:
        save_checkpoint(Path(folder), np.arange(10_000.0), step=2, progress={})
    except OSError as error:
        print(f"OSError: {os.strerror(error.errno)}")


if __name__ == "__main__":
    _fill_the_disk(sys.argv[1])

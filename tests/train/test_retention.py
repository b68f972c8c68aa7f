"""What a long run keeps. Oracle: the rule in words, counted by hand, and the law that what was let go of
is never wanted back."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tightbound.train.retention import kept_checkpoints, kept_evidence

STEPS = st.lists(st.integers(0, 60), min_size=1, max_size=40, unique=True).map(sorted)


@settings(max_examples=100, deadline=None)
@given(steps=STEPS, every=st.integers(1, 7), data=st.data())
def test_checkpoints_kept_after_every_save_are_those_kept_after_the_last_alone(steps, every, data):
    """A run that prunes at every save, one that was killed before some prunings and one that prunes once
    keep the same. The best evaluation is the one before, or one since the last save."""
    best, saved, pruned, late = 0, -1, set(), set()
    for step in steps:
        if data.draw(st.booleans()):
            best = data.draw(st.integers(saved + 1, step))
        saved = step
        pruned = kept_checkpoints({*pruned, step}, every=every, best_step=best)
        late = {*late, step}
        if data.draw(st.booleans()):
            late = kept_checkpoints(late, every=every, best_step=best)
    assert kept_checkpoints(late, every=every, best_step=best) == pruned


@settings(max_examples=100, deadline=None)
@given(
    steps=st.lists(st.integers(0, 900), min_size=1, max_size=60, unique=True).map(sorted),
    data=st.data(),
)
def test_evidence_kept_after_every_probe_is_that_kept_after_the_last_alone(steps, data):
    pruned, late = set(), set()
    for step in (100 * step for step in steps):
        pruned = kept_evidence({*pruned, step})
        late = {*late, step}
        if data.draw(st.booleans()):
            late = kept_evidence(late)
    assert kept_evidence(late) == pruned


def test_what_is_kept_is_what_the_rule_says():
    """By hand: the first (0), powers of two of 500, the newest three, the best or the newest before it."""
    steps = range(0, 10_001, 500)
    powers = {500, 1000, 2000, 4000, 8000}
    newest = {9000, 9500, 10_000}
    assert kept_checkpoints(steps, every=500, best_step=6500) == {0, 6500, *powers, *newest}
    assert kept_checkpoints(steps, every=500, best_step=6799) == {0, 6500, *powers, *newest}
    assert kept_checkpoints([7, 8, 9, 10, 11], every=500, best_step=0) == {7, 9, 10, 11}
    first = {0, 1, 2, 4, 8, 16, 32, 64}
    probes = [*first, *range(100, 30_001, 100)]
    assert kept_evidence(probes[:120]) == set(probes[:120])
    assert kept_evidence(probes) == {*first, *range(400, 30_001, 400), *range(29_100, 30_001, 100)}


def test_a_run_of_200_000_steps_keeps_few_files():
    """`vae/digits` as it is: a checkpoint has 241 kB, an evidence file 14, a record 541 bytes. Oracle: the sum,
    against 50 MB; without the rule it would be 136 MB."""
    saved = range(0, 200_001, 500)
    probes = {0, 1, 2, 4, 8, 16, 32, 64, *range(100, 200_001, 100)}
    checkpoints = kept_checkpoints(saved, every=500, best_step=123_456)
    evidence = kept_evidence(probes)
    assert (len(checkpoints), len(evidence)) == (14, 142)
    records = 541 * 20_001
    assert 241_000 * len(checkpoints) + 14_000 * len(evidence) + records < 50e6
    assert 241_000 * len(saved) + 14_000 * len(probes) + records > 130e6

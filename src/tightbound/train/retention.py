"""Which checkpoints and which evidence a long run keeps: rules that look at steps alone.

What a rule has let go of it never wants back: whatever is added later, the kept set is the same as if
nothing had been deleted before. So a run that was killed keeps what one that was not keeps.
"""

from collections.abc import Collection

NEWEST = 3  # checkpoints
MOST_PROBES = 128  # evidence files, at equal distances
PROBE_EVERY = 100  # steps between probes, after the first hundred
NEWEST_PROBES = 10  # that stay whatever their distances


def kept_checkpoints(steps: Collection[int], *, every: int, best_step: int) -> set[int]:
    """Of the checkpoints at these steps: the first, the newest three, those `every` times a power of two,
    and the newest that is no later than the best evaluation.

    `every` is the run's `checkpoint_every`. After n saves some log2(n) + 5 are left.
    """
    ordered = sorted(steps)
    up_to_best = [step for step in ordered if step <= best_step]
    powers = (step for step in ordered if step % every == 0 and _is_power_of_two(step // every))
    return {*ordered[:1], *ordered[-NEWEST:], *powers, *up_to_best[-1:]}


def kept_evidence(steps: Collection[int]) -> set[int]:
    """Of the evidence at these steps: all of the first hundred steps, the newest ten, and of the others
    those at equal distances, which double as often as more than 128 would be left."""
    ordered = sorted(steps)
    distance = PROBE_EVERY
    while ordered and ordered[-1] // distance > MOST_PROBES:
        distance *= 2
    early_or_spaced = (step for step in ordered if step < PROBE_EVERY or step % distance == 0)
    return {*early_or_spaced, *ordered[-NEWEST_PROBES:]}


def _is_power_of_two(number: int) -> bool:
    return number > 0 and number & (number - 1) == 0

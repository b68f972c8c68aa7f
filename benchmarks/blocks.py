"""Timing two programs against each other on a machine that others use too.

Both run in one process, in turn, block by block: what slows the machine slows both, and cancels
in the ratio of a block. The median over blocks has a bootstrap interval.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Ratio:
    """The peer's time over ours: above 1, ours is faster."""

    median: float
    low: float  # 95 % interval of the median
    high: float
    ours: float  # median seconds of one call
    peer: float
    blocks: int


def interleaved(
    programs: Mapping[str, Callable[[], object]],
    *,
    blocks: int = 15,
    calls: int = 1,
) -> Ratio:
    """Time "ours" and "peer", `calls` calls of each per block, in an order that alternates.

    A program returns only when its work is done (`jax.block_until_ready`), and has been called
    before: compilation is no part of this.
    """
    seconds = {"ours": np.zeros(blocks), "peer": np.zeros(blocks)}
    for block in range(blocks):
        for name in ("ours", "peer") if block % 2 == 0 else ("peer", "ours"):
            start = time.perf_counter()
            for _ in range(calls):
                programs[name]()
            seconds[name][block] = (time.perf_counter() - start) / calls
    ratios = seconds["peer"] / seconds["ours"]
    low, high = bootstrap_interval(ratios)
    return Ratio(
        median=float(np.median(ratios)),
        low=low,
        high=high,
        ours=float(np.median(seconds["ours"])),
        peer=float(np.median(seconds["peer"])),
        blocks=blocks,
    )


def bootstrap_interval(values: np.ndarray, *, resamples: int = 10_000) -> tuple[float, float]:
    """The 95 % percentile interval of the median."""
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(values, (resamples, len(values))), axis=1)
    low, high = np.quantile(medians, [0.025, 0.975])
    return float(low), float(high)


def first_call(program: Callable[[], object]) -> float:
    """Seconds of the first call: compilation and one run."""
    start = time.perf_counter()
    program()
    return time.perf_counter() - start


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """Rows with the same columns, aligned for a terminal."""
    columns = list(rows[0])
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in columns}
    lines = [{name: name for name in columns}, {name: "-" * widths[name] for name in columns}]
    return "\n".join(
        "  ".join(row[name].ljust(widths[name]) for name in columns).rstrip()
        for row in [*lines, *rows]
    )


def row(case: str, ratio: Ratio, target: float, compile_seconds: float) -> dict[str, str]:
    """One line of the table every benchmark prints."""
    return {
        "case": case,
        "ours": f"{1e3 * ratio.ours:.2f} ms",
        "peer": f"{1e3 * ratio.peer:.2f} ms",
        "ratio": f"{ratio.median:.2f}",
        "95 % interval": f"{ratio.low:.2f} to {ratio.high:.2f}",
        "target": f"{target:g}",
        "blocks": str(ratio.blocks),
        "compilation": f"{compile_seconds:.1f} s",
    }

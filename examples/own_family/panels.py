"""What the report of a run on counts shows besides."""

import numpy as np

from tightbound.report.contents import RunContents
from tightbound.report.draw.charts import Curve, line_chart
from tightbound.report.sections import Sections, charts_section


def sections(contents: RunContents) -> Sections:
    """Mean counts of the model beside held-out ones; nothing where none were drawn."""
    counts = contents.newest("counts-step")
    if counts is None:
        return Sections()
    places = np.arange(len(counts["drawn"]), dtype=float)
    curves = [
        Curve(name, places, np.array(counts[entry]), labels(counts[entry]), colour=colour)
        for name, entry, colour in (("model", "drawn", 1), ("held-out", "held_out", 2))
    ]
    chart = line_chart("Mean counts", curves, y_label="mean count", x_label="number of the count")
    return Sections(charts_section("Counts", [chart], ""))


def labels(values: list[float]) -> tuple[str, ...]:
    """What a pointer is told."""
    return tuple(f"{value:.3g}" for value in values)

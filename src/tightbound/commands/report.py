"""`tightbound report RUN`: one HTML file that works offline."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from tightbound.commands.options import RunFolderName, parse, print_json
from tightbound.commands.working import working
from tightbound.errors import UserError
from tightbound.report.terminal import say
from tightbound.runs.opened import open_run

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReportOptions:
    """Write `report.html` into the run's folder, with fresh samples, and the bound as `bound.png`."""

    run: RunFolderName
    samples: bool = True
    """Draw samples first where there are none of the newest checkpoint."""
    json: bool = False
    """One JSON document on stdout."""


def main(arguments: Sequence[str]) -> int:
    options = parse(ReportOptions, "report", arguments)
    from tightbound.report.draw.plots import plot_bound
    from tightbound.report.html import write_report

    opened = open_run(options.run)
    newest = f"step-{opened.steps()[-1]:08d}"
    with working("report: reading the run"):
        if options.samples and not list(opened.folder.samples.glob(f"*{newest}.*")):
            try:
                opened.samples()
            except UserError as error:
                say(f"No pictures of samples: {error}")
        _log.info("drawing the page")
        plot_bound(
            opened.folder.read_steps(),
            opened.baselines(),
            opened.folder.path / "bound.png",
            pooled=opened.stated().get("pooled", False),
        )
        page = write_report(opened.folder, opened.family)
    if options.json:
        print_json({"report": str(page)})
    else:
        print(page)
    return 0

"""`tightbound report RUN`: one HTML file that works offline."""

from collections.abc import Sequence
from dataclasses import dataclass

import tyro

from tightbound.commands.options import parse
from tightbound.commands.runs_on_disk import open_run


@dataclass(frozen=True)
class ReportOptions:
    """Write `report.html` into the run's folder, with fresh samples."""

    run: tyro.conf.Positional[str]
    samples: bool = True
    """Draw samples first where there are none of the newest checkpoint."""


def main(arguments: Sequence[str]) -> int:
    options = parse(ReportOptions, "report", arguments)
    from tightbound.report.html import write_report

    opened = open_run(options.run)
    newest = f"step-{opened.steps()[-1]:08d}"
    if options.samples and not list(opened.folder.samples.glob(f"*{newest}.png")):
        from contextlib import redirect_stdout
        from sys import stderr

        from tightbound.commands import sample

        with redirect_stdout(stderr):
            sample.main([options.run])
    print(write_report(opened.folder))
    return 0

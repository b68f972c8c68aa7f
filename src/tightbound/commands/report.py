"""`tightbound report RUN`: one HTML file that works offline."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from tightbound.command_line.options import RunFolderName, TrustedRecipes, parse, print_json
from tightbound.command_line.working import working
from tightbound.errors import UserError
from tightbound.report.terminal import say
from tightbound.runs.opened import open_run
from tightbound.values import require_meant

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReportOptions:
    """Write `report.html` into the run's folder, with fresh samples, and the bound as `bound.png`."""

    run: RunFolderName
    samples: bool = True
    """Draw samples first where there are none of the newest checkpoint."""
    trust_recipe: TrustedRecipes = ()
    """A recipe file (or package) of your own that the run may execute: it is run unasked only where you
    have trained with it here, as it is."""
    json: bool = False
    """One JSON document on stdout."""

    def __post_init__(self):
        require_meant(self)


def main(arguments: Sequence[str]) -> int:
    options = parse(ReportOptions, "report", arguments)
    from tightbound.report.contents import read_contents
    from tightbound.report.draw.plots import plot_bound
    from tightbound.report.html import write_report

    opened = open_run(options.run, trust_recipe=options.trust_recipe)
    steps = opened.folder.checkpoint_steps() or opened.steps()  # which says that there are none
    with working("report: reading the run"):
        drawn = opened.folder.samples.glob(f"*step-{steps[-1]:08d}.*")
        if not opened.is_trusted:
            say(f"No samples and panels of its own recipe: {opened.how_to_trust}")
        elif options.samples and not any(drawn):
            try:
                opened.samples()
            except UserError as error:
                say(f"No pictures of samples: {error}")
        _log.info("drawing the page")
        contents = read_contents(opened.folder)
        page = write_report(contents, opened.trusted_family)
        plot_bound(contents.history, opened.baselines(), contents.path / "bound.png")
    if options.json:
        print_json({"report": str(page)})
    else:
        print(page)
    return 0

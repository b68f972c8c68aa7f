"""`tightbound check RECIPE`: laws and exact twins on the untrained model, in seconds."""

from collections.abc import Sequence
from dataclasses import dataclass

from tightbound.commands.options import parse_with_recipe, print_json
from tightbound.commands.working import working
from tightbound.runs.build import build
from tightbound.runs.compilation import use_compilation_cache


@dataclass(frozen=True)
class CheckOptions:
    """What to check."""

    seed: int = 0
    overfit: bool = False
    """Also fit one batch of eight rows and hold the result against its known limit."""
    json: bool = False
    """One JSON document on stdout."""


def main(arguments: Sequence[str]) -> int:
    recipe, _, options = parse_with_recipe(CheckOptions, "check", arguments)
    use_compilation_cache()
    from rich.console import Console

    from tightbound.diagnose.doctor import ranked
    from tightbound.diagnose.watch import check
    from tightbound.report.terminal import print_findings

    with working("check: reading the data"):
        setup = build(recipe, options.seed)
        findings = check(setup)
        if options.overfit:
            from tightbound.diagnose.overfit import one_batch_is_fitted, overfit

            findings = ranked([*findings, one_batch_is_fitted(overfit(setup))])
    if options.json:
        print_json({"findings": [finding.to_json() for finding in findings]})
    else:
        print_findings(findings, Console())
    return 1 if findings.faults else 0

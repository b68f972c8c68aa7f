"""`tightbound train RECIPE`: train in a run folder, with the doctor riding along."""

from collections.abc import Sequence

from tightbound.commands.options import parse_with_recipe, print_json
from tightbound.report.terminal import say
from tightbound.runs.compilation import use_compilation_cache
from tightbound.runs.training import TrainOptions, default_folder, train


def main(arguments: Sequence[str]) -> int:
    recipe, name, options = parse_with_recipe(TrainOptions, "train", arguments)
    use_compilation_cache()
    from rich.console import Console

    from tightbound.report.terminal import print_findings
    from tightbound.train.folder import RunFolder

    folder = RunFolder(options.run_dir or default_folder(name, recipe, options))
    with folder.locked():
        findings, status = train(recipe, name, folder, options)
    if findings:
        print_findings(findings, Console(stderr=True))
    else:
        say("There is no evidence to judge: nothing was checked (--no-doctor).")
    if options.json:
        print_json(
            {
                "run": str(folder.path),
                "status": status,
                "findings": [finding.to_json() for finding in findings],
            }
        )
    else:
        print(folder.path)
    return 1 if findings.faults or status == "not finite" else 0

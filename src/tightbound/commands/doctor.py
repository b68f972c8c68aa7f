"""`tightbound doctor RUN or FILE`: what is wrong, ranked causes, what to change."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from tightbound.command_line.options import TrustedRecipes, parse, print_json
from tightbound.errors import UserError
from tightbound.values import Name, require_meant

if TYPE_CHECKING:
    from tightbound.diagnose.examined import Examined
    from tightbound.diagnose.findings import Findings
    from tightbound.estimators.estimate import Estimate


@dataclass(frozen=True)
class DoctorOptions:
    """Judge a run from the evidence in its folder, or log-weights that any framework saved."""

    what: Annotated[tyro.conf.Positional[Name], tyro.conf.arg(metavar="RUN|FILE.npz")]
    """A run folder; or an .npz with an array `log_weights` of shape (samples, sequences), and beside it, if
    there are any, `log_p_x`, `log_p_z`, `log_q`, `num_units` and `levels`; or one that `LogTerms.save` or
    `StepTerms.save` has written."""
    laws: bool = False
    """Ask the laws again, of the run's newest checkpoint: builds the run anew, which takes a minute or
    two. Its evidence is judged with the rest and not kept."""
    trust_recipe: TrustedRecipes = ()
    """A recipe file (or package) of your own that the run may execute: it is run unasked only where you
    have trained with it here, as it is."""
    json: bool = False
    """One JSON document on stdout."""

    def __post_init__(self):
        require_meant(self)


def main(arguments: Sequence[str]) -> int:
    options = parse(DoctorOptions, "doctor", arguments)
    from rich.console import Console

    from tightbound.report.terminal import print_findings

    path = Path(options.what)
    if options.laws and not path.is_dir():
        raise UserError(
            f"--laws asks a run's model, but {path} is no run folder. Give the folder of a run, or leave "
            "--laws out: log-weights are judged without a model."
        )
    document = {}
    if path.is_dir():
        findings = judge_folder(path, laws=options.laws, trust=options.trust_recipe)
    else:
        examined, notes = examine_file(path)
        findings = examined.findings
        estimates = [estimate.to_json() for estimate in examined.estimates]
        document = {"estimates": estimates, "notes": notes}
        if not options.json:
            print_estimates(examined.estimates, notes)
    if options.json:
        print_json({**document, "findings": [finding.to_json() for finding in findings]})
    else:
        print_findings(findings, Console())
    return 1 if findings.faults else 0


def print_estimates(estimates: "Sequence[Estimate]", notes: Sequence[str]) -> None:
    """A line for each number, with its unit and what it claims, and one for each note."""
    from tightbound.report.terminal import tell

    for estimate in estimates:
        tell(f"{estimate.estimator}: {estimate}")
    tell("".join(f"\n{note}\n" for note in notes))


def judge_folder(path: Path, *, laws: bool, trust: Sequence[str]) -> "Findings":
    """The findings of a run: judged anew from its evidence files, which needs no JAX; with `laws`, from
    those of its newest checkpoint too."""
    from tightbound.report.terminal import say
    from tightbound.runs.opened import open_run

    if laws:
        from tightbound.runs.compilation import use_compilation_cache

        use_compilation_cache()
    run = open_run(path, trust_recipe=trust)
    if not (laws or run.is_trusted):
        say(f"The checks of its own recipe were left out. {run.how_to_trust}")
    return run.judge(laws=laws)


def examine_file(path: Path) -> "tuple[Examined, list[str]]":
    """The numbers and findings that saved arrays alone can show, and a sentence on each that was not read.
    Of a filter the arrays of `StepTerms`, of draws the log-weights with what stands beside them."""
    from tightbound.diagnose.evidence import npz_names, read_npz
    from tightbound.diagnose.examined import of_steps, of_weights
    from tightbound.diagnose.saved import (
        STEP_NAMES,
        WEIGHT_NAMES,
        steps_from,
        unread,
        weights_from,
        weights_of_terms,
    )
    from tightbound.files.records import format_of

    _refuse_other_formats(path)
    names = npz_names(path)
    known = {"format", "site_names", "site_kinds", *STEP_NAMES, *WEIGHT_NAMES}
    arrays = read_npz(path, [n for n in names if n in known or n.startswith("site.")])
    place, notes = f" in {path}", unread(dict.fromkeys(names))
    if names and not arrays:
        raise UserError(
            f"{path} has no array `log_weights`; it has {', '.join(names[:10])}. Save log p(x, z) - log "
            "q(z | x) with shape (samples, sequences) under that name."
        )
    if "log_increments" in arrays and "log_weights" in arrays:
        raise UserError(
            f"{path} has both `log_weights`, of independent draws, and `log_increments`, of a filter. Save "
            "each in a file of its own."
        )
    try:
        if "log_increments" in arrays:
            steps = steps_from({n: a for n, a in arrays.items() if n in STEP_NAMES}, place)
            return of_steps(steps, split=path.name), notes
        if format_of(arrays) == "tightbound.LogTerms/1":
            return of_weights(weights_of_terms(arrays, place), split=path.name), notes
        kept = weights_from({n: a for n, a in arrays.items() if n in WEIGHT_NAMES}, place)
        return of_weights(kept, split=path.name), notes
    except UserError:
        raise
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise UserError(
            f"The arrays{place} do not fit together ({type(error).__name__}: {error}). Save them again, or "
            "give `log_weights` alone."
        ) from error


def _refuse_other_formats(path: Path) -> None:
    """UserError that says what a file is whose ending is that of another format than .npz."""
    formats = {
        ".npy": "a single NumPy array",
        ".pt": "a PyTorch file",
        ".pth": "a PyTorch file",
        ".pkl": "a pickle",
        ".pickle": "a pickle",
        ".safetensors": "a safetensors file",
        ".csv": "a table in text",
        ".json": "a JSON document",
        ".h5": "an HDF5 file",
    }
    kind = formats.get(path.suffix.lower())
    if kind is not None and path.exists():
        raise UserError(
            f"{path} is {kind} by its name, and a NumPy .npz was meant. Save the log-weights where they were "
            "made: np.savez('weights.npz', log_weights=np.asarray(log_p_xz - log_q_z)), of shape "
            "(samples, sequences)."
        )

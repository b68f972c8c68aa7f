"""`tightbound doctor RUN or FILE`: what is wrong, ranked causes, what to change."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from tightbound.commands.options import parse, print_json
from tightbound.errors import UserError

if TYPE_CHECKING:
    from tightbound.diagnose.findings import Findings


@dataclass(frozen=True)
class DoctorOptions:
    """Judge a run from the evidence in its folder, or log-weights that any framework saved."""

    what: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN|FILE.npz")]
    """A run folder, or an .npz with an array `log_weights` of shape (samples, sequences), or one
    written by `LogTerms.save`."""
    laws: bool = False
    """Ask the laws again, of the run's newest checkpoint: builds the run anew, which takes a minute or
    two. Its evidence is judged with the rest and not kept."""
    json: bool = False
    """One JSON document on stdout."""


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
    findings = judge_folder(path, laws=options.laws) if path.is_dir() else judge_file(path)
    if options.json:
        print_json({"findings": [finding.to_json() for finding in findings]})
    else:
        print_findings(findings, Console())
    return 1 if findings.faults else 0


def judge_folder(path: Path, *, laws: bool) -> "Findings":
    """The findings of a run: judged anew from its evidence files, which needs no JAX; with `laws`, from
    those of its newest checkpoint too."""
    from tightbound.runs.opened import open_run

    if laws:
        from tightbound.runs.compilation import use_compilation_cache

        use_compilation_cache()
    return open_run(path).judge(laws=laws)


def judge_file(path: Path) -> "Findings":
    """The findings that log-weights alone can show."""
    import numpy as np

    from tightbound.diagnose.doctor import judge_weights
    from tightbound.diagnose.evidence import read_npz

    _refuse_other_formats(path)
    arrays = read_npz(path)
    if "log_weights" not in arrays:
        raise UserError(
            f"{path} has no array `log_weights` (it has: {', '.join(arrays) or 'nothing'}). Save "
            "log p(x, z) - log q(z | x) with shape (samples, sequences) under that name."
        )
    log_weights = arrays["log_weights"]
    if log_weights.ndim != 2 or not np.issubdtype(log_weights.dtype, np.floating):
        raise UserError(
            f"`log_weights` in {path} is {log_weights.dtype} of shape {log_weights.shape}, but "
            "numbers of shape (samples, sequences) were meant."
        )
    if log_weights.size == 0:
        raise UserError(f"`log_weights` in {path} is empty: {log_weights.shape}.")
    return judge_weights(np.asarray(log_weights, np.float64))


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

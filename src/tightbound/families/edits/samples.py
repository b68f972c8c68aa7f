"""Samples of a run on text: trajectories of edits, drawn and explained, in words and in pictures."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jaxtyping import Float, Int

from tightbound.errors import UserError
from tightbound.estimators.estimate import Estimate
from tightbound.families.edits.details import vocabulary_of
from tightbound.families.edits.drawings import lay_out, svg_file, write_png
from tightbound.families.edits.explained import (
    draw,
    explain,
    on_grid,
    read_start,
    search,
    site_of,
    total_on_grid,
)
from tightbound.families.edits.in_words import DrawnTrajectory, as_text, in_one_line
from tightbound.families.edits.model import EditModel
from tightbound.families.sampling import Checkpoints, Drawn, at_least_one, temperature_of
from tightbound.terms import LogTerms

if TYPE_CHECKING:
    from tightbound.train.folder import RunFolder
    from tightbound.train.loop import TrainState
    from tightbound.train.run import Progress
    from tightbound.train.setup import Setup

_ROWS = 64  # held-out sentences of which the bound is split by string
_PICTURED = 12  # trajectories in one picture; the text has all


@dataclass(frozen=True)
class EditSamples:
    """Texts drawn with the edits that wrote them, and a held-out text explained."""

    num: int = 4
    """Trajectories."""
    temperature: float | None = None
    """Of the decisions (1 by default): below 1 the likely ones become likelier."""
    beam: bool = False
    """The likeliest trajectories that a beam of `--num` finds, instead of draws."""
    prefix: str = ""
    """The words (or characters) that every text begins with."""
    start: str = ""
    """The first strings of a text, with ` | ` between them; the model goes on from there."""
    row: int = 0
    """The held-out text that is explained."""
    seed: int = 0

    def write(
        self, setup: "Setup", state: "TrainState", folder: Path, checkpoints: Checkpoints
    ) -> Drawn:
        """Draw trajectories (or, with `beam`, search for the likeliest), explain a held-out sentence, and
        write both as text, JSON, SVG and PNG; and the bound of some held-out sentences split by string
        as `by_step.json`."""
        from tightbound.train.folder import write_whole

        at_least_one(num=self.num)
        if self.temperature is not None and self.beam:
            raise UserError(
                "--temperature was given with --beam, which draws nothing. Leave one out."
            )
        temperature = temperature_of(1.0 if self.temperature is None else self.temperature)
        model, vocabulary = state.model, vocabulary_of(setup)
        if vocabulary is None or not isinstance(model, EditModel):
            raise UserError(
                f"{type(model).__name__} writes no text by edits, so there are no trajectories to draw."
            )
        given = read_start(model, vocabulary, self.prefix, self.start)
        rows = _rows(len(setup.data["valid"]), self.row)
        draw_key, explain_key = jax.random.split(jax.random.key(self.seed))
        if self.beam:
            drawn = search(model, vocabulary, self.num, start=given)
        else:
            drawn = draw(
                model, vocabulary, draw_key, self.num, temperature=temperature, start=given
            )
        batch = setup.data["valid"].take(rows)
        proposal = setup.evaluated(state.proposal)
        explained, terms = explain(model, proposal, vocabulary, batch, explain_key)
        step = int(state.step)
        files = [
            *_write(drawn, folder, f"trajectories-step-{step:08d}"),
            *_write([explained], folder, f"explained-step-{step:08d}"),
        ]
        num_given, law = np.asarray(batch.x.num_given), setup.data["valid"].description
        by_step = bound_by_string(model, terms, num_given, law)
        files.append(folder / "by_step.json")
        write_whole(files[-1], json.dumps({"schema": 1, "step": step, **by_step}, indent=1) + "\n")
        document = {
            "trajectories": [trajectory.to_json() for trajectory in drawn],
            "explained": explained.to_json(),
        }
        return Drawn(files, document, as_text([*drawn, explained]) + "\n")


def bound_by_string(
    model: EditModel, terms: LogTerms, num_given: Int[np.ndarray, " batch"], split: str
) -> dict[str, Any]:
    """What each string adds to the ELBO by class of decision, over one draw per sentence and one
    particle, in nats per sequence. Words count with the choice among the edits that write them
    taken off; with -log q(z | x), which is of all strings at once, everything sums to the bound.

    A sentence that has fewer strings counts as 0 there; `rows` says how many have one.
    """
    choice = on_grid(model, terms, "choice", of="log_q")
    is_first = np.arange(model.num_positions) == num_given[:, None, None]
    added = {
        "first word": total_on_grid(model, terms, ["first op", "first token", "first index"])
        - choice * is_first,
        "other words": total_on_grid(model, terms, ["op", "token", "index"]) - choice * ~is_first,
        "end": on_grid(model, terms, "end", of="log_p"),
        "steps": on_grid(model, terms, "steps", of="log_p"),
    }
    by_class = {name: grid.sum(-1) for name, grid in added.items()}
    has_string = np.any(on_grid(model, terms, "steps", of="mask"), axis=-1)

    def estimate(values: Float[np.ndarray, " batch"]) -> dict[str, Any]:
        error = float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else None
        mean = float(values.mean())
        return Estimate(mean, error, None, "nats per sequence", "none", "elbo", 1, split).to_json()

    strings = [
        {
            "string": index + 1,
            "rows": int(has_string[:, index].sum()),
            "total": estimate(np.sum([v[:, index] for v in by_class.values()], axis=0)),
            "classes": {name: estimate(values[:, index]) for name, values in by_class.items()},
        }
        for index in np.flatnonzero(has_string.any(0)).tolist()
    ]
    log_q = site_of(terms, "proposal").log_q[0].sum(-1)
    return {"num_rows": len(has_string), "strings": strings, "proposal": estimate(-log_q)}


def note_trajectory(setup: "Setup", progress: "Progress", folder: "RunFolder") -> str:
    """Add one line to `samples/trajectories.txt`: a trajectory the model draws at this evaluation,
    always with the same key, so that neighbouring lines differ by what was learned. Returns it for the
    terminal; nothing where the run writes no text by edits.

    Lines of this step and later, which a killed run left behind, are replaced.
    """
    from tightbound.train.folder import write_whole
    from tightbound.train.run import run_keys, writing

    model = progress.state.model
    vocabulary = vocabulary_of(setup)
    if vocabulary is None or not isinstance(model, EditModel):
        return ""
    _, _, evaluation_key = run_keys(setup.seed)
    [drawn] = draw(model, vocabulary, evaluation_key, 1)
    line = f"step {progress.step}: {in_one_line(drawn)}"
    path = folder.samples / "trajectories.txt"
    kept = [old for old in _lines(path) if _step_of(old) < progress.step]
    with writing(folder):
        write_whole(path, "\n".join([*kept, line]) + "\n")
    return f"A text drawn at {line}"


def _rows(num_rows: int, first: int) -> np.ndarray:
    """The sentence that is explained, and others up to `_ROWS`."""
    if not 0 <= first < num_rows:
        raise UserError(
            f"--row {first} was asked for, but the held-out split has the rows 0 to {num_rows - 1}."
        )
    others = [row for row in range(num_rows) if row != first]
    return np.array([first, *others[: _ROWS - 1]])


def _write(trajectories: Sequence[DrawnTrajectory], folder: Path, name: str) -> list[Path]:
    """The trajectories as text, JSON, SVG and PNG."""
    from tightbound.train.folder import write_whole

    drawing = lay_out(trajectories[:_PICTURED])
    document = {"schema": 1, "trajectories": [t.to_json() for t in trajectories]}
    text, plain, vector, picture = (
        folder / f"{name}.{end}" for end in ("txt", "json", "svg", "png")
    )
    write_whole(text, as_text(trajectories))
    write_whole(plain, json.dumps(document, indent=1) + "\n")
    write_whole(vector, svg_file(drawing, name))
    write_png(drawing, picture)
    return [text, plain, vector, picture]


def _lines(path: Path) -> Sequence[str]:
    return path.read_text().rstrip("\n").split("\n") if path.exists() else []


def _step_of(line: str) -> float:
    """The step that a line of `trajectories.txt` begins with; infinite where it has none."""
    found = re.match(r"step (\d+): ", line)
    return float(found[1]) if found else float("inf")

"""`tightbound sample RUN`: draws from the model, and what it makes of held-out data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tightbound.commands.options import RunReference, parse, print_json, use_compilation_cache
from tightbound.commands.runs_on_disk import open_run, split_reference
from tightbound.errors import UserError

if TYPE_CHECKING:
    from tightbound.commands.sample_sequences import SequenceRequest
    from tightbound.train.setup import Setup

Kind = Literal["images", "text", "sequences"]

_IMAGES, _COLUMNS, _TRAJECTORIES, _SEQUENCES = 64, 16, 4, 16
_ONLY_OF: Mapping[str, tuple[Kind, ...]] = {
    "columns": ("images", "sequences"),
    **dict.fromkeys(("temperature", "beam", "start"), ("text",)),
    **dict.fromkeys(("prefix", "row"), ("text", "sequences")),
    **dict.fromkeys(("num_steps", "between", "spherical"), ("sequences",)),
}
_COOLEST, _HOTTEST = 1e-3, 1e3  # beyond, scaled log-probabilities of what is impossible lose that


@dataclass(frozen=True)
class SampleOptions:
    """Draw from the model into the run's `samples/` folder: images, texts with the edits that wrote
    them, or sequences (strokes, music, series) beside held-out ones."""

    run: RunReference
    """RUN or RUN@STEP; by default the newest checkpoint."""
    num: int | None = None
    """Images (64 by default), trajectories of edits (4) or sequences (16)."""
    columns: int | None = None
    """Pictures in a line of a sheet."""
    temperature: float | None = None
    """Of the decisions of a text: below 1 the likely ones become likelier."""
    beam: bool = False
    """Of texts: the likeliest trajectories that a beam of `--num` finds, instead of draws."""
    prefix: str | None = None
    """The words that every string of a text begins with; of sequences, how many steps of held-out
    rows are given, after which the model goes on."""
    start: str | None = None
    """The first strings of a text, with ` | ` between them; the model goes on from there."""
    row: int | None = None
    """The held-out text that is explained, or the first held-out sequence shown; 0 by default."""
    num_steps: int | None = None
    """Of sequences, steps that are drawn; by default as many as the held-out one beside has."""
    between: tuple[int, int] | None = None
    """Of sequences, two held-out rows: z of both is inferred, mixed step by step, and x is drawn along
    each mixture with the same noise."""
    spherical: bool = False
    """With `--between`: mix along the arc from one z to the other instead of the straight line."""
    seed: int = 0
    json: bool = False
    """One JSON document on stdout."""


def main(arguments: Sequence[str]) -> int:
    options = parse(SampleOptions, "sample", arguments)
    _refuse_what_cannot_be_meant(options)
    use_compilation_cache()
    path, step = split_reference(options.run)
    opened = open_run(path)
    setup = opened.build()
    kind = _kind_of(setup)
    _refuse_options_of_other_kinds(options, kind)
    state = opened.state(setup, step)
    folder = opened.folder.samples
    folder.mkdir(exist_ok=True)
    if kind == "images":
        from tightbound.commands.sample_images import write_images

        num, columns = options.num or _IMAGES, options.columns or _COLUMNS
        files = write_images(setup, state, folder, num=num, columns=columns, seed=options.seed)
        document = {}
    elif kind == "sequences":
        from tightbound.commands.sample_sequences import write_sequences

        files, document = write_sequences(setup, state, folder, _request(options)), {}
    else:
        from tightbound.commands.sample_text import write_texts
        from tightbound.report.trajectories import as_text

        files, drawn, explained = write_texts(
            setup,
            state,
            folder,
            num=options.num or _TRAJECTORIES,
            temperature=1.0 if options.temperature is None else options.temperature,
            beam=options.beam,
            prefix=options.prefix or "",
            start=options.start or "",
            row=options.row or 0,
            seed=options.seed,
        )
        document = {
            "trajectories": [trajectory.to_json() for trajectory in drawn],
            "explained": explained.to_json(),
        }
        if not options.json:
            print(as_text([*drawn, explained]))
    if options.json:
        print_json({"files": [str(file) for file in files], **document})
    else:
        print(*files, sep="\n")
    return 0


def _refuse_what_cannot_be_meant(options: SampleOptions) -> None:
    numbers = {"num": options.num, "columns": options.columns, "num-steps": options.num_steps}
    for name, value in numbers.items():
        if value is not None and value < 1:
            raise UserError(f"--{name} {value} was asked for; give at least 1.")
    temperature = options.temperature
    if temperature is not None and options.beam:
        raise UserError("--temperature was given with --beam, which draws nothing. Leave one out.")
    if temperature is not None and not _COOLEST <= temperature <= _HOTTEST:
        raise UserError(
            f"--temperature {temperature:g} was asked for; give one from {_COOLEST:g} to "
            f"{_HOTTEST:g}. 1 draws from the model itself."
        )


def _kind_of(setup: "Setup") -> Kind:
    """What a run's rows are, as its samples are drawn."""
    from tightbound.models.stateful import AbstractStateful

    if setup.vocabulary is not None:
        return "text"
    return "sequences" if isinstance(setup.model, AbstractStateful) else "images"


def _refuse_options_of_other_kinds(options: SampleOptions, kind: Kind) -> None:
    for name, kinds in _ONLY_OF.items():
        if getattr(options, name) not in (None, False) and kind not in kinds:
            raise UserError(
                f"--{name.replace('_', '-')} is for runs on {' or '.join(kinds)}, and {options.run} is "
                f"one on {kind}. Leave it out."
            )


def _request(options: SampleOptions) -> "SequenceRequest":
    """What is asked of sequences."""
    from tightbound.commands.sample_sequences import SequenceRequest

    prefix = options.prefix or "0"
    if not (prefix.isascii() and prefix.isdigit()) or (
        options.prefix is not None and not int(prefix)
    ):
        raise UserError(
            f"--prefix {options.prefix} was asked for; of sequences give the number of steps, at "
            "least 1."
        )
    if options.spherical and options.between is None:
        raise UserError(
            "--spherical says how --between mixes two rows. Give --between ROW ROW too."
        )
    alone = {"prefix": options.prefix, "num-steps": options.num_steps, "row": options.row}
    clashing = [name for name, value in alone.items() if value is not None]
    if options.between is not None and clashing:
        raise UserError(
            f"--{clashing[0]} was given with --between, which takes the first steps of two rows it "
            "names, as many as the shorter one has. Leave one out."
        )
    return SequenceRequest(
        num=options.num or _SEQUENCES,
        num_steps=options.num_steps,
        prefix=int(prefix),
        row=options.row or 0,
        between=options.between,
        spherical=options.spherical,
        columns=options.columns,
        seed=options.seed,
    )

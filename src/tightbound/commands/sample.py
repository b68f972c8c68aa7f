"""`tightbound sample RUN`: draws from the model, and what it makes of held-out data."""

from collections.abc import Sequence
from dataclasses import dataclass

from tightbound.commands.options import RunReference, parse, print_json, use_compilation_cache
from tightbound.commands.runs_on_disk import open_run, split_reference
from tightbound.errors import UserError

_IMAGES, _COLUMNS, _TRAJECTORIES = 64, 16, 4
_COOLEST, _HOTTEST = 1e-3, 1e3  # beyond, scaled log-probabilities of what is impossible lose that


@dataclass(frozen=True)
class SampleOptions:
    """Draw from the model into the run's `samples/` folder: images, or texts with the edits that
    wrote them."""

    run: RunReference
    """RUN or RUN@STEP; by default the newest checkpoint."""
    num: int | None = None
    """Images (64 by default) or trajectories of edits (4)."""
    columns: int | None = None
    """Of images, 16 by default."""
    temperature: float | None = None
    """Of the decisions of a text: below 1 the likely ones become likelier."""
    beam: bool = False
    """Of texts: the likeliest trajectories that a beam of `--num` finds, instead of draws."""
    prefix: str | None = None
    """The words that every string of a text begins with."""
    start: str | None = None
    """The first strings of a text, with ` | ` between them; the model goes on from there."""
    row: int | None = None
    """The held-out text that is explained, 0 by default."""
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
    _refuse_options_of_the_other_kind(options, is_text=setup.vocabulary is not None)
    state = opened.state(setup, step)
    folder = opened.folder.samples
    folder.mkdir(exist_ok=True)
    if setup.vocabulary is None:
        from tightbound.commands.sample_images import write_images

        num, columns = options.num or _IMAGES, options.columns or _COLUMNS
        files = write_images(setup, state, folder, num=num, columns=columns, seed=options.seed)
        document = {}
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
    for name, value in (("num", options.num), ("columns", options.columns)):
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


def _refuse_options_of_the_other_kind(options: SampleOptions, *, is_text: bool) -> None:
    others = ("columns",) if is_text else ("temperature", "beam", "prefix", "start", "row")
    given = [f"--{name}" for name in others if getattr(options, name) not in (None, False)]
    if given:
        kind, other = ("text", "images") if is_text else ("images", "text")
        raise UserError(
            f"{given[0]} is for runs on {other}, and {options.run} is one on {kind}. Leave it out."
        )

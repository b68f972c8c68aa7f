"""`tightbound sample RUN`: draws from the model, and what it makes of held-out data."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tightbound.commands.options import RunReference, parse, print_json, use_compilation_cache
from tightbound.commands.working import working
from tightbound.errors import UserError
from tightbound.runs.opened import open_run, split_reference

if TYPE_CHECKING:
    from tightbound.families.language.samples import LanguageRequest
    from tightbound.families.sequences.samples import SequenceRequest
    from tightbound.train.setup import Setup

_log = logging.getLogger(__name__)

Kind = Literal["images", "text", "language", "sequences", "points", "targets"]

_IMAGES, _COLUMNS, _TRAJECTORIES, _SEQUENCES, _TEXTS = 64, 16, 4, 16, 16
_OF_POINTS, _OF_A_COMPONENT = 200, 1000  # draws of the latents
_CALLED = {
    "images": "images",
    "text": "text by edits",
    "language": "text by language models",
    "sequences": "sequences",
    "points": "points",
    "targets": "known densities",
}
_ONLY_OF: Mapping[str, tuple[Kind, ...]] = {
    "columns": ("images", "sequences"),
    "temperature": ("text", "language"),
    **dict.fromkeys(("beam", "start"), ("text",)),
    **dict.fromkeys(("prefix", "row"), ("text", "language", "sequences")),
    "num_steps": ("sequences",),
    **dict.fromkeys(("between", "spherical"), ("language", "sequences")),
}
_COOLEST, _HOTTEST = 1e-3, 1e3  # beyond, scaled log-probabilities of what is impossible lose that


@dataclass(frozen=True)
class SampleOptions:
    """Draw from the model into the run's `samples/` folder: images, texts with log p of every token or
    of the edits that wrote them, or sequences (strokes, music, series) beside held-out ones. Of points
    that share their latents, predictions; of a known density, the proposal beside it."""

    run: RunReference
    """RUN or RUN@STEP; by default the newest checkpoint."""
    num: int | None = None
    """Images (64 by default), trajectories of edits (4), texts of a language model or sequences (16);
    draws of the latents, of points in all (200), of a known density from every component (1000)."""
    columns: int | None = None
    """Pictures in a line of a sheet."""
    temperature: float | None = None
    """Of the decisions, or words, of a text: below 1 the likely ones become likelier."""
    beam: bool = False
    """Of texts: the likeliest trajectories that a beam of `--num` finds, instead of draws."""
    prefix: str | None = None
    """The words (or characters) that every text begins with; of sequences, how many steps of held-out
    rows are given, after which the model goes on."""
    start: str | None = None
    """The first strings of a text, with ` | ` between them; the model goes on from there."""
    row: int | None = None
    """The held-out text that is explained, or the first held-out one shown; 0 by default."""
    num_steps: int | None = None
    """Of sequences, steps that are drawn; by default as many as the held-out one beside has."""
    between: tuple[int, int] | None = None
    """Two held-out rows, sequences or texts: z of both is inferred, mixed (of sequences step by step),
    and x is drawn along each mixture with the same noise."""
    spherical: bool = False
    """With `--between`: mix along the arc from one z to the other instead of the straight line."""
    seed: int = 0
    json: bool = False
    """One JSON document on stdout."""


def main(arguments: Sequence[str]) -> int:
    options = parse(SampleOptions, "sample", arguments)
    _refuse_what_cannot_be_meant(options)
    use_compilation_cache()
    with working("sample: reading the run"):
        files, document, written = _write(options)
    if options.json:
        print_json({"files": [str(file) for file in files], **document})
    else:
        print(*filter(None, [written, *files]), sep="\n")
    return 0


def _write(options: SampleOptions) -> tuple[Sequence[Path], dict[str, Any], str]:
    """Draw, and write what was drawn: the files, what a program reads of it, and what a person does."""
    path, step = split_reference(options.run)
    opened = open_run(path)
    setup = opened.build()
    kind = _kind_of(setup)
    _refuse_options_of_other_kinds(options, kind)
    state = opened.state(setup, step)
    _log.info("drawing %s", _CALLED[kind])
    folder = opened.folder.samples
    folder.mkdir(exist_ok=True)
    if kind == "images":
        from tightbound.families.images.samples import write_images

        num, columns = options.num or _IMAGES, options.columns or _COLUMNS
        files = write_images(setup, state, folder, num=num, columns=columns, seed=options.seed)
        document, written = {}, ""
    elif kind == "sequences":
        from tightbound.families.sequences.samples import write_sequences

        files = write_sequences(setup, state, folder, _request(options))
        document, written = {}, ""
    elif kind == "points":
        from tightbound.families.stein.samples_points import write_predictions

        num = options.num or _OF_POINTS
        files = write_predictions(setup, state, folder, num=num, seed=options.seed)
        document, written = {}, ""
    elif kind == "targets":
        from tightbound.families.stein.samples_targets import write_target

        num = options.num or _OF_A_COMPONENT
        files = write_target(setup, state, folder, num=num, seed=options.seed)
        document, written = {}, ""
    elif kind == "language":
        from tightbound.families.language.samples import write_language

        steps = [s for s in opened.steps() if s <= int(state.step)]
        models = ((step, opened.state(setup, step).model) for step in steps)
        files, document, written = write_language(
            setup, state, folder, _language_request(options), models, steps
        )
    else:
        from tightbound.families.edits.in_words import as_text
        from tightbound.families.edits.samples import write_texts

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
        written = as_text([*drawn, explained])
    return files, document, written


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
    from tightbound.families.edits.model import EditModel
    from tightbound.families.stein.model_target import AbstractTarget
    from tightbound.models.stateful import AbstractStateful

    if isinstance(setup.model, AbstractTarget):
        return "targets"
    if setup.data["train"].pooled:
        return "points"
    if setup.vocabulary is not None:
        return "text" if isinstance(setup.model, EditModel) else "language"
    return "sequences" if isinstance(setup.model, AbstractStateful) else "images"


def _refuse_options_of_other_kinds(options: SampleOptions, kind: Kind) -> None:
    for name, kinds in _ONLY_OF.items():
        if getattr(options, name) not in (None, False) and kind not in kinds:
            of_kinds = " or ".join(_CALLED[k] for k in kinds)
            raise UserError(
                f"--{name.replace('_', '-')} is for runs on {of_kinds}, and {options.run} is one on "
                f"{_CALLED[kind]}. Leave it out."
            )


def _request(options: SampleOptions) -> "SequenceRequest":
    """What is asked of sequences."""
    from tightbound.families.sequences.samples import SequenceRequest

    prefix = options.prefix or "0"
    if not (prefix.isascii() and prefix.isdigit()) or (
        options.prefix is not None and not int(prefix)
    ):
        raise UserError(
            f"--prefix {options.prefix} was asked for; of sequences give the number of steps, at "
            "least 1."
        )
    _refuse_spherical_alone(options)
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


def _language_request(options: SampleOptions) -> "LanguageRequest":
    """What is asked of a language model."""
    from tightbound.families.language.samples import LanguageRequest

    _refuse_spherical_alone(options)
    if options.between is not None and options.row is not None:
        raise UserError("--row was given with --between, which names its two rows. Leave one out.")
    return LanguageRequest(
        num=options.num or _TEXTS,
        temperature=1.0 if options.temperature is None else options.temperature,
        prefix=options.prefix or "",
        row=options.row or 0,
        between=options.between,
        spherical=options.spherical,
        seed=options.seed,
    )


def _refuse_spherical_alone(options: SampleOptions) -> None:
    if options.spherical and options.between is None:
        raise UserError(
            "--spherical says how --between mixes two rows. Give --between ROW ROW too."
        )

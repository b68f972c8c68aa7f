"""Which rows are read from each source, by our own rules."""

import numpy as np

from tightbound.data.formats.text_files import TokenUnits, load_text_file, units_of
from tightbound.data.sets.cath import load_cath
from tightbound.data.sets.multi30k import multi30k_lines
from tightbound.data.sets.tiny_shakespeare import load_tiny_shakespeare
from tightbound.data.sets.wikitext2 import article_words, load_wikitext2
from tightbound.data.token_split import Layout
from tightbound.data.token_texts import Language, Path, Rows, Source, Texts
from tightbound.data.toys.grammar import (
    LONGEST,
    agreement_grammar,
    draw_sentence,
    grammar_words,
    source_entropy,
)
from tightbound.data.toys.residues import RESIDUE_COUNTS, draw_residues, residue_entropy
from tightbound.data.vocabulary import MARKS, Vocabulary
from tightbound.errors import UserError

_TOY_ROWS = {"train": 2000, "valid": 500, "test": 500}
_RESIDUE_ROWS = {"train": 100_000, "valid": 10_000, "test": 10_000}
_RESIDUE_LENGTH = 20


def our_texts(
    source: Source,
    *,
    language: Language,
    units: TokenUnits,
    max_length: int | None,
    path: Path,
    max_rows: int | None,
) -> Texts:
    """Official splits where there are any, the end of a sequence counted, no end where it was cut.

    Longer than `max_length` with the end: sentences are dropped, characters and residues cut,
    articles and plays cut into windows.
    """
    match source:
        case "multi30k":
            return _captions(language, units, max_length, path, max_rows)
        case "cath":
            rows, notes = load_cath(path, max_rows=max_rows)
            return Texts(
                rows, "residues", Layout(end=True, excess="cut", max_length=max_length), notes
            )
        case "wikitext2":
            return _articles(units, max_length, path, max_rows)
        case "tiny-shakespeare":
            return _plays(units, max_length, path, max_rows)
        case "file":
            return _own_file(units, max_length, path, max_rows)
        case "iid-residues":
            _refuse_path(source, path)
            return _residues(max_length, max_rows)
        case "toy-grammar":
            _refuse_path(source, path)
            return _toy(max_length, max_rows)


def _captions(
    language: Language,
    units: TokenUnits,
    max_length: int | None,
    path: Path,
    max_rows: int | None,
) -> Texts:
    raw = units != "words"
    lines = multi30k_lines(path, language=language, raw=raw, max_rows=max_rows)
    rows = {
        # the published files are tokenised: each of their words is one token as it stands
        name: [units_of(line, units) if raw else line.split() for line in part if line.strip()]
        for name, part in lines.items()
    }
    excess = "cut" if units == "characters" else "drop"
    note = (
        f"Official splits of the {'raw' if raw else 'tokenised'} captions, language {language!r}."
    )
    return Texts(rows, units, Layout(end=True, excess=excess, max_length=max_length), (note,))


def _articles(units: TokenUnits, max_length: int | None, path: Path, max_rows: int | None) -> Texts:
    lines, notes = load_wikitext2(path, max_rows=max_rows)
    words = {name: [article_words(line) for line in part] for name, part in lines.items()}
    rows: Rows = lines if units == "characters" else words
    return Texts(rows, units, Layout(end=True, excess="windows", max_length=max_length), notes)


def _plays(units: TokenUnits, max_length: int | None, path: Path, max_rows: int | None) -> Texts:
    lines, notes = load_tiny_shakespeare(path, max_rows=max_rows)
    if units == "characters":
        if max_length is None:
            raise UserError(
                "The characters of 'tiny-shakespeare' are one sequence of a million. Give "
                "`max_length`, the width of the windows it is cut into."
            )
        whole = {name: ["\n".join(part)] for name, part in lines.items()}
        return Texts(
            whole, units, Layout(end=False, excess="windows", max_length=max_length), notes
        )
    rows = {
        name: [units_of(line, units) for line in part if line.strip()]
        for name, part in lines.items()
    }
    return Texts(rows, units, Layout(end=True, excess="drop", max_length=max_length), notes)


def _own_file(units: TokenUnits, max_length: int | None, path: Path, max_rows: int | None) -> Texts:
    if path is None:
        raise UserError("A file of your own was asked for without its `path`. Give one.")
    lines, notes, is_fasta = load_text_file(path, max_rows=max_rows)
    if is_fasta or units == "characters":
        unit = "residues" if is_fasta else units
        return Texts(lines, unit, Layout(end=True, excess="cut", max_length=max_length), notes)
    rows = {name: [units_of(line, units) for line in part] for name, part in lines.items()}
    return Texts(rows, units, Layout(end=True, excess="drop", max_length=max_length), notes)


def _residues(max_length: int | None, max_rows: int | None) -> Texts:
    length = _RESIDUE_LENGTH if max_length is None else max_length
    sizes = _capped(_RESIDUE_ROWS, max_rows)
    return Texts(
        rows={
            name: draw_residues(sizes[name], length, seed=(0, number))
            for number, name in enumerate(sizes)
        },
        unit="residues",
        layout=Layout(end=False, excess="cut", max_length=length),
        notes=("Independent residues with the frequencies of CATH: nothing else can be learned.",),
        vocabulary=Vocabulary((*MARKS, *RESIDUE_COUNTS), "characters"),
        entropy=residue_entropy(),
    )


def _toy(max_length: int | None, max_rows: int | None) -> Texts:
    grammar = agreement_grammar()
    sizes = _capped(_TOY_ROWS, max_rows)
    rows = {}
    for number, (name, size) in enumerate(sizes.items()):
        random = np.random.Generator(np.random.PCG64((0, number)))
        rows[name] = [draw_sentence(grammar, random)[0] for _ in range(size)]
    return Texts(
        rows,
        "words",
        Layout(end=True, excess="drop", max_length=max_length),
        ("Sentences of a made-up grammar, whose subjects agree with verbs far away.",),
        Vocabulary((*MARKS, *grammar_words(grammar)), "words"),
        # of the whole language: the sentences that fit a smaller limit are another
        source_entropy(grammar) if max_length is None or max_length > LONGEST else None,
    )


def _capped(sizes: dict[str, int], max_rows: int | None) -> dict[str, int]:
    return {name: size if max_rows is None else min(size, max_rows) for name, size in sizes.items()}


def _refuse_path(source: Source, path: Path) -> None:
    if path is not None:
        raise UserError(
            f"{source!r} is made up and reads no file, but the path {path} came. Leave it out, or "
            "take the source 'file'."
        )

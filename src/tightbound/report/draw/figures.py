"""A figure of matplotlib as a file."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tightbound.files.writing import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save_figure(figure: "Figure", path: Path, **options: Any) -> None:
    """Write it whole, in the format of the path's ending. `$` in a label is a dollar sign: labels come
    from files, and what is no formula would end the drawing."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        if isinstance(text, Text) and "$" in text.get_text():
            text.set_parse_math(False)
    with replacing(path) as file:
        figure.savefig(file, format=path.suffix.removeprefix("."), **options)

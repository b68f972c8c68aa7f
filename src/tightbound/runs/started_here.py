"""Which recipe files were trained with by this user on this machine, as they were then.

A run folder names the file that its recipe came from, and whoever made the folder wrote that name. So
what may be run is written down apart from it, in the user's own state folder: one small file for each
recipe file and checksum (`$XDG_STATE_HOME/tightbound/started`, by default below `~/.local/state`).
"""

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path

from tightbound.errors import UserError
from tightbound.families.own_modules import checksum, own_path
from tightbound.files.writing import write_whole


def remember(recipe: str) -> None:
    """Write down that a run is started from this recipe, where it is a file of the user's own."""
    path = own_path(recipe)
    if path is None:
        return
    path = path.resolve()
    document = {"recipe": str(path), "sha256": checksum(path), "when": time.strftime("%F %T%z")}
    try:
        write_whole(_entry(path), json.dumps(document, indent=1) + "\n")
    except OSError:  # a home that cannot be written to: --trust-recipe says the same
        return


def recipe_to_run(recipe: str, trust: Sequence[str], where: Path) -> str:
    """The recipe's name, if what it names may be run: it is one of ours; its file is one of `trust`, which
    the user gave; or he has trained with the file as it is. `where` names it. UserError else."""
    path = own_path(recipe)
    attribute = recipe.rpartition(":")[2]
    for file in map(Path, trust):
        if path is not None and file.name == path.name:
            return f"{file}:{attribute}"
    if path is None or (path.exists() and _entry(path.resolve()).is_file()):
        return recipe
    known = (
        "is not there" if not path.exists() else "was not trained with here, or has changed since"
    )
    raise UserError(
        f"{where} names {path} as its recipe, and that file {known}. What a folder names is not run: read "
        f"the file, and add --trust-recipe {path} if you trust it."
    )


def is_file_of(file: str, recipe: str) -> bool:
    """Whether the recipe names this very file."""
    path = own_path(recipe)
    return path is not None and Path(file).resolve() == path.resolve()


def is_trusted(recipe: str, trust: Sequence[str]) -> bool:
    """Whether the user gave the recipe's file, or nothing needs to be run."""
    path = own_path(recipe)
    return path is None or path.name in {Path(file).name for file in trust}


def _entry(path: Path) -> Path:
    """Where it is written down that a run was started from the file as it is now."""
    import platformdirs

    name = hashlib.sha256(f"{path}\0{checksum(path)}".encode()).hexdigest()
    return platformdirs.user_state_path("tightbound") / "started" / f"{name}.json"

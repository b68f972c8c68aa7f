"""A user's own file or package as a module: compiled from its source, and known by its checksum."""

import hashlib
import sys
from collections.abc import Iterable
from importlib.machinery import FileFinder, ModuleSpec, SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType

from tightbound.errors import UserError


def own_path(name: str) -> Path | None:
    """The file or package of a recipe's or a family's name, `path/to/file.py:recipe`; None for a name of
    ours."""
    path, colon, _ = name.rpartition(":")
    is_own = bool(colon) and (path.endswith(".py") or (Path(path) / "__init__.py").is_file())
    return Path(path) if is_own else None


def checksum(path: Path) -> str:
    """SHA-256 of a file, or of all Python files of a package with their names: what importing it runs, as
    far as that lies in it."""
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    whole = hashlib.sha256()
    for file in sorted(path.rglob("*.py")):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        whole.update(f"{file.relative_to(path)}\0{content}\0".encode())
    return whole.hexdigest()


def load_module(path: Path) -> ModuleType:
    """The module; a package's own imports of itself work."""
    if not path.exists():
        raise UserError(f"{path} does not exist, so no recipe can be read from it.")
    path = path.resolve()
    is_package = path.is_dir()
    name = path.name if is_package else f"tightbound_recipe_{path.stem}"
    loaded = sys.modules.get(name)
    file = path / "__init__.py" if is_package else path
    if is_package and loaded is not None and loaded.__file__ == str(file):
        return loaded  # parts of a family name its package: they must be of one and the same module
    if is_package:
        sys.meta_path.insert(0, _PartsOf(name))
    spec = spec_from_file_location(
        name,
        file,
        loader=_FromSource(name, str(file)),
        submodule_search_locations=[str(path)] if is_package else None,
    )
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is not a Python file that can be imported.")
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


class _FromSource(SourceFileLoader):
    """Compiles what stands in the source: the bytecode beside it may be that of something else."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


class _PartsOf:
    """Finds the modules of one package, in sources alone."""

    def __init__(self, package: str):
        self._package = package

    def find_spec(
        self, fullname: str, path: Iterable[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(f"{self._package}."):
            return None
        for place in path or ():
            spec = FileFinder(place, (_FromSource, [".py"])).find_spec(fullname)
            if spec is not None:
                return spec
        raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)

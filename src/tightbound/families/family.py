"""What a family of models brings with it: one record, whose parts are loaded when they are used."""

import importlib
from dataclasses import dataclass
from typing import Any, Literal

Part = Literal[
    "recipes", "laws", "probe", "checks", "faults", "samples", "note", "figures", "panels"
]


@dataclass(frozen=True)
class Family:
    """A family of models. A part is the thing itself, or where it stands: "module:name" within
    `package`. A family leaves out the parts that it does not need.

    | part | what it is |
    |---|---|
    | `recipes` | the recipes by name: `Mapping[str, Recipe]`; importing them imports no JAX |
    | `laws` | evidence that needs no training: `(Asked) -> {name: group}` (`diagnose.laws.asked`) |
    | `probe` | evidence from a model in training: a class, see `diagnose.probes.FamilyProbe` |
    | `checks` | what is judged from both: `tuple[Check, ...]`, NumPy only (`diagnose.case`) |
    | `faults` | whom the drill examines and what it plants: `drill.fault.Examination` |
    | `samples` | options of `tightbound sample`, with a method `write`: `sampling.Samples` |
    | `note` | a line shown after an evaluation in training: `(setup, progress, folder) -> str` |
    | `figures` | figures beside the bound: `(setup, state, split, evaluation, seed) -> {name: Estimate}` |
    | `panels` | sections of the report: `(RunContents) -> tuple[Section, ...]` |
    """

    name: str
    rows: str  # what its runs are on: "texts by language models"
    package: str = ""
    recipes: Any = None
    laws: Any = None
    probe: Any = None
    checks: Any = None
    faults: Any = None
    samples: Any = None
    note: Any = None
    figures: Any = None
    panels: Any = None

    def load(self, part: Part) -> Any:
        """The part, imported now; None where the family has none."""
        where = getattr(self, part)
        if not isinstance(where, str):
            return where
        module, _, name = where.partition(":")
        return getattr(importlib.import_module(f"{self.package}.{module}"), name)

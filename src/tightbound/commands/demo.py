"""`tightbound demo`: the whole idea in a few minutes, in plain words."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tightbound.commands.options import parse
from tightbound.runs.build import build
from tightbound.runs.compilation import use_compilation_cache

if TYPE_CHECKING:
    from tightbound.diagnose.findings import Findings


@dataclass(frozen=True)
class DemoOptions:
    """Check a model, train it, explain its bound, break it, find the break, write a report."""

    out: str = "runs/demo"
    """Where the two runs go, as `healthy` and `kl-sign-flipped`; earlier ones are replaced."""


def main(arguments: Sequence[str]) -> int:
    options = parse(DemoOptions, "demo", arguments)
    use_compilation_cache()
    from tightbound.cli import main as tightbound
    from tightbound.diagnose.watch import check
    from tightbound.families.lookup import find_recipe
    from tightbound.runs.training import TrainOptions, train
    from tightbound.train.folder import RunFolder

    name = "vae/digits"
    recipe = find_recipe(name)
    out = Path(options.out)
    healthy, broken = RunFolder(out / "healthy"), RunFolder(out / "kl-sign-flipped")
    for folder in (healthy, broken):
        shutil.rmtree(folder.path, ignore_errors=True)

    heading("1. Before training: is this a probability model at all?")
    print(
        "A variational auto-encoder on 8x8 digits. Its likelihood is summed over every image of a\n"
        "six-pixel twin, its weights are held against an integral, its gradient against finite\n"
        "differences: mistakes that no training curve shows.\n"
    )
    setup = build(recipe, seed=0)
    short(check(setup))

    heading("2. Training, with the doctor riding along")
    print(
        "The bound is a lower bound on log p(x), in nats per image. It has to beat the best model\n"
        "without latents: independent pixels.\n"
    )
    with healthy.locked():
        findings, status = train(recipe, name, healthy, TrainOptions(note="demo: healthy"))
    if status == "interrupted":
        return 2
    short(findings)

    heading("3. Why did the bound move?")
    print(
        "The change between the first and the last checkpoint, on the same images and draws, taken\n"
        "apart by site (z: what the latents cost; x: how well images are explained), by the module\n"
        "that brought it about and by digit.\n"
    )
    tightbound(["why", str(healthy.path)])

    heading("4. The same run with one sign flipped")
    print(
        "The KL is added where it must be subtracted: a mistake found in real code. The loss falls\n"
        "faster than ever, until a number overflows. The doctor is told nothing.\n"
    )
    with broken.locked():
        found, status = train(
            recipe,
            name,
            broken,
            TrainOptions(note="demo: KL sign flipped", plant="kl_sign_flipped"),
        )
    if status == "interrupted":
        return 2
    print()
    short(found)

    heading("5. Reports with pictures")
    for folder in (healthy, broken):
        tightbound(["report", str(folder.path)])
    named = [finding.causes[0].name for finding in found.faults[:1]]
    quiet = not findings.faults
    print(
        f"\nThe healthy run {'raised no alarm' if quiet else 'RAISED AN ALARM'}; the broken one was "
        f"named {named[0] if named else 'NOTHING'}.\n"
        "Open the reports in a browser. Next: `tightbound recipes`, `tightbound train vae/mnist`,\n"
        "`tightbound explain TB201`."
    )
    return 0 if quiet and named == ["kl_sign_flipped"] else 1


def heading(text: str) -> None:
    print(f"\n{text}\n{'=' * len(text)}\n", flush=True)


def short(findings: "Findings") -> None:
    """The count, and the first fault in full."""
    from tightbound.diagnose.findings import finding_text, summary

    print(f"The doctor says: {summary(findings)}.")
    for finding in findings.faults[:1]:
        print(f"\n{finding_text(finding)}")

"""Scalars and histograms for TensorBoard, written by tensorboardX. No other part knows of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tightbound.diagnose.evidence import Evidence


@contextmanager
def tensorboard(folder: Path) -> Iterator[Callable[[dict[str, Any], Evidence | None], None]]:
    """A function that writes one logged record, with the evidence of its step where there is some.

    A run that is continued writes on in the same folder; TensorBoard shows the later value of a
    step that was written twice.
    """
    from tensorboardX import SummaryWriter

    writer = SummaryWriter(str(folder))
    try:
        yield lambda record, evidence: _write(writer, record, evidence)
    finally:
        writer.close()


def _write(writer: Any, record: dict[str, Any], evidence: Evidence | None) -> None:
    step = record["step"]
    for split in ("train", "held_out"):
        for name, value in _scalars(record.get(split, {})):
            writer.add_scalar(f"{split}/{name}", value, step)
    if evidence is None:
        return
    for name, values in _histograms(evidence):
        if np.isfinite(values).all():  # tensorboardX refuses the others
            writer.add_histogram(name, values, step)


def _scalars(report: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """The bound, every site's log p and log q, and the plain numbers of one split's report."""
    if "bound" in report:
        yield f"bound [{report['bound']['unit']}]", float(report["bound"]["value"])
    for site, scores in report.get("sites", {}).items():
        for law, value in scores.items():
            yield f"site {site}/{law} [nats per sequence]", float(value)
    for name in ("loss", "gradient_norm", "ess_fraction"):
        if name in report:
            yield name, float(report[name])


def _histograms(evidence: Evidence) -> Iterator[tuple[str, Any]]:
    """Latents (mean and scale of q), outputs (log p(x | z) and residuals), weights and gradients;
    what evidence keeps as quantiles is drawn from those."""
    if evidence.latents is not None:
        yield "latents/mean", evidence.latents.mean
        yield "latents/scale", evidence.latents.scale
    if evidence.sites is not None:
        observed = evidence.sites.observed.astype(bool)
        yield "outputs/log p(x | z) [nats]", evidence.sites.log_p[observed].sum(0)
        yield "weights/log weight [nats]", evidence.sites.log_weights
    if evidence.outputs is not None:
        yield "outputs/residual", evidence.outputs.residual_quantiles
    if evidence.gradients is not None:
        for module, values in zip(
            evidence.gradients.modules, evidence.gradients.quantiles, strict=True
        ):
            yield f"gradients/{module}", values

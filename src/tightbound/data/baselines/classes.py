"""Log-likelihoods of classes that need no network: what a trained classifier must beat. NumPy only."""

import numpy as np

from tightbound.data.baselines.sequences import RowNats
from tightbound.data.batch import Split
from tightbound.data.point_splits import nats_of_rows


def class_baseline_rows(train: Split, held_out: Split) -> dict[str, RowNats]:
    """log p(class) of every held-out point, in nats; of the training split itself, their sum.

    - "uniform": every class of the training points is as likely as any other;
    - "class-frequencies": (1 + n_c) / (C + N), smoothed, so that no class is impossible.
    """
    classes_of_train = np.asarray(train.x.target)
    classes = np.asarray(held_out.x.target)
    num_classes = int(max(classes_of_train.max(), classes.max())) + 1
    counts = np.bincount(classes_of_train, minlength=num_classes)
    log_frequencies = np.log1p(counts) - np.log(num_classes + len(classes_of_train))
    nats = {
        "uniform": np.full(len(classes), -np.log(num_classes)),
        "class-frequencies": log_frequencies[classes],
    }
    return nats_of_rows(nats, held_out)

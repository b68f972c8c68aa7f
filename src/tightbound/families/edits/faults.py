"""How runs on texts written by edits are examined: whom faults are planted in, traps, and the faults."""

from typing import Any

from tightbound.diagnose.checks import evaluation, objective
from tightbound.drill.fault import Examination, Fault, Planted, on
from tightbound.drill.faults import GENERAL
from tightbound.families.edits import checks, planting
from tightbound.families.edits import recipe as edits
from tightbound.families.edits.recipe import DoublingData, EditRecipe, EditTraining, NoisingSettings
from tightbound.families.lookup import Recipe
from tightbound.train.settings import OptimiserSettings
from tightbound.unread import replaced

_DOUBLING = edits.RECIPES["edits/doubling"]

_SMALL = replaced(_DOUBLING.model, size=32, hidden_size=64, num_heads=2, num_layers=1)


def _doubling(name: str, **changes: Any) -> EditRecipe:
    """t, tt, tttt with a small network."""
    small = replaced(
        _DOUBLING,
        name=name,
        data=DoublingData(doublings=2),
        noising=NoisingSettings(max_steps=3),
        model=_SMALL,
        optimiser=replaced(_DOUBLING.optimiser, learning_rate=3e-3),
    )
    return replaced(small, **changes)


_DROP = NoisingSettings("token-drop", max_steps=3)

SUBJECTS: tuple[Recipe, ...] = (
    _doubling("edits/doubling"),
    _doubling("edits/doubling-drop", noising=_DROP),
    _doubling(
        "edits/doubling-one-by-one",
        optimiser=OptimiserSettings(learning_rate=3e-4),
        run=replaced(_DOUBLING.run, batch_size=1),
    ),
)

TRAPS: tuple[Recipe, ...] = (
    _doubling("edits/static", model=replaced(_SMALL, handed_on="edits-within")),
    _doubling(
        "edits/summed-out",
        model=replaced(_SMALL, handed_on="tokens", temperature=1.0),
        training=EditTraining("exact"),
    ),
    _doubling("edits/supervised", training=EditTraining("supervised")),
    _doubling("edits/one-particle", model=replaced(_SMALL, num_particles=1)),
    _doubling("edits/held-out-letters", data=DoublingData(doublings=2, held_out_letters=True)),
    _doubling("edits/redrawn-letters", model=replaced(_SMALL, exchangeable=True)),
    _doubling("edits/collapsed-rounds", noising=replaced(_DROP, collapse=True)),
    _doubling("edits/knows-the-step", model=replaced(_SMALL, condition_on_step=True)),
)

_FAULTS = (
    Fault(
        "masks_only_in_training",
        "masks, padding, units",
        "Particles read their source without its padding mask; the teacher-forced pass has it.",
        planting.with_particles(lambda p: planting.Unmasked(p.model)),
        checks.MASKS_DIFFER,
        ("TB106",),
    ),
    Fault(
        "carried_without_its_end",
        "state",
        "Particles hand on what they built without the position of the end.",
        planting.with_particles(lambda p: planting.WithoutItsEnd(p.model)),
        checks.CARRIED_STATE_DIFFERS,
        ("TB107",),
    ),
    Fault(
        "cache_not_gathered",
        "state",
        "Resampling gathers the particles but not their key-value caches.",
        planting.cache_not_gathered,
        checks.STATE_NOT_GATHERED,
        ("TB108",),
    ),
    Fault(
        "argmax_particles",
        "inference",
        "Every particle takes the most probable edit and is weighted as if it had drawn it.",
        planting.with_particles(lambda p: planting.Argmax(p.model)),
        checks.ARGMAX_CHOICES,
        ("TB109",),
    ),
    Fault(
        "log_q_of_one_path",
        "not a probability model",
        "log q is that of the positions dropped, where equal words leave the same string.",
        planting.one_path,
        checks.ONE_PATH,
        ("TB110",),
    ),
    Fault(
        "end_trained_twice",
        "objective",
        "The target of a string's end is set for two ops at once.",
        planting.end_trained_twice,
        checks.SECOND_TARGET,
        ("TB203",),
    ),
    Fault(
        "heads_averaged_apart",
        "objective",
        "The losses of the three heads are averaged each over its own decisions.",
        planting.heads_averaged,
        objective.HEADS_AVERAGED_APART,
        ("TB201",),
    ),
    Fault(
        "evaluated_under_another_law",
        "leakage and mode",
        "Trajectories are halved in training and dropped at random in evaluation.",
        planting.other_law_at_evaluation,
        evaluation.EVALUATED_UNDER_OTHER_LAW,
        ("TB604",),
    ),
    Fault(
        "embeddings_of_unit_variance",
        "optimisation",
        "Word embeddings of variance 1 in a table that is the output layer too.",
        planting.unit_embeddings,
        checks.EMBEDDINGS_TOO_LARGE,
        ("TB225",),
    ),
)
_OWN = {fault.name: fault for fault in _FAULTS}

PLANTED: tuple[Planted, ...] = (
    *on(
        ("edits/doubling",),
        _OWN["masks_only_in_training"],
        _OWN["carried_without_its_end"],
        _OWN["cache_not_gathered"],
        _OWN["argmax_particles"],
        _OWN["end_trained_twice"],
        _OWN["heads_averaged_apart"],
        GENERAL["normaliser_discarded"],
    ),
    *on(
        ("edits/doubling-drop",),
        _OWN["log_q_of_one_path"],
    ),
    *on(
        (
            "edits/doubling",
            "edits/doubling-one-by-one",
        ),
        _OWN["evaluated_under_another_law"],
        _OWN["embeddings_of_unit_variance"],
    ),
    *on(
        ("edits/doubling-one-by-one",),
        GENERAL["letters_interfere"],
    ),
)

EXAMINATION = Examination(SUBJECTS, TRAPS, PLANTED)

"""A softmax over many words from its settings: where it has a place, and what is raised in its stead."""

from typing import TYPE_CHECKING, Any

from tightbound.errors import UserError
from tightbound.families.language.settings import LanguageModelSettings
from tightbound.families.language.settings_softmax import OWN_LAW, SAMPLED, SoftmaxSettings

if TYPE_CHECKING:  # a recipe is looked up without JAX; only building needs it
    import numpy as np
    from jaxtyping import Int, PRNGKeyArray

    from tightbound.families.language.emissions import AbstractEmission, AbstractScored
    from tightbound.train.objective import Claim, Objective

    Counts = Int[np.ndarray, " classes"]


def check_softmax(settings: LanguageModelSettings) -> None:
    """UserError where the kind of softmax has no place: p(word) is a sum, or its matrix is another's."""
    kind, structure = settings.softmax.kind, settings.structure.kind
    if kind == "exact":
        return
    if structure != "direct":
        raise UserError(
            f"The softmax {kind!r} was asked for with the structure {structure!r}, which gives p(word) as "
            "a sum over choices, with a softmax for each. Use the structure 'direct', or the softmax "
            "'exact'."
        )
    if settings.emission == "mixture":
        raise UserError(
            f"The softmax {kind!r} was asked for with the emission 'mixture', which normalises its few "
            "components over all words once for a whole batch, and sums over them. Use the emission "
            "'vector' or 'matrix', or the softmax 'exact'."
        )
    if kind in OWN_LAW and settings.emission != "matrix":
        raise UserError(
            f"The softmax {kind!r}, with matrices of its own, was asked for with the emission "
            f"{settings.emission!r}, whose matrix is the embedding. Use the emission 'matrix'."
        )


def clustered(
    softmax: SoftmaxSettings, num_features: int, counts: "Counts", key: "PRNGKeyArray"
) -> "AbstractEmission":
    """A softmax with a law of its own."""
    from tightbound.families.language.emissions_clustered import AdaptiveEmission, TwoLevelEmission
    from tightbound.nn.adaptive_softmax import AdaptiveSoftmax, ClusterCost, cheapest_ends
    from tightbound.nn.two_level_softmax import TwoLevelSoftmax

    if softmax.kind == "two-level":
        return TwoLevelEmission(TwoLevelSoftmax(num_features, len(counts), key=key))
    ends = softmax.clusters
    if not ends:
        ends = cheapest_ends(counts, num_features, ClusterCost(softmax.cluster_cost, 1.0))
    return AdaptiveEmission(AdaptiveSoftmax(num_features, counts, ends, key=key))


def with_what_training_leaves(
    softmax: SoftmaxSettings,
    emission: "AbstractScored",
    num_features: int,
    counts: "Counts | None",
) -> "AbstractScored":
    """The exact softmax of scores that were trained so."""
    import jax.numpy as jnp

    from tightbound.estimators.class_proposals import POWERS
    from tightbound.families.language.emissions_sampled import LearnedNormaliser, ShiftedByProposal

    if softmax.kind == "nce" and softmax.learned_normaliser:
        return LearnedNormaliser(emission, num_features)
    power = POWERS[softmax.proposal]
    if softmax.kind == "negative" and counts is not None and power != 0:
        return ShiftedByProposal(emission, jnp.asarray(counts), power)
    return emission


def softmax_notes(model: LanguageModelSettings, num_symbols: int) -> tuple[str, ...]:
    """What the numbers of a run with many words are of."""
    from tightbound.data.sentences import EOS

    softmax, num_classes = model.softmax, num_symbols - EOS
    if softmax.kind not in SAMPLED:
        return ()
    return (
        f"The softmax is trained on {softmax.num_samples} of {num_classes} classes drawn for each batch "
        f"({softmax.kind}): what is logged of training batches bounds no log p(x). Held-out numbers are of "
        "the exact softmax over all classes.",
    )


def on_drawn_classes(inner: "Objective", softmax: SoftmaxSettings, counts: "Counts") -> "Claim":
    from tightbound.estimators.class_proposals import class_proposal
    from tightbound.families.language.on_drawn_classes import OnDrawnClasses

    assert softmax.kind in SAMPLED
    if softmax.num_samples >= len(counts):
        raise UserError(
            f"`model.softmax.num_samples` is {softmax.num_samples} of {len(counts)} classes, but the exact "
            "softmax looks at no more than all of them. Give fewer than there are, or the softmax 'exact'."
        )
    kind: Any = softmax.kind
    return OnDrawnClasses(
        inner,
        kind,
        softmax.num_samples,
        class_proposal(softmax.proposal, counts),
        from_batch=softmax.proposal == "batch",
        tilt=softmax.tilt,
    )

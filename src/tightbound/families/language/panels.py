"""What a report draws of a language model: losses along texts, where it looks, what it mixes, which
state follows which, and what training did to its embeddings. Of parts a model has not, nothing."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from jaxtyping import Float

from tightbound.estimators.estimate import number_text
from tightbound.families.language.token_strips import in_words, strip, texts_html, visible
from tightbound.report.contents import RunContents
from tightbound.report.draw.charts import Curve, Level, column_chart, line_chart
from tightbound.report.draw.heat_map import Facet, heat_map
from tightbound.report.panels import colour_of
from tightbound.report.sections import Sections, folded
from tightbound.report.tables import Table

_MOST_POSITIONS = 40  # of a heat map
_MOST_SLOTS = 6


def sections(contents: RunContents) -> Sections:
    """What every token of held-out texts costs, what the parts of the model do, and texts drawn."""
    profile, drawn = contents.newest("language-step"), contents.newest("texts-step")
    if profile is None:
        return Sections()
    texts = "" if drawn is None else texts_html(drawn, profile["num_classes"])
    head = (
        ""
        if drawn is None
        else f"At step {escape(str(drawn['step']))}, minus log p of each token in nats."
    )
    return Sections(
        _tokens(profile), f"<h2>Texts</h2><p>{head}</p>{texts}" if drawn is not None else ""
    )


def _tokens(profile: Mapping[str, Any]) -> str:
    strips = "".join(
        strip(
            f"held-out row {sentence['row']}",
            sentence["tokens"],
            sentence["nats"],
            num_classes=profile["num_classes"],
            alternatives=sentence["alternatives"],
        )
        for sentence in profile["sentences"]
    )
    tables = language_tables(profile)
    given = " given z ~ q(z | x)," if profile["family"] == "sequence VAE" else ""
    others = "".join(folded(alternatives_table(sentence)) for sentence in profile["sentences"])
    return (
        f"<h2>Token by token</h2><p>Nats below every token,{given} as strongly coloured as a guess among "
        f"all {profile['num_classes']:,} symbols where it cost as much. The last text is the one whose tokens "
        f"cost most.</p>{strips}{others}{folded(tables[0], is_open=True)}"
        f'<h2>Language model</h2><div class="charts">{"".join(language_panels(profile))}</div>'
        f"{''.join(map(folded, tables[1:]))}"
    )


def language_panels(profile: Mapping[str, Any]) -> list[str]:
    """The charts of a `language-step-N.json`."""
    return [
        position_panel(profile),
        *alignment_panels(profile),
        *_attention_panels(profile),
        *_slot_panels(profile),
        *_distance_panels(profile),
        *usage_panels(profile),
        *transition_panels(profile),
        *norm_panels(profile),
    ]


def language_tables(profile: Mapping[str, Any]) -> list[Table]:
    """The worst tokens; the words of the busiest components; the shares of small choices."""
    tables = [_worst_table(profile)]
    if "usage" in profile:
        tables.append(_component_table(profile["usage"]))
    tables += [_choice_table(choice) for choice in profile.get("choices", [])]
    return tables


def alternatives_table(sentence: Mapping[str, Any]) -> Table:
    """Every token of a text, and what else was likely in its place."""
    rows = zip(sentence["tokens"], sentence["nats"], sentence["alternatives"], strict=True)
    return Table(
        f"Row {sentence['row']}: what else was likely",
        ("token", "nats", "likeliest"),
        tuple(
            (visible(token), "given" if nats is None else number_text(nats), in_words(others))
            for token, nats, others in rows
        ),
    )


def position_panel(profile: Mapping[str, Any]) -> str:
    """Mean loss by position, against a guess among all classes."""
    by = profile["by_position"]
    mean, error = _array(by["mean"]), _array(by["error"])
    labels = tuple(
        f"{m:.3g} ± {e:.2g}, {n} rows" for m, e, n in zip(mean, error, by["rows"], strict=True)
    )
    margin = 2 * np.nan_to_num(error)
    curve = Curve(
        "held-out", np.array(by["position"], float), mean, labels, mean - margin, mean + margin
    )
    given = " given z ~ q(z | x), so without its KL" if _has_latent(profile) else ""
    return line_chart(
        "Loss by position",
        [curve],
        y_label="nats per token",
        x_label="position",
        levels=[Level("uniform", float(np.log(profile["num_classes"])))],
        note=f"Mean{given} over those of {profile['num_rows']} rows of {profile['split']} that are so "
        f"long, step {profile['step']}; band: 2 standard errors over them. A context that helps makes "
        "the curve fall after the first tokens.",
    )


def alignment_panels(profile: Mapping[str, Any]) -> list[str]:
    """Learned priors of the parent, checkpoint by checkpoint."""
    priors = profile.get("alignments", [])
    names = list(dict.fromkeys(prior["name"] for prior in priors))
    charts = []
    for name in names:
        tables = [
            Facet(f"step {p['step']}", _corner(p["values"])) for p in priors if p["name"] == name
        ]
        places = [str(i + 1) for i in range(len(tables[0].values))]
        charts.append(
            heat_map(
                f"Alignment prior of the {name}",
                tables,
                [f"token {i}" for i in places],
                ["begin", *(f"token {i}" for i in places[:-1])],
                x_label="parent",
                y_label="token to come",
                per_line=3,
                note="P(parent | position), each row a distribution over the tokens so far; at first all "
                "alike. A strong diagonal is the token before, a strong first column no parent at all."
                + _cut_note(priors[0]["values"]),
            )
        )
    return charts


def usage_panels(profile: Mapping[str, Any]) -> list[str]:
    """How often components are answerable for a token, busiest first."""
    if "usage" not in profile:
        return []
    usage = profile["usage"]
    shares, effective = _array(usage["answerable"]), float(np.exp(usage["entropy"]))
    return [
        column_chart(
            "Mixture usage",
            [f"component {k}" for k in usage["components"]],
            shares,
            (shares >= 0.1 / len(shares)).tolist(),
            x_label="components, busiest first",
            y_label="share of tokens",
            note=f"Mean of p(component | token and all before), {profile['num_rows']} rows. Entropy "
            f"{usage['entropy']:.3g} nats: as many as {effective:.3g} of {len(shares)} used alike. Grey: "
            "less than a tenth of an equal share. Few tall columns say that components are wasted.",
        )
    ]


def transition_panels(profile: Mapping[str, Any]) -> list[str]:
    """Which state follows which, among the busiest."""
    if "transitions" not in profile:
        return []
    found = profile["transitions"]
    words = [" ".join(visible(symbol) for symbol, _ in of[:2]) for of in found["words"]]
    names = [f"{state} {of_state}" for state, of_state in zip(found["after"], words, strict=True)]
    return [
        heat_map(
            "State transitions",
            [Facet("P(state after | state before)", np.array(found["values"], float))],
            [f"state {state}" for state in found["before"]],
            names,
            x_label="state after, with its likeliest words",
            y_label="state before",
            per_line=1,
            note=f"The busiest of {found['num_states']} states, mean over {profile['num_rows']} rows; a "
            "row sums to 1 over all of them. Rows that look alike do not tell their states apart.",
        )
    ]


def norm_panels(profile: Mapping[str, Any]) -> list[str]:
    """Lengths of embeddings at every checkpoint, by how often the symbol occurs."""
    if "embedding_norms" not in profile:
        return []
    norms = profile["embedding_norms"]
    steps = np.array([entry["step"] for entry in norms["steps"]], float)
    values = np.array([entry["quantiles"] for entry in norms["steps"]], float)
    curves = [
        Curve(
            name,
            steps,
            values[:, i, 1],
            tuple(f"{m:.3g} ({low:.3g} to {high:.3g})" for low, m, high in values[:, i]),
            values[:, i, 0],
            values[:, i, 2],
            colour_of(i),
        )
        for i, name in enumerate(norms["bands"])
    ]
    return [
        line_chart(
            "Embedding norms over training",
            curves,
            y_label="norm",
            note="Median of symbols as frequent in the training split, at each checkpoint; band: from a "
            "tenth to nine tenths of them. Rare symbols that stay where they began were not learned.",
        )
    ]


def _attention_panels(profile: Mapping[str, Any]) -> list[str]:
    if "attention" not in profile:
        return []
    found, charts = profile["attention"], []
    layers = dict.fromkeys(one["name"].partition(", ")[0] for one in found["maps"])
    for layer in layers:
        facets = [
            Facet(one["name"].partition(", ")[2], _corner(one["values"]))
            for one in found["maps"]
            if one["name"].partition(", ")[0] == layer
        ]
        charts.append(_on_sentence(f"Attention, {layer}", facets, found, "attention"))
    return charts


def _slot_panels(profile: Mapping[str, Any]) -> list[str]:
    if "slots" not in profile:
        return []
    found = profile["slots"]
    facets = [Facet(one["name"], _corner(one["values"])) for one in found["maps"][:_MOST_SLOTS]]
    return [_on_sentence("Slots", facets, found, "weight of the slot")]


def _on_sentence(title: str, facets: Sequence[Facet], found: Mapping[str, Any], what: str) -> str:
    size = len(facets[0].values)
    return heat_map(
        title,
        facets,
        [visible(token) for token in found["tokens"][:size]],
        [visible(token) for token in found["read"][:size]],
        x_label="token read",
        y_label="token to come",
        note=f"Held-out row {found['row']}; {what} over what is read before each token, rows sum to 1. "
        "A column that is strong throughout is read whatever comes." + _cut_note(found["tokens"]),
    )


def _distance_panels(profile: Mapping[str, Any]) -> list[str]:
    found = profile.get("distances", [])
    if not found:
        return []
    tables = [np.array(one["values"], float)[:, :_MOST_POSITIONS] for one in found]
    num_slots, num_distances = tables[0].shape
    return [
        heat_map(
            "Prior distance of each slot",
            [Facet(f"step {o['step']}", t) for o, t in zip(found, tables, strict=True)],
            [f"slot {m + 1}" for m in range(num_slots)],
            ["newest", *(f"{d} back" for d in range(1, num_distances))],
            x_label="tokens back from the newest",
            y_label="slot",
            note="P(distance), at first all alike. Of slots that learn the same distance all but one are wasted.",
        )
    ]


def _worst_table(profile: Mapping[str, Any]) -> Table:
    return Table(
        f"The worst tokens of {profile['num_rows']} rows of {profile['split']}",
        ("row", "after", "token", "nats", "likelier"),
        tuple(
            (
                str(one["row"]),
                " ".join(map(visible, one["before"])) or "begin",
                visible(one["token"]),
                number_text(one["nats"]),
                in_words(one["alternatives"][:3]),
            )
            for one in profile["worst"]
        ),
    )


def _component_table(usage: Mapping[str, Any]) -> Table:
    shares = zip(usage["components"], usage["answerable"], usage["words"], strict=False)
    return Table(
        "The busiest components and their words",
        ("component", "share of tokens", "words, p(word | component)"),
        tuple((str(k), f"{share:.3f}", in_words(words)) for k, share, words in shares),
    )


def _choice_table(choice: Mapping[str, Any]) -> Table:
    rows = zip(choice["alternatives"], choice["expected"], choice["answerable"], strict=True)
    return Table(
        f"Choice of a {choice['choice']}, shares",
        ("", "before the token is seen", "with it"),
        tuple(
            (name, f"{expected:.3f}", f"{answerable:.3f}") for name, expected, answerable in rows
        ),
    )


def _corner(values: Sequence[Sequence[float]]) -> Float[np.ndarray, "rows columns"]:
    return np.array(values, float)[:_MOST_POSITIONS, :_MOST_POSITIONS]


def _cut_note(positions: Sequence[Any]) -> str:
    cut = len(positions) > _MOST_POSITIONS
    return f" The first {_MOST_POSITIONS} of {len(positions)} positions." if cut else ""


def _has_latent(profile: Mapping[str, Any]) -> bool:
    return profile["family"] == "sequence VAE"


def _array(values: Sequence[float | None]) -> Float[np.ndarray, " values"]:
    """None, which stands for what is not finite, as NaN."""
    return np.array([np.nan if value is None else value for value in values], float)

"""A small language with long-range agreement, made from a probabilistic grammar; no download.

The verb, and a question at the end, tell what the subject is, across phrases with nouns of their
own. Four words back are often not enough to know it.
"""

import math
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

from tightbound.estimators.estimate import Estimate

Rules: TypeAlias = tuple[tuple[float, tuple[str, ...]], ...]
Grammar: TypeAlias = Mapping[str, Rules]
"""For each non-terminal, its expansions with their probabilities. Every other symbol is a word."""

START = "sentence"
LONGEST = 15  # words of a sentence of `agreement_grammar()`


def draw_sentence(grammar: Grammar, random: np.random.Generator) -> tuple[list[str], float]:
    """One sentence and the log-probability of its derivation, in nats.

    Where no sentence has two derivations, as in `agreement_grammar()`, that is its own log p.
    """
    words: list[str] = []
    log_p = 0.0
    pending = [START]
    while pending:
        symbol = pending.pop()
        if symbol not in grammar:
            words.append(symbol)
            continue
        probability, expansion = _chosen(grammar[symbol], random.random())
        log_p += math.log(probability)
        pending.extend(reversed(expansion))
    return words, log_p


def _chosen(rules: Rules, uniform: float) -> tuple[float, tuple[str, ...]]:
    """The rule in whose share of [0, 1) a number lies; the last one's share takes the rounding."""
    for rule in rules[:-1]:
        if uniform < rule[0]:
            return rule
        uniform -= rule[0]
    return rules[-1]


def source_entropy(grammar: Grammar) -> Estimate:
    """Entropy of a sentence over its expected number of units, its end counted, in nats per unit.

        H(A) = sum_r p_r (-log p_r + sum of H over the symbols of r),   the same for the lengths

    Exact for a grammar without recursion in which no sentence has two derivations. No causal model
    is better, on average over test sets.
    """
    found: dict[str, tuple[float, float]] = {}

    def expected(symbol: str) -> tuple[float, float]:
        """Nats and words of what a symbol becomes."""
        if symbol not in grammar:
            return 0.0, 1.0
        if symbol not in found:
            nats = words = 0.0
            for probability, expansion in grammar[symbol]:
                parts = [expected(part) for part in expansion]
                nats += probability * (-math.log(probability) + sum(part[0] for part in parts))
                words += probability * sum(part[1] for part in parts)
            found[symbol] = nats, words
        return found[symbol]

    nats, words = expected(START)
    return Estimate(
        value=nats / (words + 1),
        standard_error=None,
        monte_carlo_error=None,
        unit="nats per unit",
        bound="exact",
        estimator="source-entropy",
        num_samples=0,
        split="the source",
    )


def grammar_words(grammar: Grammar) -> tuple[str, ...]:
    """Every word of the language, in alphabetical order."""
    symbols = {part for rules in grammar.values() for _, parts in rules for part in parts}
    return tuple(sorted(symbols - set(grammar)))


def agreement_grammar() -> Grammar:
    """36 words; 4 to 15 of them make a sentence: "two old cats near a girl sleep today do they".

    What a subject is (a pet or a child, one or many) decides its verb and the question at the end;
    the nouns between are of any kind.
    """
    grammar: dict[str, Rules] = {
        START: _even(*(f"sentence {kind} {number}" for kind in _KINDS for number in _NUMBERS)),
        "place": ((1.0, ("preposition", "thing")),),
        "thing": _even(*(f"pair {kind} {number}" for kind in _KINDS for number in _NUMBERS)),
        "object": _even(*(f"phrase {kind} {number}" for kind in _KINDS for number in _NUMBERS)),
        "preposition": _even("near", "behind", "with"),
        "adjective": _even("small", "old"),
        "adverb": _even("today", "often"),
    }
    for number in _NUMBERS:
        grammar[f"determiner {number}"] = _even(*_DETERMINERS[number])
        for kind in _KINDS:
            grammar |= _about(kind, number)
    return grammar


_NUMBERS = ("one", "many")
_DETERMINERS = {"one": ("a", "this"), "many": ("two", "these")}
_QUESTIONS = {"one": ("does", "it"), "many": ("do", "they")}
_KINDS = {  # nouns, verbs without an object, and a verb with one; an "s" tells one from many
    "pet": (("dog", "cat"), ("sleep", "bark"), "chase"),
    "child": (("girl", "boy"), ("read", "sing"), "paint"),
}


def _about(kind: str, number: str) -> dict[str, Rules]:
    """The rules of sentences whose subject is of this kind and number."""
    nouns, verbs, transitive = _KINDS[kind]
    of_noun, of_verb = ("", "s") if number == "one" else ("s", "")
    this = f"{kind} {number}"
    phrase, verb = f"phrase {this}", transitive + of_verb
    return {
        f"sentence {this}": (
            (0.4, (f"subject {this}", f"predicate {this}")),
            (0.6, (f"subject {this}", f"predicate {this}", *_QUESTIONS[number])),
        ),
        f"subject {this}": (
            (0.1, (phrase,)),
            (0.35, (phrase, "place")),
            (0.35, (phrase, "place", "place")),
            (0.2, (phrase, "that", verb, "object")),
        ),
        f"predicate {this}": (
            (0.5, (f"intransitive {this}", "adverb")),
            (0.5, (verb, "object")),
        ),
        phrase: (
            (0.6, (f"pair {this}",)),
            (0.4, (f"determiner {number}", "adjective", f"noun {this}")),
        ),
        f"pair {this}": ((1.0, (f"determiner {number}", f"noun {this}")),),
        f"noun {this}": _even(*(noun + of_noun for noun in nouns)),
        f"intransitive {this}": _even(*(word + of_verb for word in verbs)),
    }


def _even(*symbols: str) -> Rules:
    """Any one of these symbols, all equally likely."""
    return tuple((1 / len(symbols), (symbol,)) for symbol in symbols)

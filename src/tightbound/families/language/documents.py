"""The JSON documents that samples of language models leave, as the report reads them."""

from typing import Annotated, Literal, NotRequired, TypedDict

import msgspec

from tightbound.train.documents import Step

Values = list[float | None]  # None is not finite
Symbol = tuple[str, float | None]  # with its probability
Count = Annotated[int, msgspec.Meta(ge=0)]


class ShownText(TypedDict):
    """A text of `texts-step-N.json`."""

    name: str
    tokens: list[str]
    nats: Values
    num_given: Count


class Texts(TypedDict):
    """`texts-step-N.json`."""

    step: Step
    notes: list[str]
    texts: list[ShownText]


class ByPosition(TypedDict):
    position: list[int]
    mean: Values
    error: Values
    rows: list[int]


class Sentence(TypedDict):
    row: int
    tokens: list[str]
    nats: Values
    alternatives: list[list[Symbol]]


class Worst(TypedDict):
    row: int
    position: int
    before: list[str]
    token: str
    nats: float | None
    alternatives: list[Symbol]


class Map(TypedDict):
    name: str
    values: list[Values]


class OnSentence(TypedDict):
    row: int
    tokens: list[str]
    read: list[str]
    maps: Annotated[list[Map], msgspec.Meta(min_length=1)]


class Usage(TypedDict):
    entropy: float | None
    expected: Values
    answerable: Values
    components: list[int]
    words: list[list[Symbol]]


class Choice(TypedDict):
    choice: str
    alternatives: list[str]
    expected: Values
    answerable: Values


class Transitions(TypedDict):
    before: list[int]
    after: list[int]
    words: list[list[Symbol]]
    values: list[Values]
    num_states: int


class Norms(TypedDict):
    step: Step
    quantiles: list[Values]


class EmbeddingNorms(TypedDict):
    bands: list[str]
    steps: list[Norms]


class Alignment(TypedDict):
    step: Step
    name: str
    values: list[Values]


class Distance(TypedDict):
    step: Step
    values: list[Values]


class Profile(TypedDict):
    """`language-step-N.json`: a part that the model has not is absent."""

    step: Step
    split: str
    family: Literal["sequence VAE", "language model"]
    num_rows: Count
    num_classes: Annotated[int, msgspec.Meta(ge=1)]
    by_position: ByPosition
    sentences: list[Sentence]
    worst: list[Worst]
    attention: NotRequired[OnSentence]
    slots: NotRequired[OnSentence]
    usage: NotRequired[Usage]
    choices: NotRequired[list[Choice]]
    transitions: NotRequired[Transitions]
    embedding_norms: NotRequired[EmbeddingNorms]
    alignments: NotRequired[list[Alignment]]
    distances: NotRequired[list[Distance]]

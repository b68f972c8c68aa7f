"""What the laws of a family are given."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxtyping import PRNGKeyArray

from tightbound.models.base import AbstractModel, AbstractProposal
from tightbound.train.setup import Setup


@dataclass(frozen=True)
class Asked:
    """A setup whose laws are asked: before the first step, or of a trained state."""

    setup: Setup
    pair: tuple[AbstractModel, AbstractProposal]
    key: PRNGKeyArray
    compile: Callable[
        [Callable[..., Any]], Callable[..., Any]
    ]  # of programs that run once or twice
    before_training: bool  # what no parameter changes is asked then alone

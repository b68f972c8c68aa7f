"""What a recipe had set, and a choice of its user leaves unread, goes back to its default. What the user gave
himself is used or refused, whichever came first."""

from dataclasses import dataclass, field, replace

import pytest

from tightbound.command_line.options import parse_with_recipe
from tightbound.errors import UserError
from tightbound.families.lookup import RECIPES
from tightbound.families.settings import with_changes, with_choices
from tightbound.runs.training import TrainOptions
from tightbound.sweep.settings import changed_by
from tightbound.unread import refuse_unread_of, replaced

OMNIGLOT = RECIPES["vrnn/omniglot"]  # sets 8 latents, where 32 is the default


def parsed(*arguments):
    return parse_with_recipe(TrainOptions, "train", ["vrnn/omniglot", *arguments])[0]


def test_a_command_line_may_choose_what_leaves_a_recipes_setting_unread():
    recipe = parsed("--model.family", "rnn", "--no-doctor")
    assert (recipe.model.family, recipe.model.latent_size) == ("rnn", 32)
    assert replace(recipe.model, family="vrnn", latent_size=8) == OMNIGLOT.model
    assert parsed("--run.steps", "7").model == OMNIGLOT.model


@pytest.mark.parametrize("order", [1, -1])
def test_a_setting_given_on_the_command_line_that_nothing_reads_is_refused(order):
    given = [("--model.family", "rnn"), ("--model.latent-size", "9")][::order]
    with pytest.raises(UserError, match="`latent_size` was set to 9, but nothing reads it"):
        parsed(*given[0], *given[1])


@pytest.mark.parametrize(
    ("arguments", "path", "value"),
    [
        (["--model.family=rnn"], "family", "rnn"),
        (["--model.embedding-size", "None"], "family", "vrnn"),
        (["--model.family"], "family", "vrnn"),
        (["--model.nothing", "3", "--model.family", "dmm"], "family", "dmm"),
    ],
)
def test_arguments_that_are_wrong_or_plain_change_no_more_than_they_say(arguments, path, value):
    """Wrong ones are left to the parser, which says so."""
    assert getattr(with_choices(OMNIGLOT, arguments).model, path) == value


def test_a_sweep_may_vary_what_leaves_a_recipes_setting_unread():
    arm = changed_by(OMNIGLOT, {"model.family": "rnn", "run.steps": 5})
    assert (arm.model.latent_size, arm.run.steps) == (32, 5)
    for changes in (["model.family", "model.latent_size"], ["model.latent_size", "model.family"]):
        values = {"model.family": "rnn", "model.latent_size": 9}
        with pytest.raises(UserError, match="`latent_size` was set to 9, but nothing reads it"):
            changed_by(OMNIGLOT, {key: values[key] for key in changes})


def test_a_run_is_looked_at_in_no_way_that_nothing_reads():
    """As by `evaluate --set`."""
    rnn = with_changes(OMNIGLOT, ["model.family=rnn"])
    assert rnn.model.latent_size == 32
    with pytest.raises(UserError, match=r"model.latent_size was set to 9, but with the others"):
        with_changes(rnn, ["model.latent_size=9"])


@dataclass(frozen=True)
class Group:
    rate: float = 1.0


@dataclass(frozen=True)
class Outer:
    kind: str = "fast"
    group: Group = field(default_factory=Group)

    def __post_init__(self):
        if self.kind == "slow":
            refuse_unread_of(self.group, "kind", self.kind, ("rate",))


def test_what_a_group_holds_goes_back_to_its_default_too():
    """A choice outside the group leaves it unread, as the source of data does a model's settings."""
    outer = Outer(group=Group(rate=2.0))
    assert replaced(outer, kind="slow") == Outer("slow", Group(1.0))
    assert replaced(Outer("slow"), group=Group(2.0)) == Outer("slow", Group(1.0))
    with pytest.raises(UserError, match=r"`rate` was set to 2\.0"):
        replace(outer, kind="slow")

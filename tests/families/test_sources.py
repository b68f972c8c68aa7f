"""Settings of data belong to their source: chosen by name, none ignored, saved ones put back."""

import dataclasses
import inspect

import pytest

from tightbound.commands.options import parse_with_recipe
from tightbound.errors import UserError
from tightbound.families.lookup import RECIPES, find_recipe
from tightbound.families.settings import settings_of, with_changes, with_settings
from tightbound.families.sources import classes_of, of_arguments, sources_of, with_source
from tightbound.families.stein.recipe_points import CSVData, MadeUpPoints, UCIData
from tightbound.sweep.settings import changed

UNIONS = sorted(name for name, recipe in RECIPES.items() if hasattr(recipe, "data"))
YACHT = find_recipe("stein/yacht")


@dataclasses.dataclass(frozen=True)
class NoOptions:
    """A command without options of its own."""


@pytest.mark.parametrize("name", UNIONS)
def test_every_source_of_a_recipe_can_be_named_on_the_command_line(name):
    """Oracle: the classes themselves; every setting of each parses under its own name."""
    recipe = find_recipe(name)
    for settings in classes_of(recipe, "data"):
        for source in sources_of(settings):
            found = of_arguments(recipe, ["--data.source", source])
            assert type(found.data) is settings
            assert found.data.source == source
            assert of_arguments(recipe, [f"--data.source={source}"]) == found
    if classes_of(recipe, "data"):
        last = sources_of(classes_of(recipe, "data")[-1])[-1]
        parsed, _, _ = parse_with_recipe(NoOptions, "train", [name, "--data.source", last])
        assert parsed.data.source == last


def test_sources_are_told_apart_and_each_class_names_the_others():
    """No source is read by two classes, so a saved one says which was meant; and the first lines of each
    class's source, its help, name every source of the others."""
    for name in UNIONS:
        classes = classes_of(find_recipe(name), "data")
        sources = [source for one in classes for source in sources_of(one)]
        assert len(sources) == len(set(sources))
        for one in classes:
            shown = " ".join(inspect.getsource(one).partition("path:")[0].split())
            assert all(source in shown for source in set(sources) - set(sources_of(one)))


def test_a_setting_of_another_source_is_refused_by_name():
    """Planted: settings that were ignored without a word when all sources shared one class."""
    for given in (["--data.num-points", "3"], ["--data.num_points=3"]):
        with pytest.raises(UserError, match=r"num-points is a setting of 'line', 'wave', 'two-c"):
            of_arguments(YACHT, given)
    with pytest.raises(UserError, match=r"data.fold is a setting of .*, but data.source is 'line'"):
        of_arguments(YACHT, ["--data.source", "line", "--data.fold", "1"])
    assert of_arguments(YACHT, ["--data.source", "line", "--data.num-points", "3"])
    with pytest.raises(UserError, match=r"'csvv', which is no source .* Did you mean 'csv'"):
        of_arguments(YACHT, ["--data.source", "csvv"])


def test_settings_of_one_name_and_type_stay_where_the_source_changes():
    """By hand: the fold stays; `target`, a choice of two for one and a column for the other, does not."""
    recipe = dataclasses.replace(YACHT, data=UCIData("yacht", fold=3, target="stored"))
    assert with_source(recipe, "data", "csv").data == CSVData(fold=3)
    assert with_source(recipe, "data", "wine").data == UCIData("wine", fold=3, target="stored")
    assert with_source(recipe, "data", "wave").data == MadeUpPoints("wave")


def test_saved_settings_come_back_whatever_their_source():
    """Identity, for every source; and what an older version saved of sources it did not read is left out."""
    for name in UNIONS:
        recipe = find_recipe(name)
        for settings in classes_of(recipe, "data"):
            for source in sources_of(settings):
                other = with_source(recipe, "data", source)
                assert with_settings(recipe, settings_of(other)) == other
    old = {"source": "line", "path": None, "fold": 2, "target": "repository", "num_points": 7}
    assert with_settings(YACHT, {"data": old}).data == MadeUpPoints("line", 7)
    with pytest.raises(UserError, match=r"saved setting data.colour is unknown"):
        with_settings(YACHT, {"data": {"source": "line", "colour": 1}})


def test_sweeps_and_changes_may_name_a_source_and_then_its_settings():
    assert changed(YACHT, "data.source", "csv").data == CSVData()
    assert changed(YACHT, "data", {"source": "line", "num_points": 5}).data == MadeUpPoints(
        "line", 5
    )
    assert with_changes(YACHT, ["data.source=csv", "data.target=price"]).data.target == "price"
    with pytest.raises(UserError, match="no source of this recipe"):
        changed(YACHT, "data.source", "nothing")

"""Arms from lists. Oracle: the settings written out."""

import pytest
from tiny import TinyRecipe

from tightbound.errors import UserError
from tightbound.families.lookup import find_recipe
from tightbound.sweep.grid import make_arms, parse_variation
from tightbound.sweep.settings import changed, setting_keys


def arms(recipe_name, *variations, given=None, recipe=None):
    recipe = find_recipe(recipe_name) if recipe is None else recipe
    return make_arms(recipe_name, recipe, given or {}, [parse_variation(v) for v in variations])


def test_arms_are_all_combinations_the_last_setting_varying_fastest():
    made = arms("vae/digits", "model.depth=[1,2]", 'model.activation=["relu","tanh"]')
    found = [(arm.recipe.model.depth, arm.recipe.model.activation) for arm in made]
    assert found == [(1, "relu"), (1, "tanh"), (2, "relu"), (2, "tanh")]
    assert made[1].label == "model.depth=1, model.activation=tanh"
    assert len({arm.name for arm in made}) == 4


def test_lists_become_the_tuples_of_a_setting():
    made = arms("vrnn/jsb", "data.lengths=[[],[16],[16,32]]")
    assert [arm.recipe.data.lengths for arm in made] == [(), (16,), (16, 32)]
    assert made[2].label == "data.lengths=[16,32]"


def test_a_group_replaces_the_entries_it_is_given_and_no_others():
    recipe = find_recipe("vae/digits")
    made = arms("vae/digits", 'objective=[{"estimator":"iwae","num_samples":5},{"kl_weight":2}]')
    first, second = (arm.recipe.objective for arm in made)
    assert (first.estimator, first.num_samples) == ("iwae", 5)
    assert first.kl_weight == recipe.objective.kl_weight
    assert (second.kl_weight, second.estimator) == (2.0, recipe.objective.estimator)
    assert isinstance(second.kl_weight, float)


def test_recipes_are_varied_by_name_and_take_the_settings_that_were_asked_for():
    made = arms("vae/digits", 'recipe=["vae/digits","vae/mnist"]', given={"run.steps": 7})
    assert [(arm.label, arm.recipe.run.steps) for arm in made] == [
        ("vae/digits", 7),
        ("vae/mnist", 7),
    ]
    assert made[1].recipe.data == find_recipe("vae/mnist").data


def test_an_arm_keeps_its_name_whatever_other_arms_there_are():
    """Its run folders are found again when arms are added."""
    (alone,) = arms("vae/digits", "model.depth=[2]")
    assert arms("vae/digits", "model.depth=[1,2]")[1].name == alone.name
    assert arms("vae/digits", "model.hidden_size=[8,16]")[0].name != (
        arms("vae/digits", "model.hidden_size=[8,16]")[1].name
    )


@pytest.mark.parametrize(
    ("variations", "words"),
    [
        (["model.depth"], r"write KEY=\[JSON list\], in quotes"),
        (["model.depth=3"], r"write KEY=\[JSON list\]"),
        (["model.depth=[]"], r"write KEY=\[JSON list\]"),
        (["model.dept=[1]"], "no setting 'model.dept'. Did you mean 'model.depth'"),
        (["modell=[{}]"], "no setting 'modell'. Did you mean 'model'"),
        (["model.depth.x=[1]"], "no setting 'model.depth.x'"),
        (["name=[1]"], "no setting 'name'"),
        (['model={"depth":1}'], r"write KEY=\[JSON list\]"),
        (['model=[{"dept":1}]'], "The group model has no setting 'dept'"),
        (["model=[3]"], "The setting model cannot be 3: it is declared VAEModel."),
        (["model.depth=[1.5]"], "The setting model.depth cannot be 1.5: it is declared int."),
        (["model.depth=[true]"], "cannot be True"),
        (['model.activation=["sine"]'], "cannot be 'sine': it is declared Literal"),
        (["data.num_valid=[[1]]"], r"cannot be \[1\]: it is declared int \| None"),
        (["model.depth=[1,1]"], "The arm 'model.depth=1' is listed twice"),
        (["model.depth=[1]", "model.depth=[2]"], "varied twice"),
        (["objective.num_samples=[0]"], "`num_samples` is 0, but it must be at least 1"),
        (['recipe=["vae/digit"]'], "There is no recipe 'vae/digit'. Did you mean 'vae/digits'"),
        (["recipe=[3]"], "A recipe is named by text"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_runs(variations, words):
    with pytest.raises(UserError, match=words):
        arms("vae/digits", *variations)


def test_a_setting_of_another_recipe_is_refused_with_the_recipes_name():
    with pytest.raises(
        UserError, match=r"The recipe vrnn/jsb has no setting 'model\.output_scale'"
    ):
        arms("vae/digits", 'recipe=["vrnn/jsb"]', given={"model.output_scale": 2.0})


def test_dashes_are_underlines_as_on_the_command_line():
    assert parse_variation("model.latent-size=[2]").key == "model.latent_size"


def test_settings_and_groups_of_a_recipe_of_ones_own_are_found():
    keys = setting_keys(TinyRecipe())
    assert {"start", "start.lags", "learning_rate", "run", "run.steps"} <= set(keys)
    assert not {"name", "summary"} & set(keys)
    assert changed(TinyRecipe(), "start.lags", [1, 2]).start.lags == (1, 2)
    assert changed(TinyRecipe(), "learning_rate", 1).learning_rate == 1.0

"""Recipes of language models: the table has every row of the study, and settings make what they name."""

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

from tightbound.data.sequences import Sequence
from tightbound.errors import UserError
from tightbound.families.language.lower_bound import OnLowerBound
from tightbound.families.language.pair import model_and_proposal
from tightbound.families.language.recipe import RECIPES, LanguageRecipe
from tightbound.families.language.settings import LatentSettings, StructureSettings, TokenData
from tightbound.terms import Kind
from tightbound.unread import replaced

# Of the report: 36 to 39, 42, 48 and 49 do not exist.
NUMBERS = {*range(1, 36), 40, 41, *range(43, 48), *range(50, 57)}
LEAKED = {22, 23, 26, 28, 29, 43, 44, 46, 47, *range(50, 55)}
TOY = RECIPES["dlm/toy-grammar"]
LENGTH, SYMBOLS = 5, 7


def small(recipe: LanguageRecipe):
    """The recipe's model with a few numbers in each of its parts."""
    settings = replaced(recipe.model, size=8, num_components=32, num_heads=2)
    if settings.structure.kind != "factorial":
        settings = replaced(settings, num_components=4)
    settings = replaced(settings, latent=replaced(settings.latent, size=2))
    return model_and_proposal(settings, SYMBOLS, LENGTH, True, jax.random.key(0))


def changed(**changes):
    """The toy recipe with other settings; "model_" and "data_" name the group of a field."""
    recipe = TOY
    for name, value in changes.items():
        group, _, field = name.partition("_")
        part = replaced(getattr(recipe, group), **{field: value})
        recipe = replaced(recipe, **{group: part})
    return recipe


def test_every_model_of_the_report_has_a_recipe():
    named = {name.removeprefix("dlm/") for name in RECIPES}
    assert {int(name) for name in named if name.isdigit()} == NUMBERS
    as_run = {int(name.removesuffix("-original")) for name in named if name[0].isdigit()} - NUMBERS
    assert not as_run


def test_only_the_arms_as_first_run_leak_and_sum_their_gradients():
    for name, recipe in RECIPES.items():
        as_run = name.endswith("-original")
        number = name.removeprefix("dlm/").removesuffix("-original")
        leaks = as_run and (number == "iid-residues" or int(number) in LEAKED)
        assert (recipe.model.normalisation == "time") is leaks, name
        sums = as_run and number != "iid-residues"
        assert (recipe.optimiser.forget_every > 1) is sums, name
        assert (recipe.data.rules == "original") is sums, name


@pytest.mark.parametrize("number", sorted(NUMBERS))
def test_every_row_of_the_table_scores_a_sentence(number):
    """Abstract evaluation of the small model: one log p for each token, and a site for a latent where the
    row has one."""
    model, proposal = small(RECIPES[f"dlm/{number}"])
    x = Sequence(jnp.array([4, 5, 3, 2, 0]), jnp.array([True] * 4 + [False]))

    def score():
        z = proposal.proposal(x).sample(jax.random.key(1))
        return model.score(x, z)

    scores = eqx.filter_eval_shape(score)
    assert scores["token"].shape == (LENGTH,)
    assert (Kind.LATENT in model.kinds.values()) is (number >= 50)
    assert ("z" in scores) is (number >= 50)


def test_settings_choose_the_objective():
    factorial = replaced(RECIPES["dlm/19"], data=TokenData("toy-grammar"))
    setup = replaced(factorial, model=replaced(factorial.model, size=8, num_components=32)).build(0)
    assert isinstance(setup.objective, OnLowerBound)
    setup = changed(model_size=8).build(0)
    assert setup.claim is not None
    assert setup.claim.estimator == "elbo"
    assert setup.entropy is not None
    assert set(setup.baselines) == {
        "uniform",
        "unigram",
        *(f"kneser-ney-{n}" for n in (2, 3, 4, 5)),
    }


def test_a_recipe_without_a_latent_says_nothing_of_one():
    """Planted once: a row's `size` went to the latent, which was not there, and not to the model."""
    latents = [recipe.model.latent for recipe in RECIPES.values()]
    assert all(latent == LatentSettings() for latent in latents if latent.kind == "none")


def test_an_auto_encoder_claims_nothing_and_has_nothing_to_beat():
    recipe = replaced(RECIPES["dlm/53"], data=TokenData("toy-grammar"))
    setup = replaced(recipe, model=replaced(recipe.model, size=8)).build(0)
    assert not setup.is_bound
    assert setup.baselines == {}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model_mutations": (1,)}, "with the context 'lstm', which has none"),
        ({"model_context": "gpt", "model_num_starts": 2}, "'gpt', which has no state"),
        ({"model_context": "mgru", "model_mutations": (7,)}, "6"),
        ({"model_context": "single-gate", "model_mutations": (8,)}, "from 0 to 7"),
        ({"model_context": "window", "model_window": 0}, "A window of 0 words was asked for"),
        (
            {"model_structure": StructureSettings("permutations")},
            "with the context 'lstm', which is none",
        ),
        ({"model_size": 0}, r"`model\.size` is 0, but it counts something: give at least 1"),
        ({"model_context": "gpt", "model_num_heads": 0}, r"`model\.num_heads` is 0"),
        ({"model_context": "gpt", "model_num_layers": -1}, r"`model\.num_layers` is -1"),
        (
            {"data_source": "multi30k", "data_path": __file__},
            r"is a folder of them\. For a text of yours give --data.source file",
        ),
        ({"data_source": "file"}, r"'file' reads a text of yours: give it as --data\.path"),
        ({"data_path": __file__}, "is made up and reads no file"),
        ({"objective_latent_noise": False}, "no latent for the whole sequence"),
    ],
)
def test_settings_that_contradict_are_refused(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        changed(**changes).build(0)

"""The referee that sums out strings: against all writings of a tiny model, and against its own law."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import logsumexp

from tightbound.data.sentences import Sentence
from tightbound.families.edits.exact import all_writings
from tightbound.families.edits.exact_strings import all_strings, log_marginals
from tightbound.families.edits.model import EditModel

TINY = {"size": 4, "hidden_size": 4, "num_heads": 1, "num_layers": 1}


def tiny(**changes):
    """Two words, strings of at most two, at most three strings."""
    settings = TINY | {"handed_on": "tokens"} | changes
    return EditModel(5, 2, 3, **settings, key=jax.random.key(0))


@pytest.fixture(scope="module")
def marginals():
    return log_marginals(tiny())


def test_every_string_has_its_share_and_all_shares_make_one(marginals):
    """Oracle: a law sums to one over all it can be."""
    strings, log_p = marginals
    assert len(strings) == 1 + 2 + 4
    np.testing.assert_allclose(np.exp(log_p).sum(), 1.0, rtol=1e-10)


def test_summing_string_by_string_is_summing_over_all_writings(marginals):
    """Oracle: enumeration of every trajectory with all its edits, by teacher forcing. A law of steps
    that is left out breaks it."""
    model = tiny()
    trajectories, edits = all_writings(model)
    x = Sentence(jnp.zeros(2, int), jnp.zeros((), int))
    score = jax.jit(jax.vmap(lambda z, e: sum(t.sum() for t in model.score(x, (z, e)).values())))
    log_joint = score(trajectories, edits)
    last = np.asarray(jax.vmap(lambda z: z.last)(trajectories))
    strings, log_p = marginals
    for string, expected in zip(strings, log_p, strict=True):
        members = (last == string).all(1)
        assert float(logsumexp(log_joint[members])) == pytest.approx(expected, abs=1e-10)
    assert not np.allclose(log_p + float(model.log_stop()[0]), log_p)


def test_models_whose_strings_do_not_sum_out_are_refused():
    for changes in ({"handed_on": "edits"}, {"condition_on_step": True}):
        with pytest.raises(ValueError, match="summed out one by one"):
            log_marginals(tiny(**changes))


def test_all_strings_are_listed_once():
    strings = all_strings(6, 3)
    assert len(strings) == 1 + 3 + 9 + 27 == len({tuple(string) for string in strings})

"""The figures of Stein mixtures, for `verify.py`: each function is one check."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

Command = Callable[..., Any]  # a command's JSON document

DIMENSIONS, COMPONENTS, REPULSIONS = (1, 10, 100), (1, 5, 20), (0.1, 1.0)


def last_state(setup: Any) -> Any:
    """The state after all steps of a setup, without a folder."""
    from tightbound.train.loop import fit
    from tightbound.train.run import batches_of, first_state, run_keys

    state, (_, key, _) = first_state(setup), run_keys(setup.seed)
    for record in fit(
        state, batches_of(setup), setup.objective, setup.optimiser, key=key, noise=setup.noise
    ):
        if record.step == setup.run.steps:
            return record.state
    raise AssertionError("batches have no end")


def mixture_variance(proposal: Any) -> float:
    """The variance of a mixture of diagonal normals or of points, averaged over dimensions:
    mean of s_l^2 + variance of m_l."""
    parts = proposal.components
    means = np.asarray(parts.value if hasattr(parts, "value") else parts.mean, float)
    scales = np.zeros_like(means)
    if not hasattr(parts, "value"):
        scales = np.exp(np.asarray(parts.log_scale, float))
    return float((np.square(scales).mean(0) + means.var(0)).mean())


def gaussian_grid() -> dict[str, Any]:
    """N(0, I_d): the mixture's dimension-averaged variance, which must be 1, for every size and two
    repulsions, beside an independent NumPy implementation (of the tests, 5,000 steps); and what SVGD
    has of it."""
    import jax

    sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "inference"))
    from stein_reference import numpy_stein_gaussian

    found: dict[str, Any] = {"stein": {}, "numpy": {}, "svgd": {}}
    for size in DIMENSIONS:
        for count in COMPONENTS:
            for repulsion in REPULSIONS:
                setup = _gaussian(size, count, repulsion)
                variance = mixture_variance(last_state(setup).proposal)
                name = f"d {size}, m {count}, repulsion {repulsion:g}"
                found["stein"][name] = round(variance, 4)
                reference = numpy_stein_gaussian(size, count, repulsion, 5000, 0.05, 0)
                found["numpy"][name] = round(reference, 4)
                print(name, variance, flush=True)
            jax.clear_caches()
        svgd = _gaussian(size, 20, 1.0, method="svgd")
        found["svgd"][f"d {size}, m 20"] = round(mixture_variance(last_state(svgd).proposal), 4)
        print("svgd", size, found["svgd"], flush=True)
    return found


def _gaussian(size: int, count: int, repulsion: float, **settings: Any) -> Any:
    from tightbound.families.stein.recipe_targets import RECIPES

    base = RECIPES["stein/gaussian"]
    recipe = replace(
        base,
        target=replace(base.target, latent_size=size),
        mixture=replace(base.mixture, num_components=count, repulsion=repulsion, **settings),
        run=replace(base.run, steps=10_000),
    )
    return recipe.build(0)


def two_modes(keys: Sequence[int] = range(20)) -> dict[str, Any]:
    """1/2 N(-3, 1) + 1/2 N(3, 1) with 20 components: the mass of the mixture above 0, by key."""
    from scipy.stats import norm

    from tightbound.families.stein.recipe_targets import RECIPES

    masses = []
    for key in keys:
        parts = last_state(RECIPES["stein/two-modes"].build(key)).proposal.components
        means = np.asarray(parts.mean, float)[:, 0]
        scales = np.exp(np.asarray(parts.log_scale, float))[:, 0]
        masses.append(round(float(norm.sf(0, means, scales).mean()), 4))
        print(key, masses[-1], flush=True)
    return {"mass above 0": masses, "within 0.15": sum(abs(m - 0.5) <= 0.15 for m in masses)}


# --- regressions ---------------------------------------------------------------------------------

UCI_SETS, UCI_METHODS, FOLDS = (
    ("yacht", "energy", "concrete", "wine"),
    ("stein", "single-guide", "svgd"),
    range(10),
)


def uci(name: str, method: str) -> dict[str, Any]:
    """Test log-likelihood and RMSE of one method on all folds of one set, in the repository's units:
    the mean over folds and its standard error."""
    import jax
    import jax.numpy as jnp
    from scipy.special import logsumexp

    from tightbound.evaluation import evaluate
    from tightbound.families.stein.recipe_points import RECIPES
    from tightbound.inference.predictive import predicted

    base = RECIPES[f"stein/{name}"]
    # SVGD's points are no guides: its draws would all be the same
    draws = 1 if method == "svgd" else base.mixture.draws
    setups = [
        replace(
            base,
            data=replace(base.data, fold=fold),
            mixture=replace(base.mixture, method=method, draws=draws),
        ).build(0)
        for fold in FOLDS
    ]
    nats, errors, bounds = [], [], []
    for setup, state in zip(setups, trained_together(setups), strict=True):
        test, scale = setup.data["test"], target_scale_of(setup)
        found = evaluate(state.model, state.proposal, test, num_samples=1000, key=jax.random.key(1))
        log_p = logsumexp(found.log_p["y"], axis=0) - np.log(1000)
        nats.append(float(scale.log_density(log_p).mean()))
        train = setup.data["train"]
        pair = (state.model, state.proposal)
        whole = train.take(np.arange(len(train)))
        drawn = predicted(
            *(*pair, whole, jnp.asarray(test.x.inputs)), num_samples=200, key=jax.random.key(2)
        )
        error = np.asarray(drawn.expected).mean((0, 1)) - test.x.target
        errors.append(float(np.sqrt(np.square(error).mean())) * scale.scale)
        own = evaluate(*pair, train, num_samples=100, key=jax.random.key(3))
        bounds.append(float(own.log_weights.mean()) / len(train))
    return {
        "negative log-likelihood": _over_folds(-np.array(nats)),
        "RMSE": _over_folds(np.array(errors)),
        # a point has no density, so no bound
        "training ELBO per point": None if method == "svgd" else _over_folds(np.array(bounds)),
    }


def _over_folds(values: np.ndarray) -> dict[str, Any]:
    return {
        "mean": round(float(values.mean()), 4),
        "standard error": round(float(values.std(ddof=1) / np.sqrt(len(values))), 4),
        "folds": [round(float(value), 3) for value in values],
    }


def trained_together(setups: Sequence[Any], chunk: int = 500) -> list[Any]:
    """The last states of setups that differ in their data alone, trained side by side in one program:
    the same updates as one after the other, in a fraction of the time."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    from tightbound.train.loop import train_step
    from tightbound.train.run import batches_of, first_state, run_keys

    first = setups[0]
    split = [eqx.partition(first_state(setup), eqx.is_array) for setup in setups]
    arrays = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[a for a, _ in split])
    static = split[0][1]
    _, key, _ = run_keys(first.seed)

    @jax.jit
    def steps(arrays, batches):
        def one(arrays, batch):
            def of_one(arrays, batch):
                state, _ = train_step(
                    *(eqx.combine(arrays, static), batch, key),
                    *(first.objective, first.optimiser, first.noise),
                )
                return eqx.filter(state, eqx.is_array)

            return jax.vmap(of_one)(arrays, batch), None

        return jax.lax.scan(one, arrays, batches)[0]

    sources = [batches_of(setup) for setup in setups]
    stack = lambda trees: jax.tree.map(lambda *leaves: np.stack(leaves), *trees)  # noqa: E731
    for _ in range(0, first.run.steps, chunk):
        batches = stack([stack([next(source) for source in sources]) for _ in range(chunk)])
        arrays = steps(arrays, batches)
    return [
        eqx.combine(jax.tree.map(lambda leaf, i=i: leaf[i], arrays), static)
        for i in range(len(setups))
    ]


# --- what goes wrong, and whether it is said -----------------------------------------------------

RATES, KEYS, STEPS = (1e-3, 1e-2, 5e-2), range(33), 500


def guard_study(optimisers: Sequence[str] = ("adam", "adagrad")) -> dict[str, Any]:
    """33 keys x 2 optimisers x 3 learning rates on a small `stein/mnist`: whether a parameter ever was
    no number, and whether every run that was stopped, or that ends below its bound of step 100, is
    named by a finding."""
    import jax

    found: dict[str, Any] = {"runs": 0, "parameters not finite": 0}
    rows: list[dict[str, Any]] = []
    for name in optimisers:
        rows += list(_runs(name))
        jax.clear_caches()
    found["runs"] = len(rows)
    found["parameters not finite"] = sum(not row["finite"] for row in rows)
    for rate in RATES:
        for name in optimisers:
            here = [row for row in rows if row["rate"] == rate and row["optimiser"] == name]
            ill = [row for row in here if row["stopped"] or row["fell"]]
            found[f"{name}, rate {rate:g}"] = {
                "runs": len(here),
                "stopped by the guard": sum(row["stopped"] for row in here),
                "ended below step 100": sum(row["fell"] for row in here),
                "of these named": sum(bool(row["faults"]) for row in ill),
                "named among the others": sum(bool(row["faults"]) for row in here)
                - sum(bool(row["faults"]) for row in ill),
                "codes": sorted({code for row in here for code in row["faults"]}),
                "bound at the end": round(float(np.median([row["bound"] for row in here])), 1),
            }
    return found


def _runs(name: str) -> Iterator[dict[str, Any]]:
    """Every run of one optimiser: the step and the probe are compiled once, for the largest rate; the
    others scale its updates."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    from tightbound.data.batch import training_batches
    from tightbound.diagnose.probes import is_probe_step, make_probe
    from tightbound.diagnose.watch import verdict
    from tightbound.evaluation import evaluate
    from tightbound.train.guard import stopped_at
    from tightbound.train.loop import compile_step
    from tightbound.train.run import first_state, run_keys

    setup = _small_mnist(name, 0)
    probe = make_probe(setup)
    steps_of: Any = None
    for rate in RATES:
        for seed in KEYS:
            state = first_state(_small_mnist(name, seed, setup.data))
            state = eqx.tree_at(
                lambda s: s.learning_rate_scale, state, jnp.asarray(rate / max(RATES), jnp.float32)
            )
            leaves, unflatten, compiled = compile_step(
                state, setup.objective, setup.optimiser, setup.noise
            )
            steps_of = steps_of or (unflatten, compiled)
            unflatten, compiled = steps_of
            _, key, evaluation_key = run_keys(seed)
            batches = training_batches(setup.data["train"], setup.run.batch_size, seed=seed)
            history, bounds = [probe(state)], {}
            for step, batch in zip(range(1, STEPS + 1), batches, strict=False):
                leaves, _ = compiled(leaves, batch, key)
                if is_probe_step(step):
                    history.append(probe(unflatten(leaves)))
                if step in (100, STEPS):
                    now = unflatten(leaves)
                    weighed = evaluate(
                        *(now.model, now.proposal, setup.data["valid"]),
                        num_samples=3,
                        key=evaluation_key,
                        noise=setup.noise,
                    )
                    bounds[step] = float(weighed.log_weights.mean())
            last = unflatten(leaves)
            findings = verdict(setup, history, finished=False)
            row = {
                "optimiser": name,
                "rate": rate,
                "seed": seed,
                "stopped": stopped_at(last.opt_state) is not None,
                "fell": not bounds[STEPS] >= bounds[100],
                "bound": bounds[STEPS],
                "finite": all(
                    np.isfinite(np.asarray(leaf)).all()
                    for leaf in jax.tree.leaves(
                        eqx.filter((last.model, last.proposal), eqx.is_inexact_array)
                    )
                ),
                "faults": [finding.code for finding in findings.faults],
            }
            print(row, flush=True)
            yield row


def _small_mnist(name: str, seed: int, data: Any = None) -> Any:
    """`stein/mnist` with 2,000 images, three encoders of 64 units and 8 latents, batches of 64."""
    from tightbound.data.batch import first_rows
    from tightbound.families.stein.recipe_encoders import RECIPES

    base = RECIPES["stein/mnist"]
    setup = replace(
        base,
        model=replace(base.model, latent_size=8, hidden_size=64),
        mixture=replace(base.mixture, num_components=3),
        optimiser=replace(base.optimiser, name=name, learning_rate=max(RATES)),
        run=replace(base.run, steps=STEPS, batch_size=64),
    ).build(seed)
    data = data or {
        "train": first_rows(setup.data["train"], 2000),
        "valid": first_rows(setup.data["valid"], 200),
    }
    return replace(setup, data=data, baselines={})


# --- the log's auto-encoder ----------------------------------------------------------------------

SINGLE = ("--mixture.method", "single-guide", "--mixture.num-components", "1")
# A step of five components takes 6 times as long as one of a single guide (`benchmarks/stein_step.py`).
MNIST_RUNS: dict[str, tuple[str, ...]] = {
    "stein mixture, m = 5": (),
    "single guide, equal steps": SINGLE,
    "single guide, equal time": (
        *SINGLE,
        *("--run.steps", "41904", "--run.evaluate-every", "4660", "--run.checkpoint-every", "4660"),
    ),
}


def mnist(tightbound: Command, runs: Path, key: int) -> dict[str, Any]:
    """The log's protocol with one key: 15 epochs with five components, beside a single guide."""
    found: dict[str, Any] = {}
    for name, settings in MNIST_RUNS.items():
        folder = str(runs / f"stein-mnist-{name.replace(' ', '-').replace(',', '')}-{key}")
        tightbound(
            *("train", "stein/mnist", *settings, "--seed", str(key), "--run-dir", folder),
            codes=(0, 1),
        )
        elbo = tightbound("evaluate", folder, "--bound", "elbo", "--num-samples", "5")
        iwae = tightbound("evaluate", folder, "--bound", "iwae", "--num-samples", "100")
        found[name] = {
            "elbo": elbo["estimates"][0],
            "iwae": iwae["estimates"][0],
            **{figure: round(value["value"], 5) for figure, value in elbo["figures"].items()},
        }
    return found


def checks(tightbound: Command, runs: Callable[[], Path]) -> dict[str, Callable[[], Any]]:
    """Every check of this file by name."""
    return {
        "stein/gaussian grid": gaussian_grid,
        "stein/two modes": two_modes,
        **{
            f"stein/uci {name}, {method}": lambda name=name, method=method: uci(name, method)
            for name in UCI_SETS
            for method in UCI_METHODS
        },
        "stein/guard": guard_study,
        **{
            f"stein/mnist, key {key}": lambda key=key: mnist(tightbound, runs(), key)
            for key in range(3)
        },
    }

"""The figures of the edit models, for `verify.py`: each function is one check."""

import json
import sys
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

Command = Callable[..., Any]  # a command's JSON document
TEXT_SECONDS = 600  # of training, for every model of the same text


def doubling(tightbound: Command, runs: Path) -> dict[str, Any]:
    """The bound with a known limit, for three keys: where it ends, the seconds it takes, and the
    largest fall of an evaluation below the best before it, after step 50."""
    found: dict[str, Any] = {"limit": "-log 3 = -1.0986"}
    for seed in range(3):
        folder = runs / f"doubling-{seed}"
        begun = time.monotonic()
        tightbound(
            *("train", "edits/doubling", "--run-dir", str(folder), "--seed", str(seed)),
            "--no-doctor",
        )
        seconds = round(time.monotonic() - begun, 1)
        curve = held_out(folder)
        best, fall = float("-inf"), 0.0
        for step, bound in curve:
            fall = max(fall, best - bound) if step > 50 else fall
            best = max(best, bound)
        found[f"seed {seed}"] = {"final": curve[-1][1], "largest_fall": fall, "seconds": seconds}
    return found


def other_laws(tightbound: Command, runs: Path) -> dict[str, Any]:
    """The run of seed 0 under random drop, at every checkpoint; and trained on random drop."""
    found: dict[str, Any] = {}
    folder = str(runs / "doubling-0")
    drop = ("--set", "evaluate_law=token-drop", "--num-samples", "64")
    for step in (0, 100, 200, 300, 400, 500):
        document = tightbound("evaluate", f"{folder}@{step}", *drop)
        found[f"halving, evaluated on drop, step {step}"] = document["estimates"][0]["value"]
    iwae = tightbound("evaluate", folder, *drop[:2], "--bound", "iwae", "--num-samples", "512")
    found["the same, IWAE-512"] = iwae["estimates"][0]["value"]
    trained = runs / "doubling-trained-on-drop"
    tightbound(
        *("train", "edits/doubling", "--run-dir", str(trained), "--no-doctor"),
        *("--noising.law", "token-drop"),
    )
    found |= {f"trained on drop, step {s}": b for s, b in held_out(trained) if s in (10, 100, 500)}
    return found


def exact_gap() -> dict[str, Any]:
    """KL(q || p(z | x)) under both laws, exactly: log p(x) by summing over all strings of a model
    whose edits sum out, less the ELBO by summing over all trajectories of q."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax

    from tightbound.data.batch import training_batches
    from tightbound.data.sentences import PAD
    from tightbound.data.toys.strings import doubling_toy
    from tightbound.families.edits.deterministic import Halving
    from tightbound.families.edits.exact_strings import log_marginals
    from tightbound.families.edits.model import EditModel
    from tightbound.families.edits.token_drop import TokenDrop
    from tightbound.families.edits.trajectory import Trajectory
    from tightbound.train.loop import fit, init_state
    from tightbound.train.objective import Objective

    splits, vocabulary = doubling_toy(held_out=False, doublings=2, unseen="")
    train = splits["train"]
    model = EditModel(
        len(vocabulary), 4, 3, size=32, hidden_size=64, num_layers=1, handed_on="tokens",
        key=jax.random.key(0),
    )  # fmt: skip
    chains = [(4,), *((a, 4) for a in range(1, 5))]
    chains += [(a, b, 4) for b in range(1, 5) for a in range(1, b + 1)]
    laws = {"halving": Halving(3), "token drop": TokenDrop(probability=0.5, max_steps=3)}

    @eqx.filter_jit
    def log_joint(model, x, trajectories):
        def one(z):
            scores = model.summed(x, z).values()
            return sum((p if q is None else p - q).sum() for p, q in scores)

        return jax.vmap(one)(trajectories)

    def bounds(model) -> dict[str, float]:
        strings, log_p = log_marginals(model)
        batch = train.take(np.arange(len(train)))
        exact, elbos = [], {name: [] for name in laws}
        for row, tokens in enumerate(np.asarray(batch.x.tokens)):
            x = jax.tree.map(lambda leaf, row=row: jnp.asarray(leaf[row]), batch.x)
            at = np.flatnonzero((strings == tokens).all(1))[0]
            exact.append(log_p[at])
            tables = np.full((len(chains), 3, 4), PAD)
            for number, chain in enumerate(chains):
                for step, words in enumerate(chain):
                    tables[number, step, :words] = tokens[0]
            z = jax.vmap(Trajectory)(jnp.asarray(tables), jnp.array([len(c) for c in chains]))
            joint = np.asarray(log_joint(model, x, z))
            for name, law in laws.items():
                log_q = np.asarray(jax.vmap(law.proposal(x).log_prob)(z))
                drawn = np.isfinite(log_q)
                elbos[name].append(float(np.exp(log_q[drawn]) @ (joint - log_q)[drawn]))
        mean = float(np.mean(exact))
        found = {"log p(x)": mean}
        for name, values in elbos.items():
            found |= {
                f"ELBO, {name}": float(np.mean(values)),
                f"KL, {name}": mean - float(np.mean(values)),
            }
        return found

    found = {"step 0": bounds(model)}
    optimiser = optax.adam(3e-3)
    state = init_state(model, Halving(3), optimiser)
    batches = training_batches(train, 3, seed=0)
    for record in fit(state, batches, Objective("elbo"), optimiser, key=jax.random.key(1)):
        if record.step in (30, 100, 300):
            found[f"step {record.step}"] = bounds(record.state.model)
        if record.step == 300:
            break
    assert all(a["log p(x)"] <= b["log p(x)"] + 0.1 for a, b in pairwise(list(found.values())))
    return found


def exchangeable(tightbound: Command, runs: Path) -> dict[str, Any]:
    """Letters never seen, by decision, in nats per word: all but the letter itself should be free."""
    folder = str(runs / "doubling-exchangeable")
    tightbound("train", "edits/doubling-exchangeable", "--run-dir", folder, "--no-doctor")
    document = tightbound("evaluate", folder, "--num-samples", "64")
    sites = {name: value["value"] / 8 for name, value in document["sites"].items()}
    words = ("op", "token", "index", "choice", "reweighting")
    first = sum(sites[f"first {name}"] for name in ("op", "token", "index"))
    return {
        "elbo": document["estimates"][0],
        "first words, nats per word": first,
        "other words with their choice": sum(sites[name] for name in words),
        "end": sites["end"],
        "steps": sites["steps"],
    }


def original(tightbound: Command, runs: Path) -> dict[str, Any]:
    """The configuration whose bound only went down, and what is said of it."""
    folder = runs / "doubling-original"
    findings = tightbound(
        "train", "edits/doubling-original", "--run-dir", str(folder), codes=(0, 1)
    )["findings"]
    curve = held_out(folder)
    why = tightbound("why", str(folder))
    under_trained = why["change_under_trained_law"]
    return {
        "held out": {f"step {s}": b for s, b in curve if s in (10, 50, 100, 150, 200)},
        "best": max(curve, key=lambda point: point[1])[1],
        "faults": [f["code"] for f in findings if f["verdict"] == "FAULT"],
        "causes": [f["causes"][0]["name"] for f in findings if f["causes"]],
        "why: change": why["change"]["value"],
        "why: under the trained law": None if under_trained is None else under_trained["value"],
    }


ADVISED: Mapping[str, tuple[str, ...]] = {
    "as it is": (),
    "a tenth of the rate": ("--optimiser.learning-rate", "3e-5"),
    "embeddings of variance 1/512": ("--model.embedding-scale", "None"),
}


def same_trajectories(tightbound: Command, runs: Path, steps: int) -> dict[str, Any]:
    """The bound that jumps, and what becomes of it when the advice of its finding is followed, or that
    of a smaller step: where it begins, where it is in the second half, its largest fall there."""
    recipe = "edits/doubling-same-trajectories"
    found: dict[str, Any] = {}
    for name, advice in ADVISED.items():
        folder = runs / f"same-trajectories-{'-'.join(name.split()).replace('/', '-')}"
        length = ("--run.steps", str(steps), "--no-doctor")
        tightbound("train", recipe, "--run-dir", str(folder), *length, *advice)
        curve = held_out(folder)
        late = [bound for step, bound in curve if step >= steps // 2]
        falls = [before - after for before, after in pairwise(late)]
        found[name] = {
            "step 0": curve[0][1],
            "worst": min(late),
            "best": max(late),
            "last": late[-1],
        }
        found[name]["largest fall"] = max(falls)
    return found


def text(tightbound: Command, runs: Path, source: str, names: tuple[str, ...]) -> dict[str, Any]:
    """The same seconds of training for every model of a text, then test bounds per word, and the
    gap to the autoregressive one by kind of decision."""
    found: dict[str, Any] = {}
    baseline = str(runs / f"{source}-autoregressive")
    for name in (f"{source}-autoregressive", *names):
        folder = str(runs / name)
        tightbound(
            *("train", f"edits/{name}", "--run-dir", folder, "--no-doctor"),
            *("--max-minutes", str(TEXT_SECONDS / 60)),
        )
        found[name] = on_test(tightbound, folder, exact=name.endswith("autoregressive"))
        if folder != baseline:
            compared = tightbound(
                *("compare", folder, baseline, "--num-samples", "4", "--max-rows", "500"),
                *("--unit", "nats per unit"),
            )
            found[name]["gap"] = compared["comparison"]["difference"]
            found[name]["gap by decision"] = {
                site: value["difference"] for site, value in compared["sites"].items()
            }
    return found


def on_test(tightbound: Command, folder: str, *, exact: bool) -> dict[str, Any]:
    """ELBO and IWAE per word on the first 500 test sentences; of an exact model one draw is all."""
    rows = ("--max-rows", "500", "--unit", "nats per unit")
    elbo = tightbound("evaluate", folder, "--num-samples", "1" if exact else "4", *rows)
    found: dict[str, Any] = {"elbo": elbo["estimates"][0]}
    if not exact:
        iwae = tightbound("evaluate", folder, "--bound", "iwae", "--num-samples", "16", *rows)
        found["iwae-16"] = iwae["estimates"][0]
    return found


def held_out(folder: Path) -> list[tuple[int, float]]:
    """Step and held-out bound of every evaluation of a run."""
    records = map(json.loads, (folder / "steps.jsonl").read_text().splitlines())
    return [(r["step"], float(r["held_out"]["bound"]["value"])) for r in records if "held_out" in r]


if __name__ == "__main__":
    sys.exit("This is a part of `scripts/verify.py`; run `make verify`.")

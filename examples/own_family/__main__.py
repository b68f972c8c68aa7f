"""The family as a library: check, train, explain."""

import sys
import tempfile
from pathlib import Path

import jax

import tightbound as tb

sys.path.insert(0, str(Path(__file__).parent.parent))


def main() -> None:
    from own_family import recipe

    setup = recipe.build(seed=0)
    findings = tb.check(setup)
    print(findings)
    with tempfile.TemporaryDirectory() as folder:
        first = tb.first_state(setup)
        last = first
        for progress in tb.run(setup, tb.RunFolder(folder)):
            last = progress.state
            if progress.logged and "held_out" in progress.logged:
                bound = tb.Estimate.from_json(progress.logged["held_out"]["bound"])
                print(f"step {progress.step}: {bound}")
    explanation = tb.why(setup, tb.first_state(setup), last, key=jax.random.key(1))
    print(f"from step 0 to {explanation.last_step}: {explanation.change}")
    for site, parts in explanation.modules.items():
        print(f"  {site}: " + ", ".join(f"{name} {value:+.2f}" for name, value in parts.items()))


if __name__ == "__main__":
    main()

"""The command line: one word picks a command, and only that command's modules are imported."""

import difflib
import errno
import importlib
import os
import sys
from collections.abc import Sequence

from tightbound.errors import UserError

COMMANDS = {
    "demo": "the whole idea in a few minutes: check, train, plant a bug, find it, report",
    "recipes": "list what can be trained, with its settings",
    "check": "before: is this a probability model at all? laws and exact twins, in seconds",
    "train": "during: train in a run folder, with the doctor riding along",
    "why": "after: which term, which data, which module made the bound move",
    "doctor": "after: what is wrong with a run, or with saved log-weights, and what to change",
    "evaluate": "after: a bound with both its errors, whatever trained the model",
    "compare": "after: two runs on the same rows, paired",
    "sweep": "many settings side by side, several seeds each: a table that calls ties ties",
    "sample": "draw from a trained model, as PNG",
    "report": "one HTML file of a run, readable offline",
    "runs": "list runs and the settings in which they differ",
    "explain": "what a finding's code means",
    "data": "list, fetch or verify data sets",
    "drill": "plant every fault of the catalogue and count what is found",
}

EXIT_FINE, EXIT_FAULT, EXIT_MISUSE, EXIT_INTERRUPTED = 0, 1, 2, 130  # 130: as shells count SIGINT


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 fine, 1 a FAULT was found, 2 the call or its input is wrong."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_usage())
        return EXIT_FINE
    if arguments[0] in ("-V", "--version"):
        from tightbound import __version__

        print(__version__)
        return EXIT_FINE
    command, *rest = arguments
    if command not in COMMANDS:
        close = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        print(f"There is no command {command!r}.{hint} See `tightbound --help`.", file=sys.stderr)
        return EXIT_MISUSE
    # XLA prints that a program compiles slowly as if it were an error. Its errors come as exceptions.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read when JAX is imported; 0 shows all
    try:
        return importlib.import_module(f"tightbound.commands.{command}").main(rest)
    except UserError as error:
        print(f"tightbound {command}: {error}", file=sys.stderr)
        return EXIT_MISUSE
    except KeyboardInterrupt:
        print(f"tightbound {command}: stopped at once; what was saved is whole.", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output went away, for instance `head`
        sys.stderr.close()
        return EXIT_FINE
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        print(
            f"tightbound {command}: the disk is full ({error.filename}). What was whole stays as it was; "
            "free some space and run the same command again.",
            file=sys.stderr,
        )
        return EXIT_MISUSE
    except ModuleNotFoundError as error:
        missing = _extra_of(error.name or "")
        if missing is None:
            raise
        print(
            f"tightbound {command}: this needs {error.name}, which is not installed. "
            f"Install it with: pip install 'tightbound[{missing}]'",
            file=sys.stderr,
        )
        return EXIT_MISUSE


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {says}" for name, says in COMMANDS.items()]
    return "\n".join(
        [
            "usage: tightbound COMMAND [options]     (COMMAND --help shows its options)",
            "",
            "Trains latent-variable models and tells you why the bound isn't going up.",
            "",
            *lines,
        ]
    )


def _extra_of(module: str) -> str | None:
    """The extra that brings a module; None for one we never meant to import."""
    extras = {
        "train": ("jax", "jaxlib", "equinox", "optax", "numpyro", "safetensors", "platformdirs"),
        "demo": ("matplotlib", "sklearn"),
        "track": ("tensorboardX",),
        "sweep": ("ray",),
    }
    root = module.partition(".")[0]
    return next((extra for extra, modules in extras.items() if root in modules), None)


if __name__ == "__main__":
    sys.exit(main())

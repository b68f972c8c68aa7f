"""One bar for all slow commands: what it shows, where, and what it leaves alone.

Oracle: the characters that reach a console made for the test.
"""

import io
import logging

from rich.console import Console

from tightbound.commands.working import working
from tightbound.report.progress import WorkDisplay

LOG = logging.getLogger("tightbound.diagnose.laws.gather")
COMPILER = logging.getLogger("jax._src.interpreters.pxla")


def console(*, terminal):
    return Console(file=io.StringIO(), width=100, force_terminal=terminal)


def shown_at(display):
    """The one line as it stands."""
    (task,) = display._progress.tasks
    return task.description, task.completed, task.total


def test_a_terminal_sees_what_is_asked_how_much_is_done_and_what_is_compiled():
    with WorkDisplay("check", to := console(terminal=True)) as display:
        assert shown_at(display) == ("check", 0, None)
        LOG.info("asking about %s", "the twin")
        assert shown_at(display) == ("asking about the twin", 0, None)
        COMPILER.debug("Compiling %s with global shapes and types %s.", "jit(twin)", "f32[2]")
        assert shown_at(display)[0] == "asking about the twin, compiling jit(twin)"
        COMPILER.debug("Finished XLA compilation of jit(twin) in 2 sec")
        LOG.info("scoring", extra={"part": (3, 20)})
        assert shown_at(display) == ("scoring", 3, 20)
    written = to.file.getvalue()
    assert "asking about the twin" in written or "scoring" in written
    assert written.endswith("\x1b[2K")  # the bar is gone before anything is printed


def test_what_jax_compiles_is_seen():
    """The names of JAX's loggers are not public: this test says when they change."""
    import jax

    with WorkDisplay("check", console(terminal=True)) as display:
        seen = []
        update = display._progress.update
        display._progress.update = lambda *a, **k: (
            seen.append(k.get("description")),
            update(*a, **k),
        )
        jax.jit(lambda x: x * 3.0 + 17.0).lower(1.0).compile()
    assert any("compiling jit" in (text or "") for text in seen), seen


def test_elsewhere_nothing_is_written_and_no_logger_is_touched():
    levels = LOG.level, COMPILER.level
    with working("check", to := console(terminal=False)):
        LOG.info("asking")
        assert logging.getLogger("tightbound").handlers == []
    assert to.file.getvalue() == ""
    assert (LOG.level, COMPILER.level) == levels


def test_a_command_within_a_command_has_no_second_bar_and_all_is_put_back():
    with working("report", console(terminal=True)):
        with working("sample", inner := console(terminal=True)):
            LOG.info("drawing")
        assert WorkDisplay.is_shown()
    assert inner.file.getvalue() == ""
    assert not WorkDisplay.is_shown()
    assert logging.getLogger("tightbound").handlers == []
    assert COMPILER.level == logging.NOTSET

import io

import pytest
from rich.console import Console

from tightbound.report.progress import Standing, TrainingDisplay, clock, observe, standing_entries


def shown(records, baselines, *, terminal):
    stream = io.StringIO()
    console = Console(file=stream, width=120, force_terminal=terminal)
    with TrainingDisplay(2000, baselines, console) as display:
        for record in records:
            display.show(record)
            display.show(None)
    return stream.getvalue()


def test_a_stream_that_is_no_terminal_gets_one_line_per_evaluation(made_records, baselines):
    """Oracle: the number of records with a held-out bound; no control characters."""
    text = shown(made_records, baselines, terminal=False)
    assert text.count("\n") == sum("held_out" in record for record in made_records) == 10
    assert "\x1b" not in text


def test_a_line_has_the_bound_with_its_claim_the_baseline_ess_rate_and_time_left(
    made_records, baselines
):
    """Oracle: the fixture's own numbers; 600 steps a second, so 1800 steps take 3 s."""
    line = shown(made_records, baselines, terminal=False).splitlines()[0]
    assert "step 200/2000  held-out -28." in line
    assert "± 0.26 (draws 0.030) nats per sequence, lower bound" in line
    assert "to beat -32.10 ± 0.20 (draws 0.030) (independent-pixel)" in line
    assert "ESS 75% of draws" in line
    assert line.endswith("rate 600 steps/s  left 0:03")


def test_a_bound_that_is_not_finite_is_printed_at_once(made_records, baselines):
    """The record that ends a run has no evaluation; silence would hide why it ended."""
    made_records[0]["train"]["bound"] |= {"value": "nan", "standard_error": "nan"}
    text = shown(made_records[:1], baselines, terminal=False)
    assert text.startswith("step 10/2000  train nan ± nan")


def test_a_terminal_shows_the_newest_record(made_records, baselines):
    """The live panel is redrawn in place and keeps the last standing on the screen."""
    text = shown(made_records, baselines, terminal=True)
    assert "\x1b[" in text
    assert "2000/2000" in text
    assert "independent-pixel" in text


def test_the_rate_counts_from_the_first_record_so_compilation_is_left_out(made_records):
    """Closed form: 10 steps in 1/60 s, after 2.8 s of compiling; unknown from one record."""
    one = observe(Standing(), made_records[0])
    assert one.steps_per_second is None
    assert observe(one, made_records[1]).steps_per_second == pytest.approx(600)


@pytest.mark.parametrize("terminal", [False, True])
def test_the_first_state_is_shown_before_any_batch_was_trained(made_records, baselines, terminal):
    """Its record has an evaluation alone; the rate still counts from the first that has trained."""
    untrained = {key: made_records[19][key] for key in ("epoch", "held_out")}
    untrained |= {"step": 0, "seconds": 0.0}
    text = shown([untrained], baselines, terminal=terminal)
    assert "0/2000" in text
    assert "nats per sequence, lower bound" in text
    assert "train" not in text
    assert "rate" not in text
    standing = Standing()
    for record in (untrained, *made_records[:2]):
        standing = observe(standing, record)
    assert standing.steps_per_second == pytest.approx(600)


def test_an_older_evaluation_says_its_step(made_records):
    """The held-out bound stays on display between evaluations, dated."""
    standing = Standing()
    for record in made_records[:21]:  # steps 10 to 210
        standing = observe(standing, record)
    assert dict(standing_entries(standing, 2000, None))["held-out"].endswith("at step 200")


def test_a_model_without_latents_has_no_reconstruction_beside_its_bound(made_records):
    """Identity: where all sites are observed, their sum is the bound and would be said twice."""
    record = next(record for record in made_records if "held_out" in record)
    assert "reconstruction" in dict(standing_entries(observe(Standing(), record), 2000, None))
    sites = record["held_out"]["sites"]
    record["held_out"]["sites"] = {name: s for name, s in sites.items() if "log_q" not in s}
    assert "reconstruction" not in dict(standing_entries(observe(Standing(), record), 2000, None))


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0, "0:00"), (59.6, "1:00"), (125.0, "2:05"), (3723.0, "1:02:03")]
)
def test_time_left_reads_as_a_clock(seconds, text):
    """Oracle: written by hand."""
    assert clock(seconds) == text

import re
from dataclasses import replace

import pytest

from tightbound.errors import UserError
from tightbound.families.edits.in_words import (
    DrawnEdit,
    DrawnString,
    DrawnTrajectory,
    as_text,
    in_one_line,
)

NUMBER = re.compile(r" (-?\d+\.\d\d)(?=  |,|$)")


@pytest.fixture
def trajectory():
    """ "a", then "b a", the a copied, then both again: substituted and copied; drawn given the text."""
    end = DrawnEdit("EOS", "", 0, -0.25)
    return DrawnTrajectory(
        (
            DrawnString("a", (DrawnEdit("INS", "a", 0, -1.5, -0.5), end), -0.125),
            DrawnString(
                "b a", (DrawnEdit("INS", "b", 0, -2.0), DrawnEdit("CPY", "a", 1, -0.5), end), -0.25
            ),
            DrawnString(
                "c a", (DrawnEdit("SUB", "c", 1, -4.0), DrawnEdit("CPY", "a", 2, None), end), -1.0
            ),
        ),
        "by hand",
        log_q=-3.5,
    )


def test_the_numbers_of_the_text_sum_to_its_total(trajectory):
    """Identity, up to the rounding of each to two decimals: nothing is left out of the text."""
    heading, *lines = as_text([trajectory]).splitlines()
    *strings, proposal = lines
    numbers = [float(number) for line in strings for number in NUMBER.findall(line)]
    [log_q] = map(float, NUMBER.findall(proposal))
    assert len(numbers) == 10  # 7 words and ends that are not given, 3 of the steps' law: by hand
    total = float(heading.removeprefix("log p - log q = ").split(" nats")[0])
    assert sum(numbers) - log_q == pytest.approx(total, abs=0.005 * 12)
    assert trajectory.total == pytest.approx(total, abs=0.005)


def test_without_the_end_the_numbers_would_not_sum(trajectory):
    """The planted bug: the end of every string left out, as an earlier program printed it."""
    without = replace(
        trajectory, strings=tuple(replace(s, edits=s.edits[:-1]) for s in trajectory.strings)
    )
    assert abs(without.total - trajectory.total) > 0.7


def test_decisions_read_as_in_a_log(trajectory):
    """Oracle: written by hand."""
    assert trajectory.lines() == [
        "INS(a) -1.00  EOS -0.25  NEXT -0.12  = a",
        "INS(b) -2.00  CPY(1) -0.50  EOS -0.25  NEXT -0.25  = b a",
        "SUB(c, 1) -4.00  CPY(2) given  EOS -0.25  STOP -1.00  = c a",
        "log q of these strings -3.50, taken off",
    ]
    assert in_one_line(trajectory).count(" | ") == 4
    empty = DrawnTrajectory((DrawnString("", (DrawnEdit("EOS", "", 0, -0.5),), -20000.0),))
    assert empty.lines() == ['EOS -0.50  STOP -2e+04  = ""']


@pytest.mark.parametrize("odd", [0.0, float("-inf")])
def test_the_document_gives_the_trajectory_back(trajectory, odd):
    """Round trip, also of a decision the model holds to be impossible."""
    changed = replace(trajectory.strings[0], log_steps=odd)
    drawn = replace(trajectory, strings=(changed, *trajectory.strings[1:]))
    assert DrawnTrajectory.from_json(drawn.to_json()) == drawn


@pytest.mark.parametrize(
    "spoil",
    [
        lambda document: document.pop("strings"),
        lambda document: document["strings"][0]["edits"][0].update(op="<b>"),
        lambda document: document["strings"][0].update(log_steps="much"),
    ],
)
def test_a_document_that_is_no_trajectory_is_refused(trajectory, spoil):
    """A part missing, an unknown edit, a word for a number."""
    document = trajectory.to_json()
    spoil(document)
    with pytest.raises(UserError, match="This is no trajectory of edits"):
        DrawnTrajectory.from_json(document)

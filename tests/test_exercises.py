"""The check of an exercise says right, off, or not done, and never raises."""

import pytest

from vdiff_lite.exercises import check

CLAIMS = {"2 becomes 4": lambda double: double(2) == 4, "0 stays 0": lambda double: double(0) == 0}


def test_a_right_answer(capsys):
    assert check(lambda x: 2 * x, CLAIMS)
    assert capsys.readouterr().out.splitlines() == ["right  2 becomes 4", "right  0 stays 0"]


def test_a_wrong_answer_names_what_is_off(capsys):
    assert not check(lambda x: x + 2, CLAIMS)
    assert capsys.readouterr().out.splitlines() == ["right  2 becomes 4", "off    0 stays 0"]


def test_an_error_counts_against_its_claim(capsys):
    assert not check(lambda x: 4 / x, CLAIMS)
    off = capsys.readouterr().out.splitlines()[1]
    assert off == "off    0 stays 0  (ZeroDivisionError: division by zero)"


@pytest.mark.parametrize("answer", [None, lambda x: None])
def test_an_empty_cell_is_not_done(answer, capsys):
    assert not check(answer, CLAIMS)
    assert "Not done yet" in capsys.readouterr().out


def test_an_answer_may_be_a_value(capsys):
    assert check(0.5, {"between 0 and 1": lambda x: 0 < x < 1})
    assert not check(2.0, {"between 0 and 1": lambda x: 0 < x < 1})

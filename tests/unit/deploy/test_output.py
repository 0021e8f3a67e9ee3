"""A host's output: up to a limit, and without what its login shell prints."""

from __future__ import annotations

from io import BytesIO

import pytest
from pyinfra.connectors.util import OutputLine

from certsync.model.frame import BEGIN
from deploy import output

ENDED = "certsync: that was the answer, 6f1d0c52, with 0"


def said(*lines: str) -> list[OutputLine]:
    return [OutputLine("stdout", line) for line in lines]


def test_a_program_that_prints_too_much_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "MAX_OUTPUT", 10)
    killed: list[bool] = []
    endless = BytesIO(b"abc\n" * 100)
    read = list(output.lines(endless, lambda: killed.append(True)))
    assert read == ["abc\n", "abc\n", "ab", output.TOO_MUCH]
    assert killed == [True]


def test_an_answer_is_what_stands_between_the_marks() -> None:
    assert output.own(said("noise", "", BEGIN, "yes", "", ENDED, "late")) == (said("yes"), True)
    assert output.own(said("noise", "", BEGIN, "yes")) == (said("yes"), False)
    assert output.own(said("noise")) == (None, False)

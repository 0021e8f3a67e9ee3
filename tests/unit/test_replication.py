"""What the issuer takes from a replica, which may be anybody's by now."""

from __future__ import annotations

import json

import pytest

from certsync import host, replication
from certsync.errors import HostError
from certsync.replication import Backend
from tests.unit.fake_fleet import NAME, machine

REPLICA = Backend(machine("backend-02", 12), local=False)


def says(monkeypatch: pytest.MonkeyPatch, stdout: str, stderr: str = "") -> None:
    monkeypatch.setattr(host, "run", lambda *_, **__: host.Completed(0, stdout, stderr))


@pytest.mark.parametrize(
    "text",
    ["", "null", "5", "[]", "{}", '{"ok": "yes"}', '{"ok": true, "generations": 5}', "[" * 99999],
)
def test_an_answer_that_is_none_is_one_replicas_own_failure(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    says(monkeypatch, text)
    with pytest.raises(HostError, match=r"^backend-02: no receiver answers: "):
        REPLICA.ask("current", NAME, 0)
    assert not REPLICA.standing(NAME).reached


def test_a_replicas_words_are_told_in_one_printable_line(monkeypatch: pytest.MonkeyPatch) -> None:
    says(monkeypatch, json.dumps({"ok": False, "why": "no\n\x1b[2Jerror: backend-01" + "x" * 999}))
    why = REPLICA.standing(NAME).why
    assert why.startswith("no??[2Jerror: backend-01xxx")
    assert len(why) == 500
    says(monkeypatch, "", "\x1b]0;title\x07")
    with pytest.raises(HostError, match=r"answers: \?]0;title\?$"):
        REPLICA.ask("current", NAME, 0)


def test_what_a_receiver_tells_is_its_standing(monkeypatch: pytest.MonkeyPatch) -> None:
    says(monkeypatch, json.dumps({"ok": True, "current": "0001", "generations": {"0001": "ab"}}))
    standing = REPLICA.standing(NAME)
    assert (standing.reached, standing.current) == (True, "0001")
    assert standing.generations == {"0001": "ab"}


def test_one_replicas_failure_is_not_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    says(monkeypatch, "no JSON")
    found = replication.each(lambda one: one.ask("current", NAME, 0), [REPLICA, REPLICA])
    assert [type(answer) for _, answer in found] == [HostError, HostError]

"""What the issuer takes from a replica, which may be anybody's by now."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

import pytest

from certsync.issuer.replicas import push_key, receivers
from certsync.issuer.replicas.answer import parsed
from certsync.issuer.replicas.backend import OLDER, Backend
from certsync.issuer.tickets import share
from certsync.model import paths
from certsync.model.errors import HostError, UnreachableError
from certsync.system import process
from tests.unit.fake_fleet import NAME, NOW, fleet, machine, manifest
from tests.unit.issuer.fake_disk import Heard, situation

GOOD = '{"ok": true}'


class Fake:
    """A conversation with answers that are laid ready."""

    started: ClassVar[list[Fake]] = []
    answers: ClassVar[list[str]] = []
    ended = process.Completed(0, "", "")

    def __init__(self, argv: Sequence[str], *, user: str | None = None) -> None:
        self.argv, self.user = list(argv), user
        self.asked: list[str] = []
        self.over = False
        Fake.started.append(self)

    def ask(self, line: str, _seconds: float) -> str:
        self.asked.append(line)
        return Fake.answers.pop(0) if len(Fake.answers) > 1 else Fake.answers[0]

    def close_stdin(self) -> None:
        self.over = True

    def end(self, _seconds: float) -> process.Completed:
        self.over = True
        return Fake.ended


@pytest.fixture(autouse=True)
def no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "Conversation", Fake)
    Fake.started.clear()


def replica() -> Backend:
    return Backend(machine("backend-02", 12), local=False)


def says(*answers: str, stderr: str = "", status: int = 0) -> Backend:
    """Return a replica that gives these answers, the last one for ever."""
    Fake.answers = list(answers)
    Fake.ended = process.Completed(status, "", stderr)
    return replica()


@pytest.mark.parametrize(
    "text",
    ["", "null", "5", "[]", "{}", '{"ok": "yes"}', '{"ok": true, "generations": 5}', "[" * 99999],
)
def test_an_answer_that_is_none_is_one_replicas_own_failure(text: str) -> None:
    with pytest.raises(HostError, match=r"^backend-02: no receiver answers: "):
        says(text).ask("current", NAME, 0)
    assert Fake.started[0].over
    assert not says(text).standing(NAME).reached


def test_a_replicas_words_are_told_in_one_printable_line() -> None:
    long = json.dumps({"ok": False, "why": "no\n\x1b[2Jerror: backend-01" + "x" * 999})
    why = says(long).standing(NAME).why
    assert why.startswith("no??[2Jerror: backend-01xxx")
    assert len(why) == 500
    with pytest.raises(HostError, match=r"answers: \?]0;title\?$"):
        says("", stderr="\x1b]0;title\x07").ask("current", NAME, 0)
    with pytest.raises(HostError, match=r"answers: \?\[2J$"):
        says("\x1b[2J").ask("current", NAME, 0)


@pytest.mark.parametrize(
    ("code", "of_content"),
    [('"content"', True), ('"host"', False), ("null", False), ("[]", False)],
)
def test_only_a_refusal_that_says_so_is_of_the_content(code: str, of_content: bool) -> None:
    answer = parsed(f'{{"ok": false, "why": "no", "code": {code}}}')
    assert answer is not None
    assert answer.of_content is of_content
    older = parsed('{"ok": false, "why": "no"}')
    assert older is not None
    assert older.of_content is False


@pytest.mark.parametrize(
    ("refusal", "is_older"),
    [
        ('"why": "no such verb", "code": "unknown"', True),
        ('"why": "I do not know that", "code": "unknown"', True),
        ('"why": "no such verb", "code": "host"', True),
        ('"why": "no such verb"', True),
        ('"why": "no such verb here", "code": "host"', False),
    ],
)
def test_a_receiver_that_does_not_know_a_verb_is_an_older_one(refusal: str, is_older: bool) -> None:
    answer = parsed(f'{{"ok": false, {refusal}}}')
    assert answer is not None
    assert answer.is_older is is_older


def test_what_a_receiver_tells_is_its_standing() -> None:
    told = json.dumps({"ok": True, "current": "0001", "generations": {"0001": "ab"}})
    standing = says(told).standing(NAME)
    assert (standing.reached, standing.current) == (True, "0001")
    assert standing.generations == {"0001": "ab"}


def test_one_replicas_failure_is_not_the_others() -> None:
    among = [says("no JSON"), replica()]
    found = receivers.each(lambda one: one.ask("current", NAME, 0), among)
    assert [type(answer) for _, answer in found] == [HostError, HostError]


def test_all_questions_go_through_one_connection_as_the_pushing_user() -> None:
    one = says(GOOD)
    for verb in ("current", "check", "activate"):
        one.ask(verb, NAME, 7)
    assert [each.asked for each in Fake.started] == [
        [f"current {NAME} 0007", f"check {NAME} 0007", f"activate {NAME} 0007"]
    ]
    started = Fake.started[0]
    assert started.user == "certsync-push"
    assert started.argv[-2:] == ["203.0.113.12", "certsync-receiver"]
    assert {"ControlMaster=yes", "StrictHostKeyChecking=yes", "BatchMode=yes"} <= set(started.argv)
    assert started.argv[1:3] == ["-F", "none"]


def test_the_issuers_own_receiver_is_asked_without_ssh() -> None:
    says(GOOD)
    Backend(machine("backend-01", 11), local=True).ask("current", NAME, 0)
    assert (Fake.started[0].argv, Fake.started[0].user) == ([paths.RECEIVER], None)


def test_the_issuers_own_receiver_judges_by_the_time_that_the_run_goes_by() -> None:
    says(GOOD)
    run = Heard().run(situation(manifest(1)), NOW - timedelta(days=100))
    run.go_by(NOW)
    issuer, replica = receivers.backends(fleet(), fleet().backends[:2], run.clock_off)
    issuer.ask("current", NAME, 0)
    replica.ask("current", NAME, 0)
    assert Fake.started[0].argv == [paths.RECEIVER, "clock-off", "-8640000.0"]
    assert "clock-off" not in Fake.started[1].argv


def test_a_receiver_whose_patience_has_ended_is_started_again_once() -> None:
    one = says(GOOD, "", GOOD)
    one.ask("check", NAME, 1)
    assert one.ask("activate", NAME, 1).ok
    assert [each.asked[-1] for each in Fake.started] == [f"activate {NAME} 0001"] * 2
    assert Fake.started[0].over
    one = says(GOOD, "", "")
    one.ask("check", NAME, 1)
    with pytest.raises(HostError, match="no receiver answers"):
        one.ask("activate", NAME, 1)


def test_a_connection_that_fails_is_told_as_ssh_tells_it() -> None:
    one = says("", stderr="ssh: connect to host x port 22: Connection refused", status=255)
    with pytest.raises(UnreachableError, match=r"^backend-02: nothing listens for SSH$"):
        one.ask("current", NAME, 0)


def test_a_replica_that_refuses_the_key_says_so_in_its_standing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(push_key, "finding", lambda: "")
    refused = "certsync@203.0.113.12: Permission denied (publickey)."
    standing = says("", stderr=refused, status=255).standing(NAME)
    assert (standing.reached, standing.refuses_key) == (False, True)
    assert standing.why == "it does not accept the SSH key"
    away = says("", stderr="ssh: connect to host x port 22: No route to host", status=255)
    assert not away.standing(NAME).refuses_key
    # Words of a host that let us in are no refusal.
    assert not says("", stderr=refused, status=1).standing(NAME).refuses_key


@pytest.fixture
def rsynced(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Return the rsync commands that are run; each one works."""
    argvs: list[list[str]] = []

    def run(argv: Sequence[str], **_more: object) -> process.Completed:
        argvs.append(list(argv))
        return process.Completed(0, "", "")

    monkeypatch.setattr(process, "run", run)
    return argvs


def test_ticket_keys_go_to_an_inbox_of_their_own_and_are_used_then(
    rsynced: list[list[str]],
) -> None:
    says(GOOD).give_tickets(Path("/run/outbox"))
    keys = [f"/run/outbox/{name}.key" for name in ("current", "next", "previous")]
    assert rsynced[0][-4:] == [*keys, "203.0.113.12::tickets/"]
    assert Fake.started[0].asked == ["tickets"]


@pytest.mark.usefixtures("rsynced")
def test_a_replica_that_does_not_take_ticket_keys_says_why() -> None:
    with pytest.raises(HostError) as caught:
        says('{"ok": false, "why": "nginx: no"}').give_tickets(Path("/run/outbox"))
    assert caught.value.message == "backend-02: nginx: no"


OF_OLDER = "backend-02: its receiver is from an older certsync"
BRING_NEWER = "update its receiver: certsync deploy FLEET"


@pytest.mark.usefixtures("rsynced")
def test_a_receiver_that_knows_no_ticket_keys_is_to_be_replaced() -> None:
    with pytest.raises(HostError) as caught:
        says('{"ok": false, "why": "no such verb"}').give_tickets(Path("/run/outbox"))
    assert (caught.value.message, caught.value.hint) == (OF_OLDER, BRING_NEWER)


def test_so_is_one_without_an_inbox_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    told = (
        "@ERROR: Unknown module 'tickets'\n"
        "rsync error: error starting client-server protocol (code 5) at main.c(1954)\n"
    )
    monkeypatch.setattr(process, "run", lambda *_, **__: process.Completed(5, "", told))
    with pytest.raises(HostError) as caught:
        says(GOOD).give_tickets(Path("/run/outbox"))
    assert (caught.value.message, caught.value.hint) == (OF_OLDER, BRING_NEWER)


def test_what_brings_the_newer_one_there_is_the_hint_of_a_whole_run_too() -> None:
    error = share.trouble({"backend-02": OLDER, "backend-03": "nginx: no"})
    assert error.message == (
        f"not all backends have the session ticket keys: {OF_OLDER}; backend-03: nginx: no"
    )
    assert error.hint == BRING_NEWER
    assert share.trouble({"backend-03": "nginx: no"}).hint == share.HINT


def test_every_conversation_ends_with_the_block_however_it_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(receivers, "open_runtime", lambda: None)
    says(GOOD)

    def interrupted() -> None:
        with receivers.connected(fleet(), fleet().backends) as among:
            receivers.each(lambda one: one.ask("current", NAME, 0), among)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(Fake.started) == 3
    assert all(each.over for each in Fake.started)


def test_a_connection_that_comes_about_after_the_end_is_ended_at_once() -> None:
    backend = says(GOOD)
    backend.finish()
    with pytest.raises(HostError):
        backend.ask("current", NAME, 0)
    (conversation,) = Fake.started
    assert conversation.over
    assert conversation.asked == []


# The issuer's own push key

REFUSED = "certsync-receive@203.0.113.12: Permission denied (publickey).\n"


@pytest.fixture
def key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where the issuer's push key should be; programs run as we do."""
    run = process.run

    def as_we_do(argv: list[str], *, seconds: float, user: str) -> process.Completed:
        assert user == paths.PUSHING_USER
        return run(argv, seconds=seconds)

    monkeypatch.setattr(push_key, "PUSH_HOME", tmp_path)
    monkeypatch.setattr(process, "run", as_we_do)
    return tmp_path / "id_ed25519"


def test_a_missing_push_key_is_not_told_as_the_replicas_refusal(key_file: Path) -> None:
    found = says("", stderr=REFUSED, status=255).standing(NAME)
    assert (found.reached, found.refuses_key) == (False, False)
    assert found.why == (
        f"this issuer's push key {key_file} is missing: run `certsync deploy FLEET`"
    )


def test_nor_is_one_that_cannot_be_read(key_file: Path) -> None:
    key_file.write_text("half a key")
    key_file.chmod(0o600)
    found = says("", stderr=REFUSED, status=255).standing(NAME)
    assert not found.refuses_key
    assert found.why.startswith(f"this issuer's push key {key_file} cannot be read (")


def test_a_good_one_is_no_reason(key_file: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key_file], check=True)
    assert push_key.finding() == ""

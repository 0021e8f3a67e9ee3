"""What replicas are given of the issuer, and it of them: keys, and nothing else that they say."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import gevent
import pytest

from certsync.model.epoch import Epoch, in_text
from certsync.model.errors import HostError
from certsync.operator.hosts.survey import Entry, Survey
from deploy import issuer, replica, step, surveys
from deploy.step import Step
from tests.unit.fake_fleet import fleet

PUSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "b" * 43
EPOCH = Epoch(3, "f1" * 16)
OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "c" * 43


class Host:
    """Pyinfra's host as far as it is used here; it counts who asks it."""

    connected = True

    def __init__(self, name: str = "backend-01") -> None:
        self.name = name
        self.asked = 0
        self.state = SimpleNamespace(active_hosts={self})

    def get_fact(self, _fact: Any, **_arguments: Any) -> Survey:
        """Return what it is like, after a moment in which others could ask too."""
        self.asked += 1
        gevent.sleep(0.05)
        return Survey(entries={replica.PUSH_KEY: Entry("f", text=f"{PUSH_KEY}\n")})


@pytest.fixture
def issuer_host() -> Iterator[Any]:
    """Return the issuer; what this process knows of it is forgotten at the end."""
    host = Host()
    yield host
    surveys.forget(host)  # type: ignore[arg-type]  # pyinfra's host as far as it is used


def admitted(issuer_host: Any) -> Step:
    [made] = replica.admitted(fleet(), issuer_host, Survey())
    return made


def test_fifty_replicas_ask_the_issuer_once_for_its_push_key(issuer_host: Any) -> None:
    asking = [gevent.spawn(admitted, issuer_host) for _ in range(50)]
    gevent.joinall(asking)
    texts = [each.value.text if each.value else "" for each in asking]
    assert {PUSH_KEY in text for text in texts} == {True}
    assert issuer_host.asked == 1


def test_an_issuer_that_this_run_has_failed_on_is_not_asked(issuer_host: Any) -> None:
    issuer_host.state.active_hosts.clear()
    assert admitted(issuer_host) == Step("The issuer's push key")
    assert issuer_host.asked == 0


@pytest.mark.parametrize("comment", ["", " certsync push", ' x" command="sh'])
def test_a_key_is_let_in_from_the_issuers_address_to_the_gate_alone(comment: str) -> None:
    text = replica.key_line(fleet(), f"{PUSH_KEY}{comment}", EPOCH)
    gate = "/usr/local/lib/certsync/forced-command"
    assert text.splitlines()[1:] == [
        f"# {EPOCH}", f'restrict,from="203.0.113.11",command="{gate}" {PUSH_KEY}'
    ]  # fmt: skip
    assert in_text(text) == EPOCH
    assert replica.key_line(fleet(), "", EPOCH) == ""


@pytest.mark.parametrize(
    "text",
    [
        f"{PUSH_KEY}\n{OTHER}",
        f"{PUSH_KEY} certsync push\r{OTHER}",
        f"{PUSH_KEY}\x0b{OTHER}",
        f"Welcome!\n{PUSH_KEY}",
        f"restrict {PUSH_KEY}",
        f"{PUSH_KEY}A",
        f"{PUSH_KEY[:-1]} ",
        "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQ",
        "-----BEGIN OPENSSH PRIVATE KEY-----",
    ],
)
def test_what_is_not_exactly_one_key_is_let_in_nowhere(text: str) -> None:
    with pytest.raises(HostError) as caught:
        replica.key_line(fleet(), text, EPOCH)
    assert caught.value.message == (
        "the push key of backend-01, /var/lib/certsync-push/id_ed25519.pub, is not exactly one "
        "ssh-ed25519 key; the key accepted so far is kept"
    )
    assert "ssh-keygen -y" in caught.value.hint


def test_the_forced_command_of_an_earlier_version_stays_while_a_key_line_may_name_it() -> None:
    former = Survey(entries={replica.FORMER_NAME: Entry("f")})
    issuer = Survey(entries={replica.PUSH_KEY: Entry("f", text=PUSH_KEY)})
    line, absent = replica.let_in(fleet(), issuer, former)
    assert line.changes
    assert replica.FORMER_NAME in absent.script
    assert len(list(replica.let_in(fleet(), Survey(), former))) == 1
    assert len(list(replica.let_in(fleet(), issuer, Survey()))) == 1


def test_a_file_that_cannot_be_made_fails_its_host_alone_and_stays_as_it_is() -> None:
    def content() -> str:
        raise HostError("it is no key", "make another")

    made = step.file(Survey(), "it", "/x", content)
    assert made.script == "printf '%s\\n' 'error: it is no key\nhint: make another' >&2; exit 1"
    assert not made.changes


def test_of_what_a_replica_says_its_host_keys_are_pinned_and_nothing_else() -> None:
    before = f"203.0.113.12 {OTHER}\n203.0.113.13 {OTHER}\n"
    said = (
        "Welcome to backend-02!", f"{PUSH_KEY} root@backend-02", "ssh-rsa", "", "@revoked * AAAA",
        "ecdsa-sha2-nistp256 AAAAE2Vj+/A= root@x", "ssh-rsa AAAA;id x",
    )  # fmt: skip
    path = "/etc/ssh/ssh_host_{}_key.pub"
    others = {
        "backend-02": Survey(
            entries={
                path.format("ed25519"): Entry("f", text="\n".join(said)),
                "/etc/ssh/ssh_host_key": Entry("f", text=OTHER),
            }
        ),
        "backend-03": Survey(entries={path.format("rsa"): Entry("f", text="no keys today")}),
    }
    text = issuer.known_hosts(fleet(), others, before)
    assert text.splitlines()[1:] == [
        f"203.0.113.12 {PUSH_KEY}",
        "203.0.113.12 ecdsa-sha2-nistp256 AAAAE2Vj+/A=",
        # What was pinned before stays where nothing that is a key takes its place.
        f"203.0.113.13 {OTHER}",
    ]

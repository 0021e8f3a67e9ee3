"""What replicas are given of the issuer, and it of them: keys, and nothing else that they say."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from certsync.errors import HostError
from deploy import issuer, operations, replica
from tests.unit.fake_fleet import fleet

PUSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "b" * 43
OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "c" * 43


class Issuer:
    """Pyinfra's host as far as it is used here; it counts who asks it."""

    connected = True
    name = "backend-01"

    def __init__(self) -> None:
        self.asked = 0
        self.state = SimpleNamespace(active_hosts={self})

    def get_fact(self, _fact: Any, **_arguments: Any) -> str:
        """Return the public key, after a moment in which others could ask too."""
        self.asked += 1
        time.sleep(0.05)
        return f"{PUSH_KEY}\n"


def test_fifty_replicas_ask_the_issuer_once_for_its_push_key() -> None:
    replica.KNOWN.clear()
    issuer = Issuer()
    with ThreadPoolExecutor(50) as pool:
        keys = set(pool.map(lambda _: replica.push_key(issuer), range(50)))
    replica.KNOWN.clear()
    assert keys == {PUSH_KEY}
    assert issuer.asked == 1


def test_an_issuer_that_this_run_has_failed_on_is_not_asked() -> None:
    replica.KNOWN.clear()
    issuer = Issuer()
    issuer.state.active_hosts.clear()
    assert replica.push_key(issuer) == ""
    assert issuer.asked == 0


@pytest.mark.parametrize("comment", ["", " certsync push", ' x" command="sh'])
def test_a_key_is_let_in_from_the_issuers_address_to_the_gate_alone(comment: str) -> None:
    text = replica.key_line(fleet(), f"{PUSH_KEY}{comment}")
    gate = "/usr/local/lib/certsync/gate"
    assert text.splitlines()[1:] == [f'restrict,from="203.0.113.11",command="{gate}" {PUSH_KEY}']
    assert replica.key_line(fleet(), "") == ""


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
        replica.key_line(fleet(), text)
    assert caught.value.message == (
        "what backend-01 gives as its push key, /var/lib/certsync-push/id_ed25519.pub, is not one "
        "ssh-ed25519 key; the key that is let in here stays"
    )
    assert "ssh-keygen -y" in caught.value.hint


def test_a_file_that_cannot_be_made_fails_its_host_alone_and_stays_as_it_is() -> None:
    def content() -> str:
        raise HostError("it is no key", "make another")

    commands = list(operations.written._inner(path="/x", content=content))
    assert [str(each) for each in commands] == [
        "printf '%s\\n' 'error: it is no key\nhint: make another' >&2; exit 1"
    ]


class Replica:
    """Pyinfra's host as far as its host keys are asked for."""

    connected = True

    def __init__(self, name: str, *lines: str) -> None:
        self.name = name
        self.lines = lines

    def get_fact(self, _fact: Any, **_arguments: Any) -> list[str]:
        """Return what it says are its host keys."""
        return list(self.lines)


def test_of_what_a_replica_says_its_host_keys_are_pinned_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = f"203.0.113.12 {OTHER}\n203.0.113.13 {OTHER}\n"
    monkeypatch.setattr(issuer, "host", SimpleNamespace(get_fact=lambda *_, **__: before))
    said = (
        "Welcome to backend-02!", f"{PUSH_KEY} root@backend-02", "ssh-rsa", "", "@revoked * AAAA",
        "ecdsa-sha2-nistp256 AAAAE2Vj+/A= root@x", "ssh-rsa AAAA;id x",
    )  # fmt: skip
    hosts = [Replica("backend-02", *said), Replica("backend-03", "no keys today")]
    text = issuer.known_hosts(fleet(), hosts)
    assert text.splitlines()[1:] == [
        f"203.0.113.12 {PUSH_KEY}",
        "203.0.113.12 ecdsa-sha2-nistp256 AAAAE2Vj+/A=",
        # What was pinned before stays where nothing that is a key takes its place.
        f"203.0.113.13 {OTHER}",
    ]

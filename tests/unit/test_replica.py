"""What replicas are given of the issuer, however many they are."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

from deploy import replica
from tests.unit.fake_fleet import fleet


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
        return "ssh-ed25519 AAAA\n"


def test_fifty_replicas_ask_the_issuer_once_for_its_push_key() -> None:
    replica.KNOWN.clear()
    issuer = Issuer()
    with ThreadPoolExecutor(50) as pool:
        keys = set(pool.map(lambda _: replica.push_key(issuer), range(50)))
    replica.KNOWN.clear()
    assert keys == {"ssh-ed25519 AAAA"}
    assert issuer.asked == 1


def test_an_issuer_that_this_run_has_failed_on_is_not_asked() -> None:
    replica.KNOWN.clear()
    issuer = Issuer()
    issuer.state.active_hosts.clear()
    assert replica.push_key(issuer) == ""
    assert issuer.asked == 0


def test_a_key_is_let_in_from_the_issuers_address_to_the_gate_alone() -> None:
    line = replica.key_line(fleet(), "ssh-ed25519 AAAA").splitlines()[1]
    gate = "/usr/local/lib/certsync/gate"
    assert line == f'restrict,from="203.0.113.11",command="{gate}" ssh-ed25519 AAAA'
    assert replica.key_line(fleet(), "") == ""

"""Machines that were copied from one another with their SSH host keys are named."""

from __future__ import annotations

from certsync.operator.hosts.host_keys import shared
from certsync.operator.hosts.survey import Entry, Survey


def having(*keys: str) -> Survey:
    lines = "".join(f"ssh-ed25519 AAAA{key} root@host\n" for key in keys)
    return Survey(entries={"/etc/ssh/ssh_host_ed25519_key.pub": Entry("f", text=lines)})


def test_each_machine_with_the_keys_of_another_one_is_named_once() -> None:
    surveys = {"a": having("x"), "b": having("y"), "c": having("x"), "d": Survey()}
    [found] = shared(surveys)
    assert (found.host, found.stops) == ("c", False)
    assert "as a," in found.text
    assert "ssh-keygen -A" in found.hint


def test_machines_with_keys_of_their_own_are_not() -> None:
    assert shared({"a": having("x", "z"), "b": having("y")}) == []

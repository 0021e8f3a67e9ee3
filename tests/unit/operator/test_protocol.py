"""What an operator asks an issuer of another release, and what it does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from certsync.model.answers import PROTOCOL
from certsync.model.errors import HostError, RefusedError
from certsync.model.fleet import SCHEMA, Machine
from certsync.operator.balancer import haproxy
from certsync.operator.deployment import promotion, removal
from certsync.operator.deployment.leaving import Leaving, Options
from certsync.operator.fleet_file import FleetFile
from certsync.system import ssh
from certsync.system.process import Completed
from tests.unit.fake_fleet import fleet, machine

FILE = FleetFile(Path("f.toml"), b"")
FLEET = fleet()


def promote() -> object:
    """Look whether backend-02 can become the issuer."""
    after = fleet(issuer_name="backend-02")
    wanted = promotion.Succession(FILE, after, FLEET, old_is_dead=False)
    return promotion._proven_by_issuer(wanted)


def remove(*, compromised: bool = False) -> object:
    """Look whether backend-03 can leave."""
    options = Options(compromised=compromised)
    return removal._looked(Leaving(FILE, "backend-03", options, FLEET, machine("backend-03", 13)))


def remove_compromised() -> object:
    """Look whether it can, with its keys replaced."""
    return remove(compromised=True)


def replace_keys_again() -> object:
    """Look whether the keys of one that has left can be replaced."""
    return removal._looked(Leaving(FILE, "backend-09", Options(compromised=True), FLEET, None))


COMMANDS = (promote, remove, remove_compromised, replace_keys_again)


@pytest.fixture
def issuer(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, int]], None]:
    """Return what makes the issuer give this answer; it is of another release than this one."""

    def answers(said: dict[str, int]) -> None:
        outputs = {
            "certsync prove --json": json.dumps(said),
            "cat /etc/certsync/fleet.json": json.dumps(FLEET.to_json()),
            "cat /etc/certsync/left": "backend-09\n",
            "readlink /opt/certsync/current": "0.0.1-another\n",
            promotion.MARKED: "marked\n",
        }

        def on(_machine: Machine, _known_hosts: str, command: str) -> Completed:
            found = [text for asked, text in outputs.items() if command.endswith(asked)]
            return Completed(0, found[0] if found else "", "")

        monkeypatch.setattr(ssh, "on", on)
        monkeypatch.setattr(haproxy, "pools", lambda _fleet: {})

    return answers


Issuer = Callable[[dict[str, int]], None]


@pytest.mark.parametrize("command", COMMANDS)
def test_another_release_with_the_same_protocol_is_asked(
    issuer: Issuer, command: Callable[[], object]
) -> None:
    issuer({"protocol": PROTOCOL})
    command()


@pytest.mark.parametrize("said", [{"protocol": PROTOCOL - 1}, {}], ids=["older", "no number"])
@pytest.mark.parametrize("command", COMMANDS)
def test_an_issuer_of_an_older_protocol_is_deployed_to_first(
    issuer: Issuer, command: Callable[[], object], said: dict[str, int]
) -> None:
    issuer(said)
    with pytest.raises(RefusedError) as caught:
        command()
    assert caught.value.message == (
        f"certsync on backend-01 is older than here: it speaks protocol {PROTOCOL - 1}, this one "
        f"{PROTOCOL}; nothing was changed"
    )
    assert caught.value.hint == "install this one there first: certsync deploy FLEET"


@pytest.mark.parametrize("command", COMMANDS)
def test_an_issuer_of_a_newer_protocol_is_not_asked_by_an_older_certsync(
    issuer: Issuer, command: Callable[[], object]
) -> None:
    issuer({"protocol": PROTOCOL + 1})
    with pytest.raises(HostError) as caught:
        command()
    assert caught.value.hint == "upgrade certsync on this machine"


def test_the_protocol_grows_with_the_rendered_fleets_schema() -> None:
    # An issuer refuses a newer schema at every hourly run. Whoever changes one changes both.
    assert (PROTOCOL, SCHEMA) == (1, 4)

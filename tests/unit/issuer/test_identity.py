"""A copy of the issuer's disk on another machine orders and activates nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from certsync.issuer import canary, identity
from certsync.issuer.canary import Sighting
from certsync.issuer.replicas import admission
from certsync.model.epoch import Epoch
from certsync.model.errors import ClonedError
from certsync.model.identity import Identity, in_marker, marker
from certsync.system import proving
from tests.unit.issuer.fake_disk import Heard, disk, seen

EPOCH = Epoch(1, "f1" * 16)
HERE = Identity("a" * 64, has_address=True)


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (HERE, ""),
        (Identity("b" * 64, has_address=True), "its machine-id or product UUID is another one"),
        (Identity("a" * 64), "it does not have the issuer's private address"),
    ],
    ids=["the same", "another machine", "another address"],
)
def test_a_machine_is_compared_with_the_one_in_the_marker(other: Identity, why: str) -> None:
    kept = in_marker(marker("Written by certsync", HERE, EPOCH, "203.0.113.11"))
    assert kept == HERE
    assert kept.differs(other) == why


def test_an_earlier_versions_marker_and_a_translated_address_say_nothing() -> None:
    for text in ("", "# Written by certsync: this host is the issuer\n", "machine x\n"):
        assert in_marker(text).differs(Identity("b" * 64)) == ""
    assert Identity("a" * 64).differs(Identity("a" * 64, has_address=True)) == ""


def test_this_machine_has_its_loopback_address_and_no_other_ones() -> None:
    assert identity.of_this_machine("127.0.0.1").has_address
    assert identity.of_this_machine("::1").has_address
    other = identity.of_this_machine("203.0.113.11")
    assert not other.has_address
    assert other.machine == identity.of_this_machine("127.0.0.1").machine


@pytest.fixture
def leads(monkeypatch: pytest.MonkeyPatch) -> list[Sighting]:
    """Return what is seen of challenges; nothing, until a test adds something."""
    sightings: list[Sighting] = []
    monkeypatch.setattr(canary, "look", lambda *_: sightings)
    monkeypatch.setattr(proving, "prove", lambda *_: [])
    return sightings


def test_a_copy_does_nothing_unless_challenges_lead_to_it(
    tmp_path: Path, leads: list[Sighting]
) -> None:
    store = disk(tmp_path)
    heard = Heard()
    run = heard.run(seen(store))
    assert admission.check_not_fenced(run, []) == {}
    store.marker.write_text(marker("the issuer", Identity("b" * 64), EPOCH, "203.0.113.11"))
    with pytest.raises(ClonedError) as caught:
        admission.check_not_fenced(run, [])
    assert caught.value.message == (
        "this machine is a copy of backend-01, the issuer (its machine-id or product UUID is "
        "another one): nothing was ordered or activated"
    )
    assert "certsync add-backend" in caught.value.hint
    address = "203.0.113.10"
    leads[:] = [Sighting(address, address, public=True, reached=True, seen=False, answer="")]
    with pytest.raises(ClonedError):
        admission.check_not_fenced(run, [])
    leads[:] = [Sighting(address, address, public=True, reached=True, seen=True, answer="")]
    assert admission.check_not_fenced(run, []) == {}
    assert heard.told[0].startswith("warning: this machine is a copy of backend-01")

"""The account's key and its registration belong together, or are none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from certsync.issuer.ca import due, registration
from certsync.issuer.state import LineageState
from certsync.issuer.store import Store
from tests.unit.fake_fleet import DIRECTORY, NOW, fleet
from tests.unit.issuer.fake_disk import seen

URI = "https://ca.example/account/1"


def lay(folder: Path, key: str = "key", uri: str = URI) -> None:
    """Write an account as it is written when it is registered."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "key.pem").write_text(key)
    data = {"uri": uri, "body": {}, "key": registration.key_sum(folder)}
    (folder / "account.json").write_text(json.dumps(data))


def test_an_account_with_its_key_can_order(tmp_path: Path) -> None:
    lay(tmp_path)
    assert registration.read(tmp_path) == {"uri": URI, "body": {}}
    assert registration.finding(tmp_path) == ""


def test_a_registration_whose_key_is_lost_is_none(tmp_path: Path) -> None:
    lay(tmp_path)
    (tmp_path / "key.pem").unlink()
    assert registration.read(tmp_path) == {}
    assert registration.finding(tmp_path) == (
        f"the CA account's key is missing ({tmp_path}/key.pem)"
    )


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '{"uri": 3}', '{"uri": "https://ca.example/account/1"}', "\xff"]
)
def test_a_registration_that_is_broken_or_of_another_key_is_none(tmp_path: Path, text: str) -> None:
    lay(tmp_path)
    (tmp_path / "account.json").write_text(text, encoding="latin-1")
    assert registration.read(tmp_path) == {}
    assert "does not match key.pem beside it" in registration.finding(tmp_path)
    lay(tmp_path)
    (tmp_path / "key.pem").write_text("another key")
    assert registration.read(tmp_path) == {}


def test_where_there_never_was_an_account_the_first_order_registers_it(tmp_path: Path) -> None:
    disk = Store(tmp_path / "etc", tmp_path / "state")
    never = seen(disk, fleet())
    assert never.account.startswith("the CA account's key is missing")
    assert due.outlook(never, LineageState(), NOW).account == ""
    disk.account(DIRECTORY).mkdir(parents=True)
    assert due.outlook(seen(disk, fleet()), LineageState(), NOW).account == never.account


@pytest.mark.parametrize("text", ["", '{"uri": "https://ca', "[" * 100_000])
def test_a_registration_that_was_interrupted_is_kept_aside(tmp_path: Path, text: str) -> None:
    lay(tmp_path)
    registration.put_broken_aside(tmp_path)
    assert registration.read(tmp_path) != {}
    (tmp_path / "account.json").write_text(text)
    registration.put_broken_aside(tmp_path)
    assert (tmp_path / "account.json.broken").read_text() == text
    assert not (tmp_path / "account.json").exists()
    registration.put_broken_aside(tmp_path)

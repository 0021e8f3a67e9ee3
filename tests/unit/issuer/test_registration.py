"""The account's key and its registration belong together, or are none."""

from __future__ import annotations

import json
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from acme import messages

from certsync.issuer.ca import due, registration
from certsync.issuer.ca.registration import ANEW
from certsync.issuer.state import LineageState
from certsync.issuer.store import Store
from certsync.model.errors import CaError
from tests.unit.fake_fleet import DIRECTORY, NOW, fleet
from tests.unit.issuer.fake_disk import seen

# The package's name for it is its function.
obtain = import_module("certsync.issuer.ca.issuance.obtain")

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


def test_an_account_that_the_ca_has_ended_is_kept_aside_once_a_day(tmp_path: Path) -> None:
    lay(tmp_path)
    assert registration.put_ended_aside(tmp_path, NOW)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "account.json.ended", "key.pem.ended"
    ]  # fmt: skip
    lay(tmp_path, "another key")
    assert not registration.put_ended_aside(tmp_path, NOW + ANEW - timedelta(minutes=1))
    assert registration.read(tmp_path) != {}
    assert registration.put_ended_aside(tmp_path, NOW + ANEW)
    assert (tmp_path / "key.pem.ended").read_text() == "another key"


class Ca:
    """A client of a CA that says this of an account."""

    def __init__(self, said: messages.Registration | messages.Error) -> None:
        self.said = said

    def query_registration(self, account: Any) -> Any:
        """Say it."""
        if isinstance(self.said, messages.Error):
            raise self.said
        return account.update(body=self.said)


@pytest.mark.parametrize(
    ("said", "ended"),
    [
        (messages.Registration(status="valid"), False),
        (messages.Registration(status="deactivated"), True),
        (messages.Registration(status="revoked"), True),
        (messages.Error.with_code("unauthorized"), True),
        (messages.Error.with_code("serverInternal"), False),
    ],
)
def test_an_account_has_ended_where_the_ca_says_so_of_the_account_itself(
    tmp_path: Path, said: Any, *, ended: bool
) -> None:
    lay(tmp_path)
    refused = CaError("the CA refused while placing the order", problem="unauthorized")
    store = Store(tmp_path / "etc", tmp_path / "state")
    folder = store.account(DIRECTORY)
    lay(folder)
    found = obtain._without_account(refused, Ca(said), seen(store, fleet()), NOW)
    assert (folder / "key.pem").exists() is not ended
    assert ("the CA has ended our account" in found.message) is ended
    assert found.problem == "unauthorized"

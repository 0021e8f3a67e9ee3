"""Which time a run goes by where the issuer's clock is far off: its own, until time runs out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import josepy
import pytest
import requests
from acme import errors
from cryptography.hazmat.primitives.asymmetric import ec

from certsync.issuer.ca import ari, right_time
from certsync.issuer.ca.issuance.clock import time_to_go_by
from certsync.issuer.ca.issuance.network import Network
from certsync.issuer.ca.renewal_info import RenewalInfo
from certsync.issuer.commands import renew, rollback
from certsync.issuer.compromise import CompromisedKey, Mark, Marks
from certsync.issuer.hourly import Hourly
from certsync.issuer.memory import Memory
from certsync.issuer.state import LineageState, State
from certsync.model.certificate import key_pem
from certsync.model.errors import ClockError
from certsync.model.fleet import SYSTEM_ROOTS, Machine
from certsync.model.proof import Proof, Verdict
from certsync.system import proving
from tests.unit import authority
from tests.unit.authority import signer
from tests.unit.fake_fleet import NAME, NOW, manifest
from tests.unit.issuer.fake_disk import Heard, situation
from tests.unit.system.test_handshake import serving

SOON = "going by the CA's, because the live certificate expires soon"
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
END = NOW + 75 * DAY
"""When guards end for a certificate of 90 days."""


@pytest.mark.parametrize(
    ("ca", "ours", "end", "time"),
    [
        pytest.param(NOW, NOW + HOUR, END, NOW + HOUR, id="an hour off is near enough"),
        pytest.param(None, NOW, END, NOW, id="a CA without a date"),
        pytest.param(NOW, NOW - DAY, END, None, id="behind, and there is time"),
        pytest.param(END, END - 80 * DAY, END, END, id="behind, and time is running out"),
        pytest.param(END, END - 80 * DAY, None, None, id="nothing that is served would expire"),
        pytest.param(NOW, END + DAY, END, None, id="ahead: it is late by our clock alone"),
        pytest.param(END, END + 80 * DAY, END, END, id="ahead, and late by the CA's, too"),
    ],
)
def test_the_time_to_go_by(
    ca: datetime | None, ours: datetime, end: datetime | None, time: datetime | None
) -> None:
    assert right_time.right_time(ca, ours, end) == time


def test_a_clock_that_is_far_off_stops_an_order_until_the_cas_is_gone_by() -> None:
    told: list[str] = []
    for ca, ours in ((NOW, NOW - DAY), (NOW, END + DAY)):
        with pytest.raises(ClockError, match="so nothing was ordered"):
            time_to_go_by(ca, ours, END, told.append)
    assert told == []
    assert time_to_go_by(END, END - DAY, END, told.append) == END
    assert time_to_go_by(NOW, NOW + HOUR / 2, END, told.append) == NOW + HOUR / 2
    assert told == [
        f"warning: the issuer's clock is 24 hours behind the CA's; {SOON}",
        "warning: the issuer's clock is 30 minutes ahead of the CA's",
    ]


@pytest.mark.parametrize(
    ("ours", "ca", "goes_by"),
    [
        pytest.param(NOW - DAY, NOW, None, id="before the certificate, and there is time"),
        pytest.param(NOW - DAY, None, None, id="before the certificate, and nobody to ask"),
        pytest.param(NOW - DAY, END, END, id="before the certificate, and time is running out"),
        pytest.param(NOW + DAY, END, NOW + DAY, id="within: nobody is asked"),
        pytest.param(NOW + 99 * DAY, NOW, NOW + 99 * DAY, id="ahead, and there is time"),
        pytest.param(NOW + 99 * DAY, END, END, id="ahead, and time is running out"),
    ],
)
def test_a_run_whose_clock_is_outside_of_the_newest_certificates_time_asks_the_ca(
    monkeypatch: pytest.MonkeyPatch, ours: datetime, ca: datetime | None, goes_by: datetime | None
) -> None:
    monkeypatch.setattr(right_time, "ask", lambda *_: ca)
    run = Heard().run(situation(manifest(1)), ours)
    if goes_by is None:
        with pytest.raises(ClockError):
            renew._know_the_time(run, manifest(1))
    else:
        renew._know_the_time(run, manifest(1))
        assert run.now == goes_by


@pytest.fixture(autouse=True)
def served(monkeypatch: pytest.MonkeyPatch) -> list[Proof]:
    """Return what backends serve; nothing, until a test adds something."""
    proofs: list[Proof] = []

    def prove(hosts: Sequence[Machine], *_: object) -> list[Proof]:
        names = [each.name for each in hosts]
        return [each for each in proofs if each.name in names]

    monkeypatch.setattr(proving, "prove", prove)
    return proofs


@pytest.mark.parametrize("backend", ["backend-01", "backend-02"])
def test_what_any_backend_still_serves_counts_though_the_live_link_is_newer(
    monkeypatch: pytest.MonkeyPatch, served: list[Proof], backend: str
) -> None:
    monkeypatch.setattr(right_time, "ask", lambda *_: NOW)
    run = Heard().run(situation(manifest(2)), NOW - 99 * DAY)
    with pytest.raises(ClockError):
        renew._know_the_time(run, manifest(2))
    begin = NOW - 80 * DAY
    served += [Proof(backend, Verdict.BEHIND, "", "ff", "", "", begin, begin + 90 * DAY)]
    run = Heard().run(situation(manifest(2)), NOW - 99 * DAY)
    renew._know_the_time(run, manifest(2))
    assert run.now == NOW


@pytest.mark.parametrize("off", [-2 * HOUR, 99 * DAY])
def test_nothing_is_rolled_back_by_a_wrong_clock(
    monkeypatch: pytest.MonkeyPatch, off: timedelta
) -> None:
    monkeypatch.setattr(right_time, "ask", lambda *_: NOW)
    with pytest.raises(ClockError, match="cannot roll back: the issuer's clock is "):
        rollback.rollback(Heard().run(situation(manifest(1), manifest(2)), NOW + off))


def test_a_wrong_clock_by_which_all_is_valid_stops_no_rollback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(right_time, "ask", lambda *_: NOW + HOUR)
    heard = Heard()
    rollback._refuse_a_wrong_clock(heard.run(situation(manifest(1), manifest(2)), NOW + 9 * HOUR))
    assert heard.told == ["warning: the issuer's clock is 8 hours ahead of the CA's"]


@pytest.mark.parametrize(("late", "goes_by"), [(False, NOW), (True, END)])
def test_a_clock_that_is_behind_holds_nothing_back_where_the_live_key_is_compromised(
    monkeypatch: pytest.MonkeyPatch, *, late: bool, goes_by: datetime
) -> None:
    monkeypatch.setattr(right_time, "ask", lambda *_: END if late else NOW + DAY)
    marks = Marks((Mark("backend-09", NOW, (CompromisedKey(1),)),))
    run = Heard().run(replace(situation(manifest(1)), marks=marks), NOW)
    hour = Hourly(run)
    monkeypatch.setattr(renew, "_order", lambda *_, **__: None)
    renew._all_of_it(hour, force=False)
    assert run.seen.newest is None
    assert run.now == goes_by


@pytest.mark.parametrize(("late", "goes_by"), [(False, NOW), (True, END + DAY)])
def test_a_clock_that_is_far_behind_hides_no_order_that_is_due(
    monkeypatch: pytest.MonkeyPatch, *, late: bool, goes_by: datetime
) -> None:
    ca_date = END + DAY if late else NOW + DAY
    answer = ari.Answer({}, HOUR, ca_date)
    info = RenewalInfo(manifest(1).fingerprint, NOW, NOW)
    monkeypatch.setattr(ari, "ask", lambda *_: (info, answer))
    heard = Heard()
    run = heard.run(situation(manifest(1)))
    run.memory = Memory(run.seen.store, State({NAME: LineageState()}))
    monkeypatch.setattr(Memory, "note", lambda *_, **__: None)
    renew._ask_ca(run, manifest(1))
    assert run.now == goes_by
    assert heard.told[0].startswith("warning: the issuer's clock is ")


def test_of_a_ca_whose_certificate_is_over_by_our_clock_the_chain_alone_is_verified(
    tmp_path: Path,
) -> None:
    key, root = ec.generate_private_key(ec.SECP256R1()), signer("the root of the CA's HTTPS")
    expired = authority.leaf(root, key, ["localhost"], begin=-9 * DAY, days=8)
    (tmp_path / "cert.pem").write_text(expired)
    (tmp_path / "privkey.pem").write_bytes(key_pem(key))
    (tmp_path / "root.pem").write_text(root.pem)
    (tmp_path / "other.pem").write_text(signer("another root").pem)
    now = datetime.now(timezone.utc)
    with serving(tmp_path) as port:
        url, bundle = f"https://localhost:{port}/", str(tmp_path / "root.pem")
        date = right_time.ask(url, bundle)
        assert date is not None
        assert abs(date - now) < timedelta(minutes=5)
        assert right_time.ask(url, str(tmp_path / "other.pem")) is None
        network = Network(josepy.JWKEC(key=key), bundle)
        with pytest.raises(requests.exceptions.SSLError):
            network.get(url)
        network.trust_any_date()
        with pytest.raises(errors.ClientError):
            network.get(url)
        assert network.ca_date is not None
        other = Network(josepy.JWKEC(key=key), str(tmp_path / "other.pem"))
        other.trust_any_date()
        with pytest.raises(requests.exceptions.SSLError):
            other.get(url)


def test_a_ca_that_cannot_be_asked_has_no_time() -> None:
    for bundle in (SYSTEM_ROOTS, "/nowhere"):
        assert right_time.ask("https://127.0.0.1:1/directory", bundle) is None

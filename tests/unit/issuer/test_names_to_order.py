"""Which names an order is made for, by what the look-ups of all of them said."""

from __future__ import annotations

import pytest

from certsync.issuer.backoff import Tries
from certsync.issuer.ca.before_order import _with_names_that_lead_here
from certsync.issuer.ca.due import Outlook
from certsync.issuer.schedule import Due
from certsync.model.errors import DnsError
from certsync.system import dns
from certsync.system.dns import Found
from tests.unit.fake_fleet import NAME, NOW, fleet, manifest
from tests.unit.issuer.fake_disk import situation

WWW, NEW = f"www.{NAME}", f"new.{NAME}"
HERE = Found(fleet().public_addresses)
ELSEWHERE = Found(("192.0.2.1",))
HICCUP = Found(failure="no answer")

FIRST = Due("there is none", first=True)
ADDED = Due("the names have changed", first=True)
ADDED_LATE = Due("the names have changed", first=True, since=NOW)
RENEWAL = Due("it ends soon", first=False, since=NOW)


def ordered(
    monkeypatch: pytest.MonkeyPatch, due: Due, served: tuple[str, ...], **answers: Found
) -> tuple[tuple[str, ...], list[str]]:
    """Return the names that are ordered, and what is told."""
    names = {"first": NAME, "www": WWW, "new": NEW}
    looked = {names[key]: found for key, found in answers.items()}
    return ordered_by(monkeypatch, due, served, looked, late=False)


def ordered_by(
    monkeypatch: pytest.MonkeyPatch, due: Due, served: tuple[str, ...], looked: dict[str, Found],
    *, late: bool,
) -> tuple[tuple[str, ...], list[str]]:  # fmt: skip
    """Return the same, when time is running out or not."""
    seen = situation(wanted=fleet(names=tuple(looked)))
    newest = manifest(names=served) if served else None
    monkeypatch.setattr(dns, "look_up_all", lambda _names: looked)
    told: list[str] = []
    outlook = Outlook(newest, due, None, Tries())
    return _with_names_that_lead_here(seen, outlook, told.append, late=late).names, told


@pytest.mark.parametrize(
    ("due", "served", "answers", "names"),
    [
        pytest.param(
            FIRST, (), {"first": HERE, "www": HERE}, (NAME, WWW), id="all lead here"
        ),
        pytest.param(
            RENEWAL, (NAME, WWW), {"first": HICCUP, "www": HICCUP}, (NAME, WWW),
            id="no look-up stops a renewal",
        ),
        pytest.param(
            ADDED, (NAME, WWW), {"first": HERE, "www": HICCUP, "new": HERE}, (NAME, WWW, NEW),
            id="a served name is ordered without an answer",
        ),
        pytest.param(
            ADDED_LATE, (NAME, WWW), {"first": HERE, "www": HICCUP, "new": HERE},
            (NAME, WWW, NEW),
            id="also where it would expire",
        ),
        pytest.param(
            ADDED_LATE, (NAME, WWW), {"first": HICCUP, "www": HICCUP, "new": ELSEWHERE},
            (NAME, WWW),
            id="an added name that leads elsewhere takes none with it",
        ),
        pytest.param(
            ADDED_LATE, (NAME, WWW), {"first": HERE, "www": HERE, "new": HICCUP}, (NAME, WWW),
            id="nor does an added one without an answer",
        ),
        pytest.param(
            ADDED_LATE, (NAME, WWW), {"first": HERE, "www": ELSEWHERE, "new": HERE}, (NAME,),
            id="a served name that leads elsewhere is left out",
        ),
        pytest.param(
            ADDED_LATE, (NAME, WWW), {"first": HERE, "www": Found(), "new": ELSEWHERE},
            (NAME, WWW),
            id="one that the resolver does not know is not",
        ),
        pytest.param(
            ADDED_LATE, (NAME, WWW), {"first": HERE, "www": Found()}, (NAME, WWW),
            id="and nothing is told to be left out",
        ),
    ],
)  # fmt: skip
def test_the_names_of_an_order(
    monkeypatch: pytest.MonkeyPatch,
    due: Due,
    served: tuple[str, ...],
    answers: dict[str, Found],
    names: tuple[str, ...],
) -> None:
    found, told = ordered(monkeypatch, due, served, **answers)
    assert found == names
    left_out = len(names) < len(answers)
    assert any(each.startswith("warning: renewing without ") for each in told) is left_out


@pytest.mark.parametrize(("due", "served"), [(FIRST, ()), (ADDED, (NAME,))], ids=["first", "added"])
def test_a_first_order_waits_for_a_look_up_that_failed_and_asks_for_no_records(
    monkeypatch: pytest.MonkeyPatch, due: Due, served: tuple[str, ...]
) -> None:
    with pytest.raises(DnsError) as caught:
        ordered(monkeypatch, due, served, first=HERE, new=HICCUP)
    assert caught.value.exit_status == 75
    assert caught.value.message == (
        f"nothing was ordered: the DNS lookup of {NEW} failed: no answer"
    )
    assert "set these records" not in caught.value.hint


def test_records_to_set_are_told_where_any_name_really_leads_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(DnsError) as caught:
        ordered(monkeypatch, FIRST, (), first=ELSEWHERE, new=HICCUP)
    assert caught.value.message.startswith("DNS does not point to the balancer yet: ")
    assert caught.value.hint.startswith("set these records")
    # They may be set: this machine's own resolver is asked, and a CDN's addresses lead elsewhere.
    assert "if they are set, backend-01 does not see them: look at its /etc/hosts and its " in (
        caught.value.hint
    )
    assert f"`getent ahosts {NAME}` there" in caught.value.hint
    assert "a CDN's" in caught.value.hint
    with pytest.raises(DnsError) as caught:
        ordered(monkeypatch, FIRST, (), first=HICCUP, new=Found())
    assert f"`getent ahosts {NEW}` there" in caught.value.hint
    assert "CDN" not in caught.value.hint


@pytest.mark.parametrize(
    ("due", "served", "names"),
    [
        pytest.param(ADDED_LATE, (NAME, WWW), (NAME, WWW), id="what is served is ordered again"),
        pytest.param(ADDED_LATE, (WWW,), (NAME, WWW, NEW), id="but never without the first name"),
        pytest.param(FIRST, (), (NAME, WWW, NEW), id="and all, where the issuer has lost its own"),
    ],
)
def test_no_resolver_that_leads_the_first_name_elsewhere_lets_a_site_expire(
    monkeypatch: pytest.MonkeyPatch, due: Due, served: tuple[str, ...], names: tuple[str, ...]
) -> None:
    looked = {NAME: ELSEWHERE, WWW: ELSEWHERE, NEW: ELSEWHERE}
    with pytest.raises(DnsError):
        ordered_by(monkeypatch, due, served, looked, late=False)
    found, told = ordered_by(monkeypatch, due, served, looked, late=True)
    assert found == names
    assert told[-1] == (
        f"warning: ordering for {', '.join(names)} anyway: what is served expires soon"
    )

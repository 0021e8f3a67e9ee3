"""A rehearsal's rules: at which CA, and how what was found is told."""

from __future__ import annotations

import pytest

from certsync.issuer.canary import Sighting
from certsync.issuer.commands.rehearse_here import of_sightings
from certsync.model import rehearsal
from certsync.model.errors import CertsyncError
from certsync.model.fleet import LETSENCRYPT, LETSENCRYPT_STAGING
from certsync.model.rehearsal import Finding

OTHER = "https://ca.example/dir"
AT_ITS_OWN = (
    f"the fleet's certificate is from {OTHER}: a test order there may count against its limits"
)


@pytest.mark.parametrize(
    ("of_fleet", "asked", "chosen"),
    [
        (LETSENCRYPT, "", LETSENCRYPT_STAGING),
        (LETSENCRYPT_STAGING, "", LETSENCRYPT_STAGING),
        (LETSENCRYPT, "letsencrypt-staging", LETSENCRYPT_STAGING),
        (LETSENCRYPT, OTHER, OTHER),
        (OTHER, "https://ca.example/tries", "https://ca.example/tries"),
        (OTHER, OTHER, OTHER),
    ],
)
def test_it_is_held_at_the_cas_directory_for_tries(of_fleet: str, asked: str, chosen: str) -> None:
    assert rehearsal.directory(of_fleet, asked) == chosen


@pytest.mark.parametrize(
    ("of_fleet", "asked", "message", "hint"),
    [
        (OTHER, "", AT_ITS_OWN, "name the CA's test directory with --directory URL"),
        (
            LETSENCRYPT, "letsencrypt",
            "a test order at Let's Encrypt's production CA counts against its limits",
            "omit --directory to use its staging CA",
        ),
        (
            LETSENCRYPT, "staging", "'staging' is not a CA's directory",
            "give the full https:// URL",
        ),
    ],
)  # fmt: skip
def test_a_directory_whose_orders_count_is_refused(
    of_fleet: str, asked: str, message: str, hint: str
) -> None:
    with pytest.raises(CertsyncError) as caught:
        rehearsal.directory(of_fleet, asked)
    assert (caught.value.message, caught.value.hint) == (message, hint)


def sighting(where: str, *, public: bool, reached: bool, seen: bool) -> Sighting:
    address = where if public else "203.0.113.12"
    return Sighting(where, address, public, reached, seen, "HTTP 404" if reached else "refused")


def test_who_loses_the_canary_is_told_by_name_and_family() -> None:
    found = of_sightings([
        sighting("backend-01", public=False, reached=True, seen=True),
        sighting("backend-02", public=False, reached=True, seen=False),
        sighting("backend-03", public=False, reached=False, seen=False),
        sighting("203.0.113.10", public=True, reached=True, seen=True),
        sighting("2001:db8::1", public=True, reached=False, seen=False),
    ])  # fmt: skip
    here, through = "fetched from its own address", "fetched through the balancer over"
    assert found == [
        Finding("backend-01", f"a challenge file, {here}"),
        Finding("backend-02", f"a challenge file, {here}", "answers HTTP 404"),
        Finding("backend-03", f"a challenge file, {here}", "not reached: refused"),
        Finding("203.0.113.10", f"a challenge file, {through} IPv4"),
        Finding("2001:db8::1", f"a challenge file, {through} IPv6", "not reached: refused"),
    ]


def test_a_network_that_hides_all_public_addresses_from_the_issuer_is_no_failure() -> None:
    found = of_sightings([
        sighting("203.0.113.10", public=True, reached=False, seen=False),
        sighting("2001:db8::1", public=True, reached=False, seen=False),
    ])  # fmt: skip
    assert [each.why for each in found] == ["", ""]


def test_the_table_has_a_line_for_each_and_the_error_names_who_failed() -> None:
    good, bad = Finding("web-1", "checked by nginx"), Finding("balancer", "haproxy -c", "line 3")
    assert rehearsal.table([good, bad]) == (
        "web-1     checked by nginx: ok\nbalancer  haproxy -c: line 3"
    )
    error = rehearsal.error([good, bad])
    assert error is not None
    assert error.message == "the rehearsal failed: balancer: haproxy -c: line 3"
    assert error.hint == "nothing live was touched; fix this and rehearse again"
    assert rehearsal.error([good]) is None
    assert Finding.from_json(bad.to_json()) == bad

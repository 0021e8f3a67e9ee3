"""What CAA records permit, by RFC 8659 and RFC 8657."""

from __future__ import annotations

import pytest

from certsync.model.caa import Objection, Property, Records, objection

NAME = "www.example.com"
OURS = ("ca.example", "old-ca.example")
ACCOUNT, OTHER = "https://ca.example/acct/1", "https://ca.example/acct/2"
ONLY_OTHER = f"permit ca.example only for the account {OTHER}; this fleet's is {ACCOUNT}"
ONLY_METHODS = "permit ca.example only the validation methods {}; certsync uses http-01"


def judged(
    *values: str, name: str = NAME, account: str = ACCOUNT, identities: tuple[str, ...] = OURS
) -> Objection | None:
    """Judge records that are written as `flags tag value`."""
    properties = []
    for each in values:
        flags, tag, value = each.split(" ", 2)
        properties.append(Property(int(flags), tag, value))
    return objection(name, Records("example.com", tuple(properties)), identities, account)


@pytest.mark.parametrize(
    "values",
    [
        (),
        ("0 iodef mailto:a@example.com",),
        ("0 issue ca.example",),
        ("0 issue CA.Example",),
        ("0 issue old-ca.example;",),
        ("0 issue other.example", "0 issue ca.example"),
        ("128 issue ca.example; policy=ev",),
        ("0 issue ca.example; validationmethods=dns-01,http-01",),
        (f"0 issue ca.example ;\taccounturi = {ACCOUNT}",),
        (f"0 issue ca.example; accounturi={OTHER}", f"0 issue ca.example; AccountURI={ACCOUNT}"),
        ("0 issuewild ;",),
        ("0 issuewild other.example", "0 issue ca.example"),
    ],
)  # fmt: skip
def test_these_permit_an_order(values: tuple[str, ...]) -> None:
    assert judged(*values) is None


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (("0 issue ;",), "permit no CA"),
        (("0 issue other.example",), "permit only other.example, not ca.example or old-ca.example"),
        (("0 issue ca.example policy=ev",), "permit no CA"),
        (("0 issue ca.example; accounturi",), "permit no CA"),
        (("0 issue ca.example; =x",), "permit no CA"),
        (("0 issue \x1b[2J",), "permit no CA"),
        (
            ("128 tbs unknown", "0 issue ca.example"),
            "have a critical property that CAs do not understand: tbs",
        ),
        (
            ("0 issue ca.example; validationmethods=dns-01,tls-alpn-01",),
            ONLY_METHODS.format("dns-01,tls-alpn-01"),
        ),
        (
            ("0 issue ca.example; validationmethods=http-01; validationmethods=http-01",),
            ONLY_METHODS.format("http-01, http-01"),
        ),
        (
            (f"0 issue ca.example; accounturi={OTHER}",),
            ONLY_OTHER,
        ),
        (
            (
                "0 issue ca.example; validationmethods=dns-01",
                f"0 issue ca.example; accounturi={OTHER}",
            ),
            ONLY_OTHER,
        ),
    ],
)
def test_these_forbid_it_and_the_reason_is_said(values: tuple[str, ...], text: str) -> None:
    found = judged(*values)
    assert found is not None
    assert (found.text, found.at, found.is_certain) == (text, "example.com", True)
    assert found.hint


def test_before_there_is_an_account_the_one_that_is_named_is_said_and_nothing_is_certain() -> None:
    found = judged(f"0 issue ca.example; accounturi={ACCOUNT}", account="")
    assert found == Objection(
        "example.com", f"permit ca.example only for the account {ACCOUNT}", "", is_certain=False
    )
    free = (f"0 issue ca.example; accounturi={ACCOUNT}", "0 issue ca.example")
    assert judged(*free, account="") is None


def test_for_a_wildcard_its_own_properties_count_if_there_are_any() -> None:
    wild = ("0 issue ca.example", "0 issuewild other.example")
    assert judged(*wild) is None
    found = judged(*wild, name="*.example.com")
    assert found is not None
    assert found.text.startswith("permit only other.example")
    assert found.hint == 'add: example.com. CAA 0 issuewild "ca.example"'
    assert judged("0 issue ca.example", name="*.example.com") is None


def test_of_a_ca_whose_domain_is_unknown_only_what_forbids_any_is_said() -> None:
    assert judged("0 issue other.example", identities=()) is None
    found = judged("0 issue ;", identities=())
    assert found is not None
    assert found.text == "permit no CA"
    assert judged("0 issue other.example; validationmethods=dns-01", identities=()) is not None

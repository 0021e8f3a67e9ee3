"""What is said of CAA records before a deploy: to `check --online`, and as warnings."""

from __future__ import annotations

import pytest

from certsync.model.caa import Property, Records
from certsync.model.errors import UnreachableError
from certsync.model.fleet import LETSENCRYPT, LETSENCRYPT_STAGING, Authority, Fleet, Lineage
from certsync.operator.commands import deploy
from certsync.operator.hosts import caa, issuer_side
from certsync.system import caa as lookups
from certsync.system import http_get
from tests.unit.fake_fleet import fleet

ACCOUNT = "https://acme-v02.api.letsencrypt.org/acme/acct/1"
OTHER = Records("example.com", (Property(0, "issue", "other.example"),))
PINNED = Records(
    "example.com", (Property(0, "issue", f"letsencrypt.org; accounturi={ACCOUNT}"),)
)  # fmt: skip
NAMES = tuple(f"n{number}.example.com" for number in range(5))
FLEET = fleet(
    lineages=(Lineage(NAMES), Lineage(("shop.example.net",))), authority=Authority(LETSENCRYPT)
)
US = ("letsencrypt.org",)


def told(found: dict[str, Records], account: str = "") -> list[str]:
    return [each.full() for each in caa.findings(FLEET, found, US, account)]


def test_names_with_the_same_records_are_told_together_and_others_by_themselves() -> None:
    found = dict.fromkeys(NAMES, OTHER) | {"shop.example.net": Records()}
    assert told(found) == [
        (
            "DNS: n0.example.com, n1.example.com, n2.example.com and 2 more: the CAA records at "
            "example.com permit only other.example, not letsencrypt.org\n"
            '  hint: add: example.com. CAA 0 issue "letsencrypt.org"'
        )
    ]
    shop = Records("example.net", (Property(0, "issue", ";"),))
    both = told({NAMES[0]: OTHER, "shop.example.net": shop})
    assert [line.split(":")[1].strip() for line in both] == ["n0.example.com", "shop.example.net"]


def test_an_account_that_is_named_before_there_is_one_is_a_note_with_what_to_do() -> None:
    (line,) = told({NAMES[0]: PINNED})
    assert line.startswith(
        "note: DNS: n0.example.com: the CAA records at example.com permit letsencrypt.org only for "
        f"the account {ACCOUNT}\n  hint: this fleet's account is not known: "
    )
    assert "/account.json on backend-01" in line
    assert told({NAMES[0]: PINNED}, ACCOUNT) == []
    (line,) = told({NAMES[0]: PINNED}, f"{ACCOUNT}23")
    assert not line.startswith("note: ")


def test_a_look_up_that_fails_is_a_note_and_says_whose_fault_it_may_be() -> None:
    silent = Records(failure="timed out")
    broken = Records(failure="answered SERVFAIL", broken=True)
    assert told(dict.fromkeys(NAMES[:2], silent) | {NAMES[2]: broken}) == [
        (
            "note: DNS: n0.example.com, n1.example.com: looking up CAA records failed: timed out\n"
            "  hint: run the same command again; if it fails again, check this machine's resolver"
        ),
        (
            "note: DNS: n2.example.com: looking up CAA records failed: answered SERVFAIL; if a CA "
            "gets that answer, too, it refuses\n"
            "  hint: check the zone's name servers, and its DNSSEC"
        ),
    ]


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Records]:
    """Return the records that each name has; the test fills them in."""
    found: dict[str, Records] = {}
    monkeypatch.setattr(
        lookups, "records", lambda names: {name: found.get(name, Records()) for name in names}
    )
    return found


def no_ssh(_fleet: Fleet) -> str:
    raise AssertionError("the issuer is asked")


def test_the_issuer_is_asked_for_its_account_only_if_a_record_names_one(
    looked: dict[str, Records], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuer_side, "account", no_ssh)
    looked[NAMES[0]] = OTHER
    assert len(caa.look(FLEET)) == 1
    looked[NAMES[0]] = PINNED
    monkeypatch.setattr(issuer_side, "account", lambda _fleet: ACCOUNT)
    assert caa.look(FLEET) == []

    def unreachable(_fleet: Fleet) -> str:
        raise UnreachableError("no route", host="backend-01")

    monkeypatch.setattr(issuer_side, "account", unreachable)
    assert [each.stops for each in caa.look(FLEET)] == [False]


@pytest.mark.parametrize("directory", [LETSENCRYPT, LETSENCRYPT_STAGING])
def test_lets_encrypts_domain_is_known_without_asking(directory: str) -> None:
    assert caa._identities(Authority(directory), ask_ca=False) == US


@pytest.mark.parametrize(
    ("body", "domains"),
    [
        ('{"meta": {"caaIdentities": ["CA.example", "b.example"]}}', ("ca.example", "b.example")),
        ('{"meta": {}}', ()),
        ("[]", ()),
        ("<html>", ()),
        ("[" * 100_000, ()),
    ],
)  # fmt: skip
def test_another_cas_domains_are_in_its_directory(
    body: str, domains: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = http_get.Answer(200, None, body.encode())  # type: ignore[arg-type]  # unread
    monkeypatch.setattr(http_get, "get", lambda *_a, **_k: answer)
    other = Authority("https://ca.example/directory")
    assert caa._identities(other, ask_ca=True) == domains
    assert caa._identities(other, ask_ca=False) == ()


def test_a_deploy_warns_of_them_and_goes_on(
    looked: dict[str, Records], capsys: pytest.CaptureFixture[str]
) -> None:
    looked["shop.example.net"] = Records("net", (Property(0, "issue", ";"),))
    deploy._warn_of_records(caa.look(FLEET))
    assert capsys.readouterr().err == (
        "warning: shop.example.net: the CAA records at net permit no CA; add: net. CAA 0 issue "
        '"letsencrypt.org"\n'
    )

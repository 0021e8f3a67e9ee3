"""What the CA says, in words; and what is kept of an order that is cut off."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import requests
from acme import errors, messages

from certsync.issuer.ca.issuance.account import account_key
from certsync.issuer.ca.issuance.clock import clock_finding
from certsync.issuer.ca.issuance.network import retry_after
from certsync.issuer.ca.issuance.order import _validation_failed, alternatives, open_order
from certsync.issuer.ca.issuance.pending import Pending
from certsync.issuer.ca.issuance.problem import (
    FROM_EVERYWHERE,
    HINTS,
    hint_for,
    translate_acme_errors,
)
from certsync.issuer.store import sums
from certsync.issuer.webroot import challenge_folder, present
from certsync.model.errors import CaBusyError, CaError, CaSilentError, ClockError
from certsync.model.options import KeyType
from tests.unit.fake_fleet import DIRECTORY, NOW, lineage, manifest

ACME = "urn:ietf:params:acme:error:"


def test_a_problem_is_told_with_its_detail_its_subproblems_and_a_hint() -> None:
    problem = messages.Error.from_json(
        {
            "type": f"{ACME}rejectedIdentifier",
            "detail": "Some names were rejected",
            "subproblems": [
                {
                    "type": f"{ACME}malformed",
                    "detail": "no public suffix",
                    "identifier": {"type": "dns", "value": "a.test"},
                }
            ],
        }
    )
    with pytest.raises(CaError) as caught, translate_acme_errors("placing the order"):
        raise problem
    assert caught.value.message == (
        "the CA refused while placing the order: Some names were rejected; a.test: no public "
        "suffix (rejectedIdentifier)"
    )
    assert caught.value.hint == "the CA does not issue for this name; is it spelled right?"


SECONDARY = "During secondary validation: 203.0.113.10: Fetching http://a.test/.well-known/acme-"


@pytest.mark.parametrize("kind", ["connection", "unauthorized", "dns"])
def test_a_challenge_that_fails_only_from_elsewhere_has_a_hint_of_its_own(kind: str) -> None:
    problem = messages.Error.from_json({"type": f"{ACME}{kind}", "detail": f"{SECONDARY}: Timeout"})
    assert hint_for(problem) == FROM_EVERYWHERE
    below = messages.Error.from_json(
        {"type": f"{ACME}{kind}", "detail": "two names", "subproblems": [problem.to_json()]}
    )
    assert hint_for(below) == FROM_EVERYWHERE


@pytest.mark.parametrize(
    "detail", ["203.0.113.10: Timeout", "a page that says: During secondary validation: no", None]
)
def test_other_words_of_a_ca_get_the_hint_of_the_problems_type(detail: str | None) -> None:
    problem = messages.Error(typ=f"{ACME}connection", detail=detail)
    assert hint_for(problem) == HINTS["connection"]
    unknown = messages.Error(typ=f"{ACME}odd", detail=detail)
    assert hint_for(unknown, "what was known before") == "what was known before"


def test_a_name_that_fails_only_from_elsewhere_fails_an_order_with_that_hint() -> None:
    error = {"type": f"{ACME}connection", "detail": f"{SECONDARY}: Timeout"}
    challenge = {"type": "http-01", "url": "https://ca/c", "token": "a" * 43, "error": error}
    body = messages.Authorization.from_json(
        {"identifier": {"type": "dns", "value": "a.test"}, "challenges": [challenge]}
    )
    failed = _validation_failed([messages.AuthorizationResource(uri="https://ca/a", body=body)])
    assert failed.hint == FROM_EVERYWHERE
    assert "a.test: During secondary validation: 203.0.113.10" in failed.message


def test_a_rate_limit_means_later() -> None:
    problem = messages.Error.from_json({"type": f"{ACME}rateLimited", "detail": "too many"})
    with pytest.raises(CaBusyError) as caught, translate_acme_errors("placing the order"):
        raise problem
    assert caught.value.exit_status == 75
    assert caught.value.message == "the CA's rate limit was hit while placing the order: too many"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            requests.exceptions.ConnectionError("refused"),
            "the CA cannot be reached while asking: refused",
        ),
        (requests.exceptions.ReadTimeout("slow"), "the CA cannot be reached while asking: slow"),
        (
            requests.exceptions.SSLError("self-signed"),
            "the CA's own certificate is not trusted, while asking: self-signed",
        ),
        (errors.ClientError("odd"), "the CA's answer is not valid ACME, while asking: odd"),
        (KeyError("newOrder"), "the CA's answer is not valid ACME, while asking: 'newOrder'"),
        (errors.TimeoutError(), "the CA took too long while asking"),
    ],
)
def test_foreign_errors_are_translated_where_they_enter(error: Exception, message: str) -> None:
    with pytest.raises(CaError) as caught, translate_acme_errors("asking"):
        raise error
    assert caught.value.message == message
    assert caught.value.hint


def every(error: type[Exception]) -> set[type[Exception]]:
    return {error}.union(*(every(each) for each in error.__subclasses__()))


TOLD_WITH_THEIR_PROBLEM = {messages.Error, errors.IssuanceError}


@pytest.mark.parametrize(
    "kind",
    sorted(every(errors.Error) - TOLD_WITH_THEIR_PROBLEM, key=str),
    ids=str,
)
def test_no_error_of_the_acme_library_gets_past_the_border(kind: type[Exception]) -> None:
    # Their constructors all differ; what matters is the class.
    bare = type("Bare", (kind,), {"__init__": lambda _self: None, "__str__": lambda _self: "x"})
    with pytest.raises(CaError), translate_acme_errors("asking"):
        raise bare


def answer(**headers: str) -> requests.Response:
    response = requests.Response()
    response.headers.update({key.replace("_", "-"): value for key, value in headers.items()})
    return response


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120),
        ("-5", 0),
        ("Sat, 21 Nov 2026 12:01:00 GMT", 60),
        ("Sat, 21 Nov 2026 11:00:00 GMT", 0),
        ("soon", 5),
    ],
)
def test_retry_after_is_read_in_both_its_forms(header: str, seconds: float) -> None:
    assert retry_after(answer(Retry_After=header), NOW) == timedelta(seconds=seconds)


def test_without_retry_after_a_default_is_waited() -> None:
    assert retry_after(answer(), NOW, default=1) == timedelta(seconds=1)


@pytest.mark.parametrize(
    ("off", "text"),
    [
        (timedelta(minutes=4), ""),
        (timedelta(minutes=-6), "the issuer's clock is 6 minutes behind the CA's"),
        (timedelta(minutes=59), "the issuer's clock is 59 minutes ahead of the CA's"),
    ],
)
def test_a_clock_that_is_off_is_told(off: timedelta, text: str) -> None:
    assert clock_finding(NOW, NOW + off) == text


def test_a_clock_that_is_far_off_stops_the_order() -> None:
    with pytest.raises(ClockError) as caught:
        clock_finding(NOW, NOW + timedelta(days=365))
    assert caught.value.message == (
        "the issuer's clock is 365 days ahead of the CA's, so nothing was ordered"
    )
    assert caught.value.hint == "set the clock (timedatectl set-ntp true), then run this again"


def test_a_ca_without_a_date_is_believed() -> None:
    assert clock_finding(None, datetime.now(timezone.utc)) == ""


def test_an_open_order_keeps_its_key_while_the_wish_is_the_same(tmp_path: Path) -> None:
    pending = Pending(tmp_path / "pending")
    pending.prepare(DIRECTORY, lineage())
    pending.remember("https://ca.example/order/1")
    key = pending.key.read_bytes()
    assert pending.key.stat().st_mode & 0o777 == 0o600
    pending.prepare(DIRECTORY, lineage())
    assert (pending.key.read_bytes(), pending.url()) == (key, "https://ca.example/order/1")


def test_another_wish_begins_anew(tmp_path: Path) -> None:
    pending = Pending(tmp_path / "pending")
    pending.prepare(DIRECTORY, lineage())
    pending.remember("https://ca.example/order/1")
    key = pending.key.read_bytes()
    pending.prepare(DIRECTORY, lineage(key_type=KeyType.ECDSA_P384))
    assert pending.url() == ""
    assert pending.key.read_bytes() != key


def test_a_key_that_a_generation_has_is_never_ordered_with_again(tmp_path: Path) -> None:
    pending = Pending(tmp_path / "pending")
    assert not pending.is_of([manifest(1)])
    pending.prepare(DIRECTORY, lineage())
    assert not pending.is_of([manifest(1)])
    files = sums({"privkey.pem": pending.key.read_bytes()})
    assert pending.is_of([manifest(1, files=files)])


def test_challenge_files_are_readable_by_the_web_server_and_gone_in_every_ending(
    tmp_path: Path,
) -> None:
    folder = challenge_folder(tmp_path)
    folder.mkdir(parents=True)
    (folder / "left-by-a-killed-run").write_text("x")
    with present(tmp_path, {"token": "answer"}):
        assert [path.name for path in folder.iterdir()] == ["token"]
        assert (folder / "token").read_text() == "answer"
        assert (folder / "token").stat().st_mode & 0o777 == 0o644
    assert list(folder.iterdir()) == []
    with pytest.raises(RuntimeError), present(tmp_path, {"token": "answer"}):
        raise RuntimeError
    assert list(folder.iterdir()) == []


def test_the_account_key_is_made_once_and_is_roots_alone(tmp_path: Path) -> None:
    first = account_key(tmp_path / "account")
    assert account_key(tmp_path / "account") == first
    assert (tmp_path / "account/key.pem").stat().st_mode & 0o777 == 0o600


class SilentCa:
    """A CA whose line breaks whatever it is asked."""

    def _post_as_get(self, _url: str) -> object:
        raise requests.exceptions.ConnectionError("reset")


class ForgetfulCa:
    """A CA that does not know the order."""

    def _post_as_get(self, _url: str) -> object:
        raise messages.Error.from_json({"type": f"{ACME}malformed", "detail": "no such order"})


def test_an_open_order_outlives_a_ca_that_cannot_be_reached(tmp_path: Path) -> None:
    pending = Pending(tmp_path / "pending")
    pending.prepare(DIRECTORY, lineage())
    pending.remember("https://ca.example/order/1")
    with pytest.raises(CaSilentError):
        open_order(SilentCa(), pending, b"")  # type: ignore[arg-type]  # it is asked one thing
    assert pending.url() == "https://ca.example/order/1"
    assert open_order(ForgetfulCa(), pending, b"") is None  # type: ignore[arg-type]  # the same
    assert pending.url() == ""


@pytest.mark.parametrize("text", [b"", b"-----BEGIN", b"\xff"])
def test_an_account_key_that_cannot_be_read_is_kept_aside_and_another_one_made(
    tmp_path: Path, text: bytes
) -> None:
    (tmp_path / "key.pem").write_bytes(text)
    made = account_key(tmp_path)
    assert (tmp_path / "key.pem.broken").read_bytes() == text
    assert account_key(tmp_path) == made


class SeveralChains:
    """A CA with three alternate chains, the first of which cannot be had."""

    def _post_as_get(self, url: str) -> requests.Response:
        if url.endswith("/1"):
            raise requests.exceptions.ConnectionError("refused")
        found = requests.Response()
        found._content = url.encode()
        return found

    def _get_links(self, _response: requests.Response, relation: str) -> list[str]:
        assert relation == "alternate"
        return ["https://ca.example/1", "https://ca.example/2", "https://ca.example/3"]


def test_an_alternate_chain_that_cannot_be_had_keeps_nobody_from_the_next() -> None:
    order = messages.OrderResource(
        body=messages.Order(certificate="https://ca.example/0"), uri="https://ca.example/order"
    )
    said: list[str] = []
    found = alternatives(SeveralChains(), order, said.append)  # type: ignore[arg-type]  # asked two things
    assert list(found) == ["https://ca.example/2", "https://ca.example/3"]
    assert said == ["warning: the CA cannot be reached while fetching another chain: refused"]

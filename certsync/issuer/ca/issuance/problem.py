"""The CA's words turned into ours: problem documents (RFC 8555 section 6.7) and broken lines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import josepy
import requests
from acme import errors, messages

from certsync.model.errors import CaBusyError, CaError, CaSilentError
from certsync.system.process import printable

NO_ACME = (ValueError, TypeError, AttributeError, LookupError, OverflowError)
"""What the libraries stumble over in an answer of another shape, JSON that is none among them."""

HINTS = {
    "unauthorized": "what the CA fetched was not the challenge file: do all names lead to this "
    "fleet, over IPv4 and IPv6, and only to it?",
    "connection": "the CA could not connect to port 80: is a firewall in between?",
    "dns": "the CA could not look the name up: are its A, AAAA and CAA records right?",
    "caa": "a CAA record forbids this CA to sign for the name",
    "rejectedIdentifier": "the CA does not sign for this name; is it spelled right?",
    "unsupportedIdentifier": "the CA does not sign for this kind of name",
    "externalAccountRequired": "this CA wants an external account binding",
    "userActionRequired": "the CA's terms may have changed: read them and deploy again",
    "accountDoesNotExist": "the account is gone at the CA: the next try registers another one",
    "badPublicKey": "the CA does not sign this kind of key: set certificate.key_type",
    "badCSR": "the CA does not sign this request; set certificate.key_type to another kind",
    "serverInternal": "this is the CA's own trouble: try again in an hour",
}
"""What to try, by the last word of the problem's type."""


def describe(problem: messages.Error) -> str:
    """Return a problem document in one line: what it says, for each name it speaks of."""
    text = problem.detail or problem.description or problem.title or str(problem.typ)
    parts = [str(text)]
    for sub in problem.subproblems or ():
        name = sub.identifier.value if sub.identifier is not None else "?"
        parts.append(f"{name}: {sub.detail or sub.typ}")
    # Let's Encrypt quotes what it was served: these may be anybody's words.
    return printable("; ".join(parts))


def kind(problem: messages.Error) -> str:
    """Return the last word of the problem's type, `unauthorized`."""
    return str(problem.typ).rsplit(":", 1)[-1]


def refusal(problem: messages.Error, doing: str) -> CaError | CaBusyError:
    """Return the error to raise for a problem document met while ``doing`` something."""
    word = kind(problem)
    if word == "rateLimited":
        return CaBusyError(
            f"the CA limits how often, {doing}: {describe(problem)}",
            "nothing is lost: the same command later continues",
        )
    hint = HINTS.get(word, "")
    return CaError(f"the CA refused, {doing}: {describe(problem)} ({word})", hint, word)


@contextmanager
def translate_acme_errors(doing: str) -> Iterator[None]:
    """Translate whatever the libraries raise inside the block into one of our errors.

    Raises:
        CaError: the CA refused.
        CaSilentError: it could not be reached or understood.
        CaBusyError: it said when to come back.
    """
    try:
        yield
    except messages.Error as problem:
        raise refusal(problem, doing) from None
    except errors.IssuanceError as failed:
        raise refusal(failed.error, doing) from None
    except requests.exceptions.SSLError as failed:
        raise CaSilentError(
            f"the CA's own certificate is not trusted, {doing}: {_reason(failed)}",
            "a private CA's root goes into ca.directory_bundle of the fleet file",
        ) from None
    except requests.exceptions.RequestException as failed:
        raise CaSilentError(
            f"the CA cannot be reached, {doing}: {_reason(failed)}",
            "does the issuer have a way out to the CA on port 443?",
        ) from None
    except errors.TimeoutError:
        raise CaSilentError(
            f"the CA took too long, {doing}", "nothing is lost: the same command later continues"
        ) from None
    except (errors.Error, josepy.errors.Error, *NO_ACME) as failed:
        raise CaSilentError(
            f"the CA answered something that is no ACME, {doing}: {_reason(failed)}",
            "is ca.directory the URL of an ACME directory?",
        ) from None


def _reason(failed: Exception) -> str:
    inner: Exception = failed
    # requests wraps urllib3, which wraps the one that knows.
    while nested := _nested(inner):
        inner = nested
    text = " ".join((getattr(inner, "verify_message", "") or str(inner)).split())
    return printable((text or type(failed).__name__)[:300])


def _nested(error: Exception) -> Exception | None:
    found = getattr(error, "reason", None) or (error.args[0] if error.args else None)
    return found if isinstance(found, Exception) else None

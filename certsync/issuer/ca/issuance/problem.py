"""Translate the CA's errors: problem documents (RFC 8555 section 6.7) and failed connections."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import josepy
import requests
from acme import errors, messages

from certsync.model.errors import CaBusyError, CaError, CaSilentError
from certsync.system.process import printable

NO_ACME = (ValueError, TypeError, AttributeError, LookupError, OverflowError)
"""What the libraries raise for an unexpected answer, including invalid JSON."""

HINTS = {
    "unauthorized": "the CA did not get the challenge file: do all names resolve to this fleet, "
    "over IPv4 and IPv6, and only to it?",
    "connection": "the CA could not connect to port 80: does a firewall block it?",
    "dns": "the CA could not resolve the name: are its A, AAAA and CAA records right?",
    "caa": "a CAA record forbids this CA to issue for the name",
    "rejectedIdentifier": "the CA does not issue for this name; is it spelled right?",
    "unsupportedIdentifier": "the CA does not issue for this type of name",
    "externalAccountRequired": "this CA requires an external account binding",
    "userActionRequired": "the CA's terms may have changed: read them and deploy again",
    "accountDoesNotExist": "the CA no longer knows the account: the next run registers a new one",
    "badPublicKey": "the CA does not accept this type of key: set certificate.key_type",
    "badCSR": "the CA rejects the signing request; set certificate.key_type to another type",
    "serverInternal": "this is a problem at the CA: try again in an hour",
}
"""What to try, by the last word of the problem's type."""

SECONDARY = "During secondary validation"
"""How Let's Encrypt's detail begins if the CA's own look succeeded, and one from elsewhere failed
(Boulder, va/va.go). No other words of a CA are matched."""

FROM_EVERYWHERE = (
    "the CA got through from one place, and not from another: it connects to port 80 from several "
    "networks and countries, and all of them must get in, over IPv4 and IPv6. Look for a block by "
    "country or network, a cloud firewall, and an AAAA record that leads elsewhere"
)
"""CAs look from several places (CA/B Forum ballot SC-067): five or more from 2026-12-15."""


def describe(problem: messages.Error) -> str:
    """Return a problem document in one line: its text, and that for each name."""
    text = problem.detail or problem.description or problem.title or str(problem.typ)
    parts = [str(text)]
    for sub in problem.subproblems or ():
        name = sub.identifier.value if sub.identifier is not None else "?"
        parts.append(f"{name}: {sub.detail or sub.typ}")
    # Let's Encrypt quotes what it fetched, which may be anything.
    return printable("; ".join(parts))


def kind(problem: messages.Error) -> str:
    """Return the last word of the problem's type, `unauthorized`."""
    return str(problem.typ).rsplit(":", 1)[-1]


def hint_for(problem: messages.Error, otherwise: str = "") -> str:
    """Return what to try about a problem; ``otherwise`` if nothing is known about its type."""
    details = [str(each.detail or "") for each in (problem, *(problem.subproblems or ()))]
    if any(each.startswith(SECONDARY) for each in details):
        return FROM_EVERYWHERE
    return HINTS.get(kind(problem), otherwise)


def refusal(problem: messages.Error, doing: str) -> CaError | CaBusyError:
    """Return the error to raise for a problem document received while ``doing`` something."""
    word = kind(problem)
    if word == "rateLimited":
        return CaBusyError(
            f"the CA's rate limit was hit while {doing}: {describe(problem)}",
            "nothing is lost: run the same command again later",
        )
    text = f"the CA refused while {doing}: {describe(problem)} ({word})"
    return CaError(text, hint_for(problem), word)


@contextmanager
def translate_acme_errors(doing: str) -> Iterator[None]:
    """Translate the libraries' exceptions inside the block into our errors.

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
            f"the CA's own certificate is not trusted, while {doing}: {_reason(failed)}",
            "for a private CA, set ca.directory_bundle in the fleet file to its root",
        ) from None
    except requests.exceptions.RequestException as failed:
        raise CaSilentError(
            f"the CA cannot be reached while {doing}: {_reason(failed)}",
            "can the issuer connect to the CA on port 443?",
        ) from None
    except errors.TimeoutError:
        raise CaSilentError(
            f"the CA took too long while {doing}",
            "nothing is lost: run the same command again later",
        ) from None
    except (errors.Error, josepy.errors.Error, *NO_ACME) as failed:
        raise CaSilentError(
            f"the CA's answer is not valid ACME, while {doing}: {_reason(failed)}",
            "is ca.directory the URL of an ACME directory?",
        ) from None


def _reason(failed: Exception) -> str:
    inner: Exception = failed
    # requests wraps urllib3, which wraps the actual cause.
    while nested := _nested(inner):
        inner = nested
    text = " ".join((getattr(inner, "verify_message", "") or str(inner)).split())
    return printable((text or type(failed).__name__)[:300])


def _nested(error: Exception) -> Exception | None:
    found = getattr(error, "reason", None) or (error.args[0] if error.args else None)
    return found if isinstance(found, Exception) else None

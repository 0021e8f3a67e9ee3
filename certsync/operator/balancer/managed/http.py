"""JSON over HTTPS with a provider's token: deadlines, limits, and errors that say what to try.

The token is in the header of each request, and nowhere else: in no error, no log and no address.
"""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any

import requests

from certsync import __version__
from certsync.operator.balancer.managed.errors import (
    BusyError,
    LimitError,
    ManagedError,
    NoCredentialsError,
    NoSuchError,
    RightError,
    TokenError,
    UnansweredError,
    UncertainError,
)
from certsync.system.deadline import within
from certsync.system.terminal import harmless

SECONDS = 30.0
"""For a whole call."""

CONNECT_SECONDS = 10.0
LARGEST = 4 * 1024 * 1024
"""Bytes of an answer: 200 machines in a page take some 400 kB."""

LONGEST_WAIT = 300.0
"""Seconds of a Retry-After that are believed."""

SHOWN = 300
"""Characters of a provider's words that are shown."""


def base_of(variable: str, usual: str, environment: Mapping[str, str]) -> str:
    """Return where an API is: ``usual``, or what an environment variable says.

    Raises:
        ManagedError: it would carry the token without TLS, and not to this machine itself.
    """
    found = environment.get(variable, "") or usual
    if not found.startswith(("https://", "http://127.0.0.1:")):
        raise ManagedError(
            f"{variable} is no https:// URL: the token would be sent in clear", f"unset {variable}"
        )
    return found.rstrip("/")


@dataclass
class Api:
    """One provider's API, for one token."""

    provider: str
    """Its name, for messages."""

    base: str
    """The address before each path: `https://api.example.com/v4`."""

    token: str = field(repr=False)
    variable: str
    """The environment variable that the token is from, for hints."""

    rights: str
    """The least rights that the token needs, in the provider's words, for hints."""

    busy: str = ""
    """Words of a 403 that means that the balancer is busy, not that a right is missing."""

    verify: str | bool = True
    """The PEM file to verify the provider by; True: as usual."""

    def __post_init__(self) -> None:
        """Refuse a token that cannot stand in a header: what fails there quotes it in its error.

        Raises:
            NoCredentialsError: it is empty.
            TokenError: it has blanks, or characters that are not ASCII.
        """
        if not self.token:
            raise NoCredentialsError(
                f"{self.variable} is not set",
                f"export {self.variable}, with a token that has the rights: {self.rights}",
            )
        if not re.fullmatch(r"[!-~]+", self.token):
            raise TokenError(
                f"{self.provider}: {self.variable} has a token with other characters than "
                "letters, digits and signs",
                "is it copied whole, and without a blank or a line's end?",
            )

    def get(self, path: str, **query: str | int) -> Any:
        """Return what is at a path: what its JSON says, never None.

        Raises:
            UnansweredError: it cannot be had now.
            ManagedError: it cannot be had.
        """
        try:
            found = self._call("GET", path, None, query)
        except UncertainError as error:
            raise UnansweredError(error.message, "run the same command again") from None
        if found is None:
            raise UnansweredError(
                f"{self.provider}: GET {path}: the answer is empty", "run the same command again"
            )
        return found

    def send(self, method: str, path: str, body: Any = None) -> Any:
        """Make a change, and return the answer; None: it has no body.

        Raises:
            UncertainError: it may have been made, or not.
            ManagedError: it was not made.
        """
        return self._call(method, path, body, {})

    def _call(self, method: str, path: str, body: Any, query: Mapping[str, str | int]) -> Any:
        what = f"{method} {path}"
        status, headers, content = self._answer(what, method, path, body, query)
        if status >= 400:
            raise self._refusal(what, status, headers, content)
        if status >= 300:
            # Never followed: the token would go along.
            raise self._uncertain(what, f"the answer leads elsewhere ({status})")
        try:
            return json.loads(content) if content else None
        except (ValueError, RecursionError):
            raise self._uncertain(what, "the answer is no JSON") from None

    def _answer(
        self, what: str, method: str, path: str, body: Any, query: Mapping[str, str | int]
    ) -> tuple[int, Mapping[str, str], bytes]:
        try:
            # The library's own limit is for each read: an answer that drips would have no end.
            return within(SECONDS, lambda: self._exchange(method, path, body, query))
        except requests.exceptions.ConnectTimeout:
            raise self._unreachable("does not answer") from None
        except (requests.exceptions.ProxyError, requests.exceptions.InvalidProxyURL):
            raise self._unreachable("cannot be reached through the proxy of this machine") from None
        except requests.exceptions.ConnectionError as error:
            if _never_sent(error):
                raise self._unreachable("cannot be reached") from None
            if _not_trusted(error):
                raise self._unreachable("shows a certificate that is not trusted") from None
            raise self._uncertain(what, "the connection was lost") from None
        except (TimeoutError, requests.exceptions.ReadTimeout):
            raise self._uncertain(what, "the answer did not come in time") from None
        except _TooLargeError:
            raise self._uncertain(what, "the answer is too large") from None
        except requests.exceptions.RequestException:
            raise self._uncertain(what, "the answer is cut off or cannot be read") from None
        except OSError as error:  # a file of trusted roots that is not there: nothing was sent
            raise self._unreachable(f"cannot be asked: {harmless(str(error))}") from None

    def _exchange(
        self, method: str, path: str, body: Any, query: Mapping[str, str | int]
    ) -> tuple[int, Mapping[str, str], bytes]:
        with (
            requests.Session() as session,
            session.request(
                method,
                f"{self.base}{path}",
                params=dict(query),
                json=body,
                headers={"User-Agent": f"certsync/{__version__}", "Accept-Encoding": "identity"},
                auth=_Bearer(self.token),
                timeout=(CONNECT_SECONDS, SECONDS),
                verify=self.verify,
                allow_redirects=False,
                stream=True,
            ) as answer,
        ):
            content = b""
            for part in answer.iter_content(65536):
                content += part
                if len(content) > LARGEST:
                    raise _TooLargeError
            return answer.status_code, answer.headers, content

    def _refusal(
        self, what: str, status: int, headers: Mapping[str, str], content: bytes
    ) -> ManagedError:
        told = words(content.replace(self.token.encode(), b"[token]"))
        said = f"{self.provider} refuses {what} ({status}): {told}"
        if status == 401:
            return TokenError(
                f"{self.provider} does not accept the token ({status})",
                f"is the token in {self.variable} complete, and has it not expired?",
            )
        if status == 403 and self.busy and self.busy in said:
            return BusyError(said, "run the same command again", retry_after(headers))
        if status == 403:
            return RightError(said, f"the token in {self.variable} needs: {self.rights}")
        if status == 404:
            return NoSuchError(said, "is balancer.load_balancer in the fleet file right?")
        if status in (409, 423):
            return BusyError(said, "run the same command again", retry_after(headers))
        if status == 429:
            wait = retry_after(headers)
            return LimitError(f"{self.provider}: too many calls", "try again later", wait)
        if status >= 500:
            return self._uncertain(what, f"{self.provider} has an internal error ({status})")
        return ManagedError(said, "nothing was changed by this call")

    def _unreachable(self, why: str) -> UnansweredError:
        return UnansweredError(
            f"{self.provider}'s API {why} ({self.base})",
            "check this machine's connection, and the provider's status page",
        )

    def _uncertain(self, what: str, why: str) -> UncertainError:
        return UncertainError(
            f"{self.provider}: {what}: {why}", "run the same command again: it reads first"
        )


class _Bearer(requests.auth.AuthBase):
    """The token. While this is there, `requests` takes no password from ~/.netrc instead."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class _TooLargeError(Exception):
    """An answer has more than ``LARGEST`` bytes."""


def _reason_of(error: requests.exceptions.ConnectionError) -> Any:
    return getattr(error.args[0] if error.args else None, "reason", None)


def _never_sent(error: requests.exceptions.ConnectionError) -> bool:
    """Return whether a connection could not even be opened."""
    return type(_reason_of(error)).__name__ in ("NewConnectionError", "NameResolutionError")


def _not_trusted(error: requests.exceptions.ConnectionError) -> bool:
    """Return whether the server's certificate was refused: nothing is sent before that."""
    causes = getattr(_reason_of(error), "args", ())
    return any(isinstance(each, ssl.SSLCertVerificationError) for each in causes)


def retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds of Retry-After (RFC 9110 section 10.2.3), at most LONGEST_WAIT.

    0: there is none, or nothing that can be read.
    """
    text = headers.get("Retry-After", "")
    if text.isdecimal():
        return min(float(text), LONGEST_WAIT)
    try:
        wait = parsedate_to_datetime(text) - datetime.now(timezone.utc)
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return min(max(0.0, wait.total_seconds()), LONGEST_WAIT)


def words(content: bytes) -> str:
    """Return a provider's own words in an error's body: printable, in one line, and short."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    told: Any = content[: 4 * SHOWN].decode(errors="replace")
    if isinstance(found, dict):
        errors, error = found.get("errors"), found.get("error")
        told = found.get("message")
        if not told and isinstance(errors, list):
            told = "; ".join(_reason(each) for each in errors)
        if not told and isinstance(error, dict):
            told = error.get("message")
    return " ".join(harmless(str(told or "")).split())[:SHOWN] or "without a word"


def _reason(error: Any) -> str:
    if not isinstance(error, dict):
        return str(error)
    where = f"{error['field']}: " if error.get("field") else ""
    return f"{where}{error.get('reason', '')}"

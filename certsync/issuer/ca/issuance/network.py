"""HTTP with the CA: what the `acme` library lacks of RFC 8555 sections 6.5 and 6.6.

The library retries a bad nonce once and ignores Retry-After. Here bad nonces are retried up to a
limit; a short Retry-After is waited for, a long one is reported.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import Any

import josepy
import requests
from acme import client, errors, messages
from urllib3.util.ssl_ import create_urllib3_context

from certsync import __version__
from certsync.model.errors import CaBusyError
from certsync.system.deadline import within
from certsync.system.handshake import NO_CHECK_TIME
from certsync.system.process import printable

USER_AGENT = f"certsync/{__version__}"
NONCE_TRIES = 20
"""With a CA that rejects half of all good nonces, one request in a million fails."""

BUSY_TRIES = 3
PATIENCE = timedelta(seconds=60)
"""The longest Retry-After that a run waits for."""

LONGEST_SECONDS = 30 * 86400
"""The limit for any Retry-After."""

SECONDS = 45
"""How long one request may take."""


class BusyResponse(Exception):
    """A 429 or 503: raised to the loop that signs the request again, never out of this module."""

    def __init__(self, response: requests.Response) -> None:
        super().__init__(response.status_code)
        self.response = response


class _WithContext(requests.adapters.HTTPAdapter):
    """Connections with a TLS context of our own; `requests` loads the roots into it."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pool of connections with it."""
        super().init_poolmanager(*args, ssl_context=self._context, **kwargs)


class Network(client.ClientNetwork):
    """The library's network, with retries."""

    def __init__(
        self, key: josepy.JWK, bundle: str, algorithm: josepy.JWASignature = josepy.ES256
    ) -> None:
        """``bundle`` is the PEM file that verifies the CA's HTTPS."""
        super().__init__(
            key,
            alg=algorithm,
            verify_ssl=bundle,  # type: ignore[arg-type]  # typed bool; requests takes a path too
            user_agent=USER_AGENT,
            timeout=SECONDS,
        )
        self.ca_date: datetime | None = None
        """The CA's time, from its last answer."""

        self.status = 0
        """The HTTP status of its last answer."""

    def trust_any_date(self) -> None:
        """From here on, verify the CA's chain, but not whether its certificates are valid now."""
        context = create_urllib3_context()
        context.verify_flags |= NO_CHECK_TIME
        self.session.mount("https://", _WithContext(context))

    def _send_request(self, method: str, url: str, *args: Any, **kwargs: Any) -> requests.Response:
        response = self._in_time(lambda: self._sent(method, url, *args, **kwargs))
        self.ca_date = _date(response) or self.ca_date
        self.status = response.status_code
        if response.status_code in (429, 503):
            raise BusyResponse(response)
        return response

    def _sent(self, method: str, url: str, *args: Any, **kwargs: Any) -> requests.Response:
        return super()._send_request(method, url, *args, **kwargs)

    @staticmethod
    def _in_time(send: Callable[[], requests.Response]) -> requests.Response:
        """Return the complete answer within the limit; the library's limit is per read."""
        try:
            return within(SECONDS, send)
        except TimeoutError as error:
            raise requests.exceptions.ReadTimeout(str(error)) from None

    def get(self, url: str, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a GET; wait if the CA asks for it."""
        return self._patiently(lambda: super(Network, self).get(url, *args, **kwargs))

    def post(self, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a signed POST; sign it again with a new nonce while the CA rejects the last one."""
        return self._patiently(lambda: self._post_nonces(*args, **kwargs))

    def _post_nonces(self, *args: Any, **kwargs: Any) -> requests.Response:
        for _ in range(NONCE_TRIES - 1):
            try:
                return self._post_once(*args, **kwargs)
            except errors.NonceError:
                continue
            except messages.Error as error:
                if error.code != "badNonce":
                    raise
        return self._post_once(*args, **kwargs)

    def _patiently(self, send: Any) -> requests.Response:
        for tries_left in reversed(range(BUSY_TRIES)):
            try:
                answer: requests.Response = send()
                return answer
            except BusyResponse as busy:
                wait = retry_after(busy.response, datetime.now(timezone.utc))
                if wait > PATIENCE or not tries_left:
                    raise _later(busy.response, wait) from None
                time.sleep(wait.total_seconds())
        raise AssertionError("the last attempt returns or raises")


def retry_after(response: requests.Response, now: datetime, default: float = 5) -> timedelta:
    """Return how long the CA asks us to wait (RFC 9110 section 10.2.3), never negative."""
    text = response.headers.get("Retry-After", "")
    try:
        return timedelta(seconds=min(max(0, int(text)), LONGEST_SECONDS))
    except ValueError:
        pass
    try:
        wait = max(timedelta(0), parsedate_to_datetime(text) - now)
        return min(wait, timedelta(seconds=LONGEST_SECONDS))
    except (ValueError, TypeError, OverflowError):
        return timedelta(seconds=default)


def _later(response: requests.Response, wait: timedelta) -> CaBusyError:
    try:
        detail = printable(str(response.json().get("detail", "")))
    except (ValueError, AttributeError):
        detail = ""
    when = datetime.now(timezone.utc) + wait
    return CaBusyError(
        f"the CA is busy (HTTP {response.status_code}{', ' if detail else ''}{detail}); "
        f"retry after {when:%Y-%m-%d %H:%M:%S} UTC",
        "nothing is lost: run the same command again later",
        until=when,
    )


def _date(response: requests.Response) -> datetime | None:
    try:
        date = parsedate_to_datetime(response.headers["Date"])
    except (KeyError, ValueError, TypeError, OverflowError):
        return None
    return date if date.tzinfo else None

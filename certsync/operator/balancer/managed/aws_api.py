"""AWS' way of calling, for AWS itself and for those who speak the same: deadlines and errors.

boto3 signs, and forms requests and answers; it repeats nothing here. The keys are in no error, and
as botocore's debug messages have a session's token, those are not made.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    PartialCredentialsError,
    ProxyConnectionError,
    SSLError,
)
from botocore.exceptions import NoCredentialsError as NoKeysError

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
from certsync.operator.balancer.managed.http import (
    CONNECT_SECONDS,
    SECONDS,
    SHOWN,
    base_of,
    retry_after,
)
from certsync.system.deadline import within
from certsync.system.terminal import harmless

TOKEN = {
    "AuthFailure", "ExpiredToken", "ExpiredTokenException", "IncompleteSignature",
    "InvalidAccessKeyId", "InvalidClientTokenId", "MissingAuthenticationToken",
    "RequestExpired", "SignatureDoesNotMatch", "UnrecognizedClientException",
}  # fmt: skip
RIGHT = {"AccessDenied", "AccessDeniedException", "OptInRequired", "UnauthorizedOperation"}
LIMIT = {"RequestLimitExceeded", "Throttling", "ThrottlingException", "TooManyRequestsException"}
"""Error codes, whatever their HTTP status (botocore's models, and AWS' list of common errors)."""

NEVER_SENT = (ConnectTimeoutError, EndpointConnectionError, ProxyConnectionError, SSLError)


@dataclass
class Access:
    """Where the keys come from, and what they need."""

    provider: str
    """Its name, for messages."""

    variables: str
    """Where they are expected, for hints."""

    rights: str
    """The least that they need, for hints."""

    hints: Mapping[str, str]
    """What to try, by error code."""

    own: Mapping[str, str | None] = field(repr=False)
    """The arguments of boto3's session; empty: as boto3 finds them itself."""


class Service:
    """One of a provider's APIs, in one region."""

    def __init__(
        self, keys: Access, service: str, region: str, endpoint: str | None = None
    ) -> None:
        """``endpoint``: where it is; None: as boto3 finds it itself."""
        self._keys = keys
        try:
            session = boto3.session.Session(region_name=region, **keys.own)
            if within(SECONDS, session.get_credentials) is None:
                raise self._keyless()
            client = session.client(
                service,
                endpoint_url=endpoint,
                config=Config(
                    connect_timeout=CONNECT_SECONDS,
                    read_timeout=SECONDS,
                    # A changing call is never repeated: whether it was carried out is to be seen.
                    retries={"total_max_attempts": 1, "mode": "standard"},
                ),
            )
        except TimeoutError:
            raise self._keyless() from None
        except BotoCoreError as error:
            said = f"{keys.provider}'s API cannot be called: {harmless(str(error))}"
            raise ManagedError(said, keys.variables) from None
        # The keys are not sent, but what they sign is, and a session's token.
        base_of("AWS_ENDPOINT_URL", "", {"AWS_ENDPOINT_URL": client.meta.endpoint_url})
        self._client = client

    def ask(self, operation: str, **arguments: Any) -> Any:
        """Return the answer to a question.

        Raises:
            UnansweredError: it cannot be had now.
            ManagedError: it cannot be had.
        """
        try:
            return self.send(operation, **arguments)
        except UncertainError as error:
            raise UnansweredError(error.message, "run the same command again") from None

    def send(self, operation: str, **arguments: Any) -> Any:
        """Make a change, and return the answer.

        Raises:
            UncertainError: it may have been made, or not.
            ManagedError: it was not made.
        """
        logging.getLogger("botocore").setLevel(logging.WARNING)
        what = "".join(each.title() for each in operation.split("_"))
        keys = self._keys
        try:
            return within(SECONDS, lambda: getattr(self._client, operation)(**arguments))
        except ClientError as error:
            raise self._refusal(what, error) from None
        except (NoKeysError, PartialCredentialsError):
            raise self._keyless() from None
        except NEVER_SENT as error:
            raise UnansweredError(
                f"{keys.provider}'s API cannot be reached: {harmless(str(error))[:SHOWN]}",
                "check this machine's connection, and the provider's status page",
            ) from None
        except TimeoutError:
            raise self._uncertain(what, "the answer did not come in time") from None
        except BotoCoreError as error:
            why = f"the answer is missing or cannot be read ({type(error).__name__})"
            raise self._uncertain(what, why) from None

    def _refusal(self, what: str, error: ClientError) -> ManagedError:
        keys, about = self._keys, error.response.get("ResponseMetadata", {})
        code = harmless(str(error.response.get("Error", {}).get("Code", "")))
        told = " ".join(harmless(str(error.response.get("Error", {}).get("Message", ""))).split())
        status = about.get("HTTPStatusCode", 0)
        said = f"{keys.provider} refuses {what} ({code}): {told[:SHOWN]}"
        wait = retry_after({"Retry-After": about.get("HTTPHeaders", {}).get("retry-after", "")})
        if code in TOKEN or status == 401:
            return TokenError(f"{keys.provider} does not accept the keys ({code})", keys.variables)
        if code in LIMIT or status == 429:
            return LimitError(f"{keys.provider}: too many calls", "try again later", wait)
        if code in RIGHT or status == 403:
            return RightError(said, f"the keys need: {keys.rights}")
        if status >= 500:
            return self._uncertain(what, f"{keys.provider} has an internal error ({status})")
        if code in keys.hints:
            return ManagedError(said, keys.hints[code])
        if status in (404, 409):
            kind = NoSuchError if status == 404 else BusyError
            return kind(said, "run the same command again")
        if code.endswith("NotFound"):
            return NoSuchError(said, "is balancer.load_balancer in the fleet file right?")
        return ManagedError(said, "nothing was changed by this call")

    def _keyless(self) -> NoCredentialsError:
        return NoCredentialsError(f"{self._keys.provider}: there are no keys", self._keys.variables)

    def _uncertain(self, what: str, why: str) -> UncertainError:
        return UncertainError(
            f"{self._keys.provider}: {what}: {why}", "run the same command again: it reads first"
        )

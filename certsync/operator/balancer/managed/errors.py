"""What can go wrong between certsync and a provider's API, each with what to try.

ManagedError              exit 1   the provider refuses, or its balancer is not as it has to be
├── TokenError                     401: ends it at once
│   └── NoCredentialsError         none are there
├── RightError                     403
├── NoSuchError                    404
├── UnansweredError                nothing was changed; it may be asked again
├── UncertainError                 a change may have been made: only reading again tells
├── BusyError             exit 75  no change right now; it may be asked again later
│   └── LimitError                 429
├── LostError                      a change was made, and more changed with it: ends it at once
└── RefusedChangeError             we refuse, as something is somebody else's
"""

from __future__ import annotations

from certsync.model.errors import CertsyncError, LaterError


class ManagedError(CertsyncError):
    """A provider refuses, or its balancer is not as it has to be."""

    backend = ""
    """The backend that was to be admitted by the refused call; empty: it was another call."""


class TokenError(ManagedError):
    """The token is missing, wrong or has expired (HTTP 401)."""


class NoCredentialsError(TokenError):
    """This machine has no credentials of the provider."""


class RightError(ManagedError):
    """The token may not do this (HTTP 403)."""


class NoSuchError(ManagedError):
    """There is no such balancer, or a part of it is gone (HTTP 404)."""


class UnansweredError(ManagedError):
    """There is no usable answer, and nothing was changed: a question, or no connection at all."""


class BusyError(ManagedError, LaterError):
    """The balancer takes no change right now. ``seconds``: how long to wait; 0: unknown."""

    def __init__(self, message: str, hint: str = "", seconds: float = 0) -> None:
        super().__init__(message, hint)
        self.seconds = seconds


class LimitError(BusyError):
    """Too many calls (HTTP 429)."""


class UncertainError(ManagedError):
    """The answer is missing or an internal error: the call may have been carried out."""


class LostError(ManagedError):
    """A change was made, and something else was changed with it."""


class RefusedChangeError(ManagedError):
    """Something there is somebody else's; nothing was changed."""

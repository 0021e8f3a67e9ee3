"""Send messages through apprise, to the URLs in a root-only file on the issuer.

Whoever knows such a URL can send in the fleet's name, so none is ever printed or logged, not even
in errors: a service is identified by its line number and its URL's scheme. Apprise and its
libraries log URLs, so their output is suppressed.
"""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from certsync.issuer.monitoring.alerts import Message
from certsync.issuer.store import Store
from certsync.model.errors import NotifyError
from certsync.model.fleet import Fleet
from certsync.system.files import write_whole
from certsync.system.terminal import harmless

SET = "certsync notify --set"
SCHEME = re.compile(r"([a-z][a-z0-9+-]{0,15})://")
"""Limited in length: a longer match might be part of a secret."""


@dataclass(frozen=True)
class Service:
    """A service that receives messages."""

    line: int
    """The line number of its URL, from 1."""

    url: str = field(repr=False)

    def __str__(self) -> str:
        scheme = SCHEME.match(self.url)
        return f"line {self.line} ({scheme[1] if scheme else 'no scheme'})"


def send(
    messages: Sequence[Message], store: Store, warn: Callable[[str], None]
) -> tuple[Message, ...]:
    """Send messages, and return those that at least one service accepted.

    Nothing is raised, and without messages nothing is read or loaded. Failures go to ``warn``, one
    line per service.
    """
    if not messages:
        return ()
    try:
        services = read(store)
        if not services:
            raise _nowhere()
        arrived = {each: [one for one in messages if accepts(each, one)] for each in services}
    except NotifyError as error:
        warn(f"{error.message}: {error.hint}")
        return ()
    for each in services:
        missed = len(messages) - len(arrived[each])
        if missed:
            warn(f"{store.notify_urls}, {each}: {missed} of {len(messages)} messages not accepted")
    return tuple(one for one in messages if any(one in accepted for accepted in arrived.values()))


def lacking(fleet: Fleet, store: Store) -> str:
    """Return what to do if the fleet has events but no URL is set; else nothing."""
    try:
        if fleet.notify.events and not read(store):
            raise _nowhere()
    except NotifyError as error:
        return f"{error.message}: {error.hint}"
    return ""


def read(store: Store) -> tuple[Service, ...]:
    """Return the services that receive messages.

    Raises:
        NotifyError: the file cannot be read.
    """
    path = store.notify_urls
    try:
        return parse(path.read_bytes())
    except FileNotFoundError:
        return ()
    except OSError as error:
        why = f"{path} cannot be read: {error.strerror}"
        raise NotifyError(why, "only root can read it") from None
    except NotifyError as error:
        raise NotifyError(f"{path}: {error.message}", f"set the URLs again: `{SET}`") from None


def parse(content: bytes) -> tuple[Service, ...]:
    """Parse one URL per line; empty lines count for the numbering, but are skipped.

    Raises:
        NotifyError: it is not text.
    """
    try:
        lines = content.decode().split("\n")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise NotifyError(f"line {line} is not UTF-8 text", "write one URL per line") from None
    numbered = enumerate((line.strip() for line in lines), start=1)
    return tuple(Service(number, line) for number, line in numbered if line)


def keep(store: Store, content: bytes) -> int:
    """Save the URLs in a text, one per line, and return how many there are.

    Raises:
        NotifyError: there are none, or apprise does not understand one.
    """
    services = parse(content)
    if not services:
        raise NotifyError("no URL was given; nothing was changed", "write one URL per line")
    wrong = [each for each in services if _apprise_of(each) is None]
    if wrong:
        raise NotifyError(
            f"apprise cannot send to {', '.join(map(str, wrong))}; nothing was changed",
            "apprise's documentation lists the URL format of each service; some services need a "
            "Python package that is not installed here",
        )
    text = "".join(f"{each.url}\n" for each in services)
    write_whole(store.notify_urls, text.encode(), mode=0o600)
    return len(services)


def accepts(service: Service, message: Message) -> bool:
    """Send a message to a service, and return whether it was accepted.

    Raises:
        NotifyError: apprise is not installed.
    """
    sender = _apprise_of(service)
    if sender is None:
        return False
    kind = "success" if message.good else "failure"
    # It contains text from other machines, and may be read in a terminal.
    title, body = harmless(message.title), harmless(message.body)
    with _silenced():
        try:
            return bool(sender.notify(body, title=title, notify_type=kind))
        except Exception:  # noqa: BLE001  # whatever a service's code raises may contain its URL
            return False


def _apprise_of(service: Service) -> Any:
    """Return an apprise sender for a service; None: apprise does not understand its URL."""
    with _silenced():
        apprise = _library()
        # In this thread and without files: nothing is left behind.
        asset = apprise.AppriseAsset(
            app_id="certsync", app_desc="certsync", app_url="", async_mode=False,
            service_timeout=0, storage_mode="memory", secure_logging=True,
        )  # fmt: skip
        try:
            sender = apprise.Apprise.instantiate(service.url, asset=asset)
            everything = apprise.Apprise(asset=asset)
            return everything if sender is not None and everything.add(sender) else None
        except Exception:  # noqa: BLE001  # the same
            return None


def _library() -> ModuleType:
    try:
        import apprise
    except ModuleNotFoundError:
        raise NotifyError(
            "apprise, which sends the messages, is not installed here",
            "set `events` under [notify] in the fleet file, then run `certsync deploy FLEET`",
        ) from None
    return apprise


def _nowhere() -> NotifyError:
    return NotifyError(
        "the fleet file asks for notifications, but no URL is set",
        f"on the issuer, run `sudo {SET}`",
    )


@contextmanager
def _silenced() -> Iterator[None]:
    """Suppress logging, warnings and both standard streams while foreign code handles a URL."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)

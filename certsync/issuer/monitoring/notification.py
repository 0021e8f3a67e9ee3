"""Sends messages through apprise, to the URLs in a file that is root's on the issuer.

Whoever knows such a URL can send in the fleet's name, so none is ever printed, logged or told in an
error: a service goes by the number of its line and the scheme of its URL. Apprise and the libraries
below it log what they do, URLs and all, so nothing of theirs is let out.
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
"""Nothing longer, which might be part of a secret."""


@dataclass(frozen=True)
class Service:
    """Where messages go."""

    line: int
    """The line of its URL, from 1."""

    url: str = field(repr=False)

    def __str__(self) -> str:
        scheme = SCHEME.match(self.url)
        return f"line {self.line} ({scheme[1] if scheme else 'no scheme'})"


def send(
    messages: Sequence[Message], store: Store, warn: Callable[[str], None]
) -> tuple[Message, ...]:
    """Send messages, and return those that at least one service has accepted.

    Nothing is raised and nothing is read or loaded where there is nothing to send. What did not
    work goes to ``warn``, a line for each service.
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
    """Return what a person should do where the fleet has events and no URL is set; else nothing."""
    try:
        if fleet.notify.events and not read(store):
            raise _nowhere()
    except NotifyError as error:
        return f"{error.message}: {error.hint}"
    return ""


def read(store: Store) -> tuple[Service, ...]:
    """Return where messages go; none if nothing is set.

    Raises:
        NotifyError: the file cannot be read.
    """
    path = store.notify_urls
    try:
        return parse(path.read_bytes())
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise NotifyError(f"{path} cannot be read: {error.strerror}", "it is root's") from None
    except NotifyError as error:
        raise NotifyError(f"{path}: {error.message}", f"write it anew: `{SET}`") from None


def parse(content: bytes) -> tuple[Service, ...]:
    """Return the services of a text with a URL a line; empty lines count and are none.

    Raises:
        NotifyError: it is no text.
    """
    try:
        lines = content.decode().split("\n")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise NotifyError(f"line {line} is not UTF-8 text", "write a URL a line") from None
    numbered = enumerate((line.strip() for line in lines), start=1)
    return tuple(Service(number, line) for number, line in numbered if line)


def keep(store: Store, content: bytes) -> int:
    """Write the URLs of a text, one a line, as where messages go, and return how many there are.

    Raises:
        NotifyError: there is none in it, or one that apprise does not understand.
    """
    services = parse(content)
    if not services:
        raise NotifyError("no URL was given, and nothing was changed", "write a URL a line")
    wrong = [each for each in services if _apprise_of(each) is None]
    if wrong:
        raise NotifyError(
            f"apprise cannot send to {', '.join(map(str, wrong))}, and nothing was changed",
            "apprise's documentation lists the forms of URLs for each service; some services need "
            "a Python package that is not installed here",
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
    # Other machines' words are in it, and a mail may be read in a terminal.
    title, body = harmless(message.title), harmless(message.body)
    with _nothing_let_out():
        try:
            return bool(sender.notify(body, title=title, notify_type=kind))
        except Exception:  # noqa: BLE001  # whatever a service's code raises may tell its URL
            return False


def _apprise_of(service: Service) -> Any:
    """Return what sends to a service; None: apprise does not understand its URL."""
    with _nothing_let_out():
        apprise = _library()
        # In this thread and without files of its own: nothing is left running or lying around.
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
            "nothing is installed here that sends messages",
            "choose `events` under [notify] in the fleet file, and run `certsync deploy FLEET`",
        ) from None
    return apprise


def _nowhere() -> NotifyError:
    return NotifyError(
        "the fleet has events to tell of, and nobody to tell",
        f"on the issuer, run `sudo {SET}`",
    )


@contextmanager
def _nothing_let_out() -> Iterator[None]:
    """Silence logging, warnings and both standard streams while other people's code has a URL."""
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

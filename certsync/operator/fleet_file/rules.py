"""Rules for single values of a fleet file; those for names and addresses are in `hosts`.

Each rule takes the value as written and returns it as the fleet stores it. The values end up in
nginx's and HAProxy's configuration, in authorized_keys and on command lines, so a rule refuses
anything that would have to be escaped there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from difflib import get_close_matches
from enum import Enum

from certsync.model.fleet import DIRECTORIES
from certsync.model.paths import PUSHING_USER
from certsync.programs.receiver import RECEIVING_USER

LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
GROUPS = ("backends", "issuer", "replicas", "balancers")
"""The groups in pyinfra's inventory; pyinfra confuses a machine with a group of the same name."""

USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}")
OUR_USERS = (RECEIVING_USER, PUSHING_USER)
KEY_IDENTIFIER = re.compile(r"[!-~]{1,256}")
PROFILE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
LOAD_BALANCER = re.compile(r"[A-Za-z0-9_.:/-]{1,256}")
MOST_NAMES = 100
"""Let's Encrypt's limit for one certificate."""

MOST_NAMES_BY_PROFILE = {"tlsserver": 25, "shortlived": 25}
"""Let's Encrypt's lower limits (https://letsencrypt.org/docs/profiles/, 2026-07-14). Another CA's
profile may have the same name and another limit."""

YEAR = 365 * 24 * 3600
HOURS = (1, 2, 3, 4, 6, 12)
"""Allowed intervals: each divides a day, so that runs are at the same hours every day."""

UNSAFE_IN_FOLDER = set("\"'`;{}$\\")
UNSAFE_IN_HEALTH_PATH = UNSAFE_IN_FOLDER | {"#"}
"""HAProxy starts a comment at a `#`, even within a word."""


class UnfitError(ValueError):
    """A value that its rule refuses; the hint says what to write instead."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


LONGEST_SHOWN = 160
"""Characters of a value, in a message."""


def quoted(value: str) -> str:
    """Return a value for messages: in quotes, on one line, shortened.

    A long value keeps its end, which in a path is the file's name.
    """
    shown = value if len(value) <= LONGEST_SHOWN else f"{value[:100]}…{value[-59:]}"
    plain = (char if char.isprintable() else ascii(char)[1:-1] for char in shown)
    return f'"{"".join(plain)}"'


def did_you_mean(word: str, known: list[str], *, quote: str) -> str:
    """Return a hint with the known word most like this one; empty: none is close."""
    close = get_close_matches(word, known, n=1)
    return f"did you mean {quote}{close[0]}{quote}?" if close else ""


def one_of(kind: type[Enum]) -> Callable[[str], str]:
    """Return the rule that a value is one of this enumeration's."""
    known = [str(member.value) for member in kind]

    def rule(value: str) -> str:
        if value in known:
            return value
        hint = did_you_mean(value, known, quote='"') or f"write one of: {', '.join(known)}"
        raise UnfitError(f"unknown value {quoted(value)}", hint)

    return rule


def port(value: int) -> int:
    """Return a TCP port's number."""
    if not 1 <= value <= 65535:
        raise UnfitError(f"{value} is not a port number", "ports are 1 to 65535")
    return value


def count(most: int) -> Callable[[int], int]:
    """Return the rule that a value is a number of things."""
    return _up_to(most, "")


def seconds(most: int) -> Callable[[int], int]:
    """Return the rule that a value is a time in seconds."""
    return _up_to(most, " seconds")


def _up_to(most: int, unit: str) -> Callable[[int], int]:
    def rule(value: int) -> int:
        if not 0 <= value <= most:
            raise UnfitError(f"{value} is out of range", f"write 0 to {most}{unit}")
        return value

    return rule


def machine_name(value: str) -> str:
    """Return a machine's name in the fleet."""
    if not LABEL.fullmatch(value):
        raise UnfitError(
            f"{quoted(value)} is not a machine name",
            "use a-z, 0-9 and inner hyphens, at most 63 characters",
        )
    if value in GROUPS:
        raise UnfitError(
            f"{quoted(value)} is the name of a group of machines", "give the machine another name"
        )
    return value


def user_name(value: str) -> str:
    """Return a user name (POSIX.1-2017 section 3.437, with Linux's limit on its length)."""
    if not USER.fullmatch(value):
        raise UnfitError(
            f"{quoted(value)} is not a user name",
            "use letters, digits, dots, underscores and inner hyphens, at most 32 characters",
        )
    return value


def operators_user(value: str) -> str:
    """Return the name of the operator's user on the hosts."""
    if value in OUR_USERS:
        raise UnfitError(
            f"{quoted(value)} is the name of a user that certsync itself sets up",
            "use root or another user there",
        )
    return user_name(value)


def key_identifier(value: str) -> str:
    """Return the key identifier of an external account binding."""
    if not KEY_IDENTIFIER.fullmatch(value):
        raise UnfitError(
            f"{quoted(value)} is not a key identifier",
            "copy it from the CA: ASCII without white space, at most 256 characters",
        )
    return value


def load_balancer(value: str) -> str:
    """Return a provider's identifier of a load balancer: an id, a UUID or an ARN."""
    if not LOAD_BALANCER.fullmatch(value):
        raise UnfitError(
            f"{quoted(value)} is not a load balancer's identifier",
            "copy it from the provider: letters, digits and ./:_- only, at most 256",
        )
    return value


def profile(value: str) -> str:
    """Return the name of a CA's certificate profile."""
    if not PROFILE.fullmatch(value):
        raise UnfitError(
            f"{quoted(value)} is not a profile name",
            "use letters, digits, dots, underscores and hyphens, at most 64 characters",
        )
    return value


def number_of_names(number: int, profile: str, directory: str) -> None:
    """Refuse more names than a CA puts into one certificate with a profile.

    Raises:
        UnfitError: there are more.
    """
    too_many = f"{number} names are too many for one certificate"
    most = MOST_NAMES_BY_PROFILE.get(profile)
    if most and number > most and directory in DIRECTORIES.values():
        raise UnfitError(
            f"{too_many} with profile {quoted(profile)}",
            f"Let's Encrypt signs at most {most} with it: move some names to another lineage, or "
            "set another profile under [certificate]",
        )
    if number > MOST_NAMES:
        raise UnfitError(too_many, f"a CA signs at most {MOST_NAMES}")


def every_hours(value: int) -> int:
    """Return the hours between two runs."""
    if value not in HOURS:
        raise UnfitError(f"unknown value {value}", f"write one of: {', '.join(map(str, HOURS))}")
    return value


def site_root(value: str) -> str:
    """Return the absolute folder of a static site."""
    return _folder(value, "/var/www/html", "to serve", "nginx")


def metrics_folder(value: str) -> str:
    """Return the absolute folder that node_exporter reads."""
    return _folder(value, "/var/lib/prometheus/node-exporter", "to write to", "a shell")


def _folder(value: str, like: str, purpose: str, reader: str) -> str:
    if not value.startswith("/"):
        raise UnfitError(f"{quoted(value)} is not absolute", f'start it with a slash: "{like}"')
    if any(not char.isprintable() or char.isspace() or char in UNSAFE_IN_FOLDER for char in value):
        raise UnfitError(
            f"{quoted(value)} has characters that are special to {reader}",
            "use a path without white space, quotes or ; { } $ \\",
        )
    folders = [part for part in value.split("/") if part]
    if not folders or {".", ".."} & set(folders):
        raise UnfitError(f"{quoted(value)} is not a folder {purpose}", f'name one like "{like}"')
    return "/" + "/".join(folders)


def health_path(value: str) -> str:
    """Return the path that health checks request."""
    if not value.startswith("/"):
        raise UnfitError(f"{quoted(value)} is not a path", 'start it with a slash: "/health"')
    if any(not "!" <= char <= "~" or char in UNSAFE_IN_HEALTH_PATH for char in value):
        raise UnfitError(
            f"{quoted(value)} has characters that a health check cannot send",
            "use ASCII without white space, quotes or ; { } $ # \\",
        )
    return value

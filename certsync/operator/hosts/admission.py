"""Whether a replica's sshd would let the issuer's pushes in, from `programs/admits.sh`. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence

from certsync.programs.receiver import ACCEPTED_KEY, RECEIVING_USER

HOME = ACCEPTED_KEY.parent.parent
KEY_TYPE = "ssh-ed25519"
ADD = "add {} to it in /etc/ssh/sshd_config there, then: systemctl reload ssh"
REMOVE = "remove it from that line in /etc/ssh/sshd_config there, then: systemctl reload ssh"
MATCH = (
    f"at the end of /etc/ssh/sshd_config there: `Match User {RECEIVING_USER}`, below it `{{}}`; "
    "then: systemctl reload ssh"
)
LONGEST = 200
"""Characters of a value that a message shows."""


def refusal(lines: Sequence[str], address: str) -> tuple[str, str]:
    """Return why sshd would refuse the receiving user from an address, and what to do about it.

    ``lines`` is the program's output: `sshd -T` and the user's groups. Both are empty if nothing
    there refuses it, or if sshd said nothing.
    """
    of: dict[str, list[str]] = {}
    for line in lines:
        keyword, _, value = line.partition(" ")
        of.setdefault(keyword, []).extend(value.split())
    groups = of.get("groups", [RECEIVING_USER])
    for refuses in (_by_name, _by_method):
        if found := refuses(of, groups, address):
            return found[0][:LONGEST], found[1]
    return "", ""


Settings = Mapping[str, Sequence[str]]


def _by_name(of: Settings, groups: Sequence[str], address: str) -> tuple[str, str] | None:
    """Apply the four lists in sshd's own order (sshd_config(5), AllowUsers)."""

    def user(pattern: str) -> bool:
        return _is_user(pattern, address)

    def group(pattern: str) -> bool:
        return any(_matches(pattern, each) for each in groups)

    lists: Sequence[tuple[str, Callable[[str], bool], str]] = (
        ("Users", user, f"{RECEIVING_USER}@{address}"),
        ("Groups", group, groups[0] if groups else RECEIVING_USER),
    )
    for what, holds, ours in lists:
        denied, allowed = of.get(f"deny{what.lower()}", ()), of.get(f"allow{what.lower()}", ())
        if found := [each for each in denied if holds(each)]:
            return f"Deny{what} {found[0]}", REMOVE
        if allowed and not any(map(holds, allowed)):
            return f"Allow{what} {' '.join(allowed)}", ADD.format(ours)
    return None


def _by_method(of: Settings, _groups: Sequence[str], _address: str) -> tuple[str, str] | None:
    """Return which setting keeps the key from being enough."""
    if of.get("usepam") == ["no"]:
        why = "UsePAM no (without PAM, a user that has no password counts as locked)"
        return why, "set `UsePAM yes` in /etc/ssh/sshd_config there, then: systemctl reload ssh"
    files = of.get("authorizedkeysfile", [f"{ACCEPTED_KEY}"])
    methods = of.get("authenticationmethods", ["any"])
    types = ",".join(of.get("pubkeyacceptedalgorithms", [KEY_TYPE])).split(",")
    wanted = (
        ("PubkeyAuthentication", "yes", of.get("pubkeyauthentication", ["yes"]) == ["yes"]),
        ("AuthorizedKeysFile", "%h/.ssh/authorized_keys", any(map(_is_ours, files))),
        ("AuthenticationMethods", "publickey", bool({"any", "publickey"} & {*methods})),
        ("PubkeyAcceptedAlgorithms", f"+{KEY_TYPE}", KEY_TYPE in types),
        ("ForceCommand", "none", of.get("forcecommand", ["none"]) == ["none"]),
        ("ChrootDirectory", "none", of.get("chrootdirectory", ["none"]) == ["none"]),
    )
    for keyword, good, is_so in wanted:
        if not is_so:
            value = " ".join(of.get(keyword.lower(), ()))
            return f"{keyword} {value}", MATCH.format(f"{keyword} {good}")
    return None


def _is_ours(file: str) -> bool:
    """Return whether an AuthorizedKeysFile is the one that a deploy writes."""
    path = file.replace("%h", str(HOME)).replace("%u", RECEIVING_USER)
    return HOME / path == ACCEPTED_KEY


def _is_user(pattern: str, address: str) -> bool:
    name, at, hosts = pattern.rpartition("@")
    if not at:
        return _matches(pattern, RECEIVING_USER)
    return _matches(name, RECEIVING_USER) and any(
        _is_at(each, address) for each in hosts.split(",")
    )


def _is_at(pattern: str, address: str) -> bool:
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(pattern, strict=False)
    except ValueError:
        return _matches(pattern, address)


def _matches(pattern: str, text: str) -> bool:
    """Return whether a pattern of ssh_config(5) with `*` and `?` is the whole text.

    Not by a regular expression: a host's pattern could make one take for ever.
    """
    reached = {0}
    for each in pattern:
        if each == "*":
            reached = {*range(min(reached, default=len(text) + 1), len(text) + 1)}
        else:
            reached = {at + 1 for at in reached if at < len(text) and each in ("?", text[at])}
    return len(text) in reached

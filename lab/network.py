"""The lab's network: one namespace per host, and one for the operator, which has the bridge.

There is no default route and no link to the machine's own network: nothing gets out. Addresses are
from the documentation ranges (RFC 5737, RFC 3849).
"""

from __future__ import annotations

from pathlib import Path

from lab.shell import attempt, run

IPV4 = "203.0.113."
IPV6 = "2001:db8:113::"
OPERATOR = 1
CA = 3
HOST_LINK = "host0"
"""A host's own end of its cable."""


def namespace(lab: str, host: str) -> str:
    """Return the name of a host's network namespace."""
    return f"cs-{lab}-{host}"


def make_operator(lab: str) -> None:
    """Make the operator's namespace, with the bridge that all hosts are plugged into."""
    space = namespace(lab, "operator")
    _make(space)
    ip = ["ip", "-n", space]
    run([*ip, "link", "add", "br0", "type", "bridge"])
    run([*ip, "address", "add", f"{IPV4}{OPERATOR}/24", "dev", "br0"])
    run([*ip, "address", "add", f"{IPV6}{OPERATOR}/64", "dev", "br0", "nodad"])
    run([*ip, "link", "set", "br0", "up"])
    resolver = Path("/etc/netns") / space
    resolver.mkdir(parents=True, exist_ok=True)
    (resolver / "resolv.conf").write_text(f"nameserver {IPV4}{CA}\n")


def make_host(lab: str, host: str, number: int) -> None:
    """Make a host's namespace and its cable to the bridge, with both its addresses."""
    space, operator = namespace(lab, host), namespace(lab, "operator")
    _make(space)
    port = f"to-{number}"
    run(["ip", "-n", operator, "link", "add", port, "type", "veth",
         "peer", "name", HOST_LINK, "netns", space])  # fmt: skip
    run(["ip", "-n", operator, "link", "set", port, "master", "br0", "up"])
    restore_addresses(lab, host, number)
    run(["ip", "-n", space, "link", "set", HOST_LINK, "up"])


def restore_addresses(lab: str, host: str, number: int) -> None:
    """Reset a host to its two addresses: any that it added are gone after a power cut."""
    ip = ["ip", "-n", namespace(lab, host), "address"]
    run([*ip, "flush", "dev", HOST_LINK, "scope", "global"])
    run([*ip, "add", f"{IPV4}{number}/24", "dev", HOST_LINK])
    run([*ip, "add", f"{IPV6}{number}/64", "dev", HOST_LINK, "nodad"])


def plug(lab: str, number: int, *, connected: bool) -> None:
    """Connect a host's cable to the bridge, or pull it."""
    state = "up" if connected else "down"
    run(["ip", "-n", namespace(lab, "operator"), "link", "set", f"to-{number}", state])


def lengthen(lab: str, number: int) -> tuple[str, str, str]:
    """Add a second cable beside a host's own, for a relay between the two.

    Returns: the second cable's end for the bridge, its other end, and the end of the host's own.
    """
    space = namespace(lab, "operator")
    near, far, end = f"slow-{number}", f"far-{number}", f"to-{number}"
    attempt(["ip", "-n", space, "link", "delete", near])
    run(["ip", "-n", space, "link", "add", near, "type", "veth", "peer", "name", far])
    # The operator's kernel must not answer on the two ends that are not on the bridge.
    silent = [
        setting
        for device in (far, end)
        for setting in (f"net.ipv4.conf.{device}.arp_ignore=8",
                        f"net.ipv6.conf.{device}.disable_ipv6=1")
    ]  # fmt: skip
    run(["ip", "netns", "exec", space, "sysctl", "-qw", *silent])
    for device in (near, far):
        run(["ip", "-n", space, "link", "set", device, "up"])
    return near, far, end


def join_cable(lab: str, number: int, *, long: bool) -> None:
    """Plug a host's long cable into the bridge instead of its own, or its own again.

    Raises:
        LabError: the lab has gone.
    """
    ip = ["ip", "-n", namespace(lab, "operator"), "link", "set"]
    run([*ip, f"to-{number}", *(["nomaster"] if long else ["master", "br0"])])
    if long:
        run([*ip, f"slow-{number}", "master", "br0"])


def shorten(lab: str, number: int) -> None:
    """Remove the second cable, if the lab still exists."""
    if attempt(["ip", "-n", namespace(lab, "operator"), "link", "delete", f"slow-{number}"]):
        join_cable(lab, number, long=False)


def names(lab: str) -> list[str]:
    """Return the namespaces of a lab that still exist."""
    listing = run(["ip", "netns", "list"])
    return [line.split()[0] for line in listing.splitlines() if line.startswith(f"cs-{lab}-")]


def remove(lab: str) -> None:
    """Remove every namespace of the lab, and with them its links."""
    for space in names(lab):
        attempt(["ip", "netns", "delete", space])
        resolver = Path("/etc/netns") / space
        (resolver / "resolv.conf").unlink(missing_ok=True)
        if resolver.is_dir():
            resolver.rmdir()


def _make(space: str) -> None:
    run(["ip", "netns", "add", space])
    run(["ip", "-n", space, "link", "set", "lo", "up"])
    # Make addresses usable at once; duplicate detection would delay them for a second.
    run(["ip", "netns", "exec", space, "sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0",
         "net.ipv6.conf.default.accept_ra=0"])  # fmt: skip

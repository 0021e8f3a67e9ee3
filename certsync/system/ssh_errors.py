"""What OpenSSH prints if it cannot reach a host, what it means, and what to try. Pure."""

from __future__ import annotations

from certsync.model.errors import KeyRefusedError, SilentError, UnreachableError
from certsync.system.process import printable

SILENCE = (
    ("Connection timed out", "it does not answer", "is it up, and does a firewall block SSH?"),
    ("Operation timed out", "it does not answer", "is it up, and does a firewall block SSH?"),
    ("No route to host", "there is no route to it", "is it up, and is the address right?"),
    ("Network is unreachable", "its network is unreachable", "is the address right?"),
    (
        "Connection refused",
        "nothing listens for SSH",
        "is sshd running, and is the port right? Is there a `limit` rule on SSH?",
    ),
    ("Could not resolve", "its name cannot be resolved", "is `address` right?"),
)
"""What OpenSSH prints if nothing answers, what it means, and what to try."""

REASONS = (
    (
        "HOST IDENTIFICATION HAS CHANGED",
        "its SSH host key has changed",
        "if the machine was reinstalled: ssh-keygen -R ADDRESS, then connect once by hand",
    ),
    (
        "Host key verification failed",
        "its SSH host key is not known here",
        "connect once by hand (ssh USER@ADDRESS), compare the fingerprint and accept it",
    ),
    (
        "Too many authentication failures",
        "it refused the connection after too many SSH keys",
        (
            "name one: `key` under [ssh] in the fleet file (its .pub if it is in an agent), or "
            "IdentityFile and `IdentitiesOnly yes` in ~/.ssh/config"
        ),
    ),
    (
        "sign_and_send_pubkey: signing failed",
        "this machine's SSH agent or security key did not sign",
        "unlock the agent; plug in the security key and touch it for each connection",
    ),
    ("Connection closed by", "it closed the connection", "is there a `limit` rule on SSH?"),
    ("Connection reset", "it closed the connection", "is there a `limit` rule on SSH?"),
)
"""The same if something answers."""

BEFORE_SSH = ("kex_exchange_identification", "banner exchange")
"""Printed if a connection ended, or stood still, before the host said anything of SSH."""

NO_SOCKET = "UNKNOWN port 65535"
"""What OpenSSH calls a host that it reaches through another one."""

OPEN_FAILED = "open failed: "
"""Printed by a jump host's ssh if the jump host was reached, and does not reach the host."""

KEY_REFUSED = "Permission denied ("
"""What OpenSSH prints before the remaining authentication methods: our key was rejected."""


def reason(name: str, stderr: str, jump: str = "") -> UnreachableError:
    """Return the error for a host that OpenSSH could not reach, from what it printed.

    ``jump`` is how it reaches the host, if not directly.
    """
    lines = [line for line in stderr.strip().splitlines() if line.strip()]
    silent = OPEN_FAILED in stderr and any(words in stderr for words, _, _ in SILENCE)
    if jump and not silent and "timed out" not in stderr:
        after = (*BEFORE_SSH, NO_SOCKET, "stdio forwarding failed")
        own = [line for line in lines if not any(words in line for words in after)]
        why = printable((own or lines or ["no reason was given"])[-1]).rstrip(".")
        return UnreachableError(
            f"its jump host ({printable(jump)}) cannot be passed: {why}",
            "`ssh USER@ADDRESS` has to work; see ProxyJump or ProxyCommand in ~/.ssh/config",
            host=name,
        )
    for words, meaning, hint in SILENCE:
        if words in stderr:
            return SilentError(meaning, hint, host=name)
    for words, meaning, hint in REASONS:
        if words in stderr:
            return UnreachableError(meaning, hint, host=name)
    if KEY_REFUSED in stderr:
        return KeyRefusedError(
            "it does not accept the SSH key",
            "are the user and the key right? A key with a passphrase has to be in an agent: "
            "ssh-add KEY",
            host=name,
        )
    return UnreachableError(
        printable(lines[-1] if lines else "ssh failed without an error message"), host=name
    )


def jump(configuration: str) -> str:
    """Return the jump host or proxy in the output of `ssh -G`; empty: there is none."""
    for line in configuration.splitlines():
        keyword, _, value = line.partition(" ")
        if keyword in ("proxyjump", "proxycommand") and value not in ("", "none"):
            return value
    return ""

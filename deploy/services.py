"""Services that we have installed and depend on: they run, now and after a reboot."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from pyinfra import host
from pyinfra.api import StringCommand

from deploy.facts import Lines
from deploy.progress import would_write

RUNNING = """\
systemctl enable -q {unit} || exit 1
systemctl reset-failed {unit} 2>/dev/null || :
systemctl reload-or-restart {unit} || {{
  why=$(journalctl -q --no-pager -o cat -n 8 -u {unit} | paste -sd ';')
  printf 'error: {unit} cannot be started: %s\\n' "$why" >&2
  exit 1
}}"""
"""A unit that failed too often within its limit of starts is not started before it is reset."""


def as_configured(unit: str) -> Generator[Any, None, None]:
    """Have a service run whose files are as they should be."""
    if runs(unit):
        host.noop(f"{unit} is configured")
        return
    would_write(host, f"{unit}.service", "stopped\n", "running\n")
    yield StringCommand(running(unit))


def runs(unit: str) -> bool:
    """Return whether a service runs, and will after a reboot."""
    script = f"systemctl is-active {unit}; systemctl is-enabled -q {unit} && echo enabled"
    return host.get_fact(Lines, script=script) in (["active", "enabled"], ["reloading", "enabled"])


def running(unit: str) -> str:
    """Return the script that has a service read its files, and run, now and after a reboot."""
    return RUNNING.format(unit=unit)

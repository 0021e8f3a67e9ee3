"""Report the run's progress to `certsync deploy`: one line of JSON per event.

It names a file descriptor in CERTSYNC_EVENTS; without it, nothing is reported.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
from collections.abc import Callable, Sequence
from threading import Thread
from time import sleep
from typing import Any, NoReturn

from pyinfra.api.state import BaseStateCallback, State

from certsync.operator.deployment.operations import GO_ON, Phase

VARIABLE = "CERTSYNC_EVENTS"


_tokens: dict[str, str] = {}

ending: list[Callable[[], None]] = []
"""What to do before this process ends in another way than pyinfra's own."""

phases: dict[str, Phase] = {}
"""The operations at which a phase begins, by their names."""


def go_on() -> None:
    """Wait, once per run, until the caller holds the fleet lock. Until then, only connect."""
    if VARIABLE not in os.environ or is_dry() or _tokens:
        return
    line = sys.stdin.readline()
    if not line:
        # The caller could not get the lock, or is gone.
        _end()
    _tokens.update({"": "held", **json.loads(line)})


def _wait_for_permission() -> None:
    """Wait before a phase until the caller has seen that it still holds the fleet lock."""
    if _tokens and sys.stdin.readline() != f"{GO_ON}\n":
        # It does not, or is gone.
        _end()


def token(host: str) -> str:
    """Return the token of the fleet lock held on a host; empty: none is held."""
    return _tokens.get(host, "")


def event(kind: str, **values: Any) -> None:
    """Write one event."""
    if VARIABLE in os.environ:
        line = json.dumps({"event": kind, **values}) + "\n"
        os.write(int(os.environ[VARIABLE]), line.encode())


def is_dry() -> bool:
    """Return whether this is a dry run."""
    return "CERTSYNC_DRY" in os.environ


def would_write(host: Any, path: str, before: str, after: str) -> None:
    """Report, in a dry run, how a file would change."""
    if is_dry() and before != after:
        event("file", host=host.name, path=path, before=before, after=after)


_tells: set[tuple[str, str]] = set()
"""Hosts, and operations on them that report their own steps."""

_foreseen: dict[tuple[str, str], list[str]] = {}
"""In a dry run: what these operations would change."""


def foresee(host: Any, steps: Sequence[tuple[str, str]]) -> None:
    """Record what a host's current operation would change; it reports its own steps.

    ``steps`` are their names and scripts.
    """
    _tells.add((host.name, host.current_op_hash))
    _foreseen[host.name, host.current_op_hash] = [name for name, _ in steps]
    if is_dry() and steps:
        text = "\n".join(f"# {name}\n{script}" for name, script in steps)
        event("script", host=host.name, text=text)


def step_done(host: Any, name: str, *, changed: bool) -> None:
    """Report that a step is done, or that it had nothing to do."""
    event("success", host=host.name, name=name, changed=changed)
    if changed and VARIABLE not in os.environ:
        host.log(f"done: {name}")


def note_of_balancer(host: Any) -> None:
    """Say what this run leaves undone if pyinfra was started by hand."""
    if VARIABLE not in os.environ:
        host.log(
            "the provider's balancer is not changed by pyinfra: run `certsync deploy` for that"
        )


def failed(host: Any, name: str) -> None:
    """Report that a step has failed."""
    event("error", host=host.name, name=name)
    if VARIABLE not in os.environ:
        host.log(f"failed: {name}")


class Progress(BaseStateCallback):
    """Passes pyinfra's callbacks on."""

    @staticmethod
    def operation_start(state: State, op_hash: str) -> None:
        """An operation begins on all its hosts."""
        if phase := phases.get(_name(state, op_hash)):
            event("phase", name=str(phase))
            _wait_for_permission()

    @staticmethod
    def operation_host_start(state: State, host: Any, op_hash: str) -> None:
        """An operation begins on a host."""
        if op_hash in state.ops[host] and _name(state, op_hash) not in phases:
            event("start", host=host.name, name=_name(state, op_hash))

    @staticmethod
    def operation_end(state: State, op_hash: str) -> None:
        """An operation has ended on all its hosts; only now its changes are known."""
        for host in state.inventory:
            data = state.ops[host].get(op_hash)
            if (
                data is None
                or (host.name, op_hash) in _tells
                or _name(state, op_hash) in phases
                or not data.operation_meta.is_complete()
            ):
                continue
            meta = data.operation_meta
            kind = "error" if meta.did_error() else "success"
            name = _name(state, op_hash)
            event(kind, host=host.name, name=name, changed=meta.did_change())


def _foretell(state: State) -> None:
    """Report what the run would change; pyinfra's own table truncates it for many hosts."""
    operations: list[dict[str, Any]] = []
    for op_hash in state.get_op_order():  # type: ignore[no-untyped-call]  # pyinfra's own
        if phase := phases.get(_name(state, op_hash)):
            operations.append({"phase": str(phase)})
            continue
        steps: dict[str, list[str]] = {}
        for host in state.inventory.iter_activated_hosts():
            for name in _would_change(state, host, op_hash):
                steps.setdefault(name, []).append(host.name)
        operations += [{"name": name, "hosts": sorted(hosts)} for name, hosts in steps.items()]
    event("plan", operations=operations)


def _would_change(state: State, host: Any, op_hash: str) -> list[str]:
    if (host.name, op_hash) in _tells:
        return _foreseen[host.name, op_hash]
    data = state.ops[host].get(op_hash)
    changes = data is not None and data.operation_meta._maybe_is_change  # pyinfra's plan asks too
    return [_name(state, op_hash)] if changes else []


def _end_with(parent: int) -> None:
    """Exit when the caller is gone, so that this run does not overlap with the next one."""
    while os.getppid() == parent:
        sleep(0.5)
    _end()


def _end() -> NoReturn:
    for close in ending:
        close()
    os._exit(1)


def _name(state: State, op_hash: str) -> str:
    """Return an operation's name, without the name of its deploy."""
    names = sorted(state.get_op_meta(op_hash).names)
    return ", ".join(each.rpartition(" | ")[2] for each in names)


def report(state: State) -> None:
    """Start reporting, once per run."""
    if any(isinstance(handler, Progress) for handler in state.callback_handlers):
        return
    state.add_callback_handler(Progress())  # type: ignore[no-untyped-call]  # pyinfra's own
    if is_dry():
        atexit.register(_foretell, state)
    # Only now: starting a thread lets the other hosts' runs of the deploy file continue.
    if VARIABLE in os.environ:
        Thread(target=_end_with, args=[os.getppid()], daemon=True).start()
    reached = {host.name for host in state.activated_hosts}
    wanted = [host.name for host in state.inventory if state.is_host_in_limit(host)]
    event("unreached", hosts=[name for name in wanted if name not in reached])

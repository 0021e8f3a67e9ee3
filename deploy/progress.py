"""Tell whoever started this run how far it is: one line of JSON for each thing that happens.

`certsync deploy` names a file descriptor in CERTSYNC_EVENTS; without it nothing is told.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
from collections.abc import Sequence
from threading import Thread
from time import sleep
from typing import Any

from pyinfra.api.state import BaseStateCallback, State

from certsync.operator.deployment.operations import Phase

VARIABLE = "CERTSYNC_EVENTS"


_tokens: dict[str, str] = {}

phases: dict[str, Phase] = {}
"""The operations at which a phase begins, by their names."""


def go_on() -> None:
    """Wait, once a run, until its caller holds the fleet lock. Until then it only connects."""
    if VARIABLE not in os.environ or is_dry() or _tokens:
        return
    line = sys.stdin.readline()
    if not line:
        # It could not be had, or who wanted it is gone.
        os._exit(1)
    _tokens.update({"": "held", **json.loads(line)})


def token(host: str) -> str:
    """Return what presents the fleet lock that is held on a host; empty: none is."""
    return _tokens.get(host, "")


def event(kind: str, **values: Any) -> None:
    """Write one event."""
    if VARIABLE in os.environ:
        line = json.dumps({"event": kind, **values}) + "\n"
        os.write(int(os.environ[VARIABLE]), line.encode())


def is_dry() -> bool:
    """Return whether this run only says what it would do."""
    return "CERTSYNC_DRY" in os.environ


def would_write(host: Any, path: str, before: str, after: str) -> None:
    """Tell, in a dry run, how a file would change."""
    if is_dry() and before != after:
        event("file", host=host.name, path=path, before=before, after=after)


_tells: set[tuple[str, str]] = set()
"""Hosts, and operations on them that tell by themselves what became of each of their steps."""

_foreseen: dict[tuple[str, str], list[str]] = {}
"""In a dry run: what these operations would change."""


def foresee(host: Any, steps: Sequence[tuple[str, str]]) -> None:
    """Note what the operation that a host is at would change: it tells of its steps by itself.

    ``steps`` are their names and scripts.
    """
    _tells.add((host.name, host.current_op_hash))
    _foreseen[host.name, host.current_op_hash] = [name for name, _ in steps]
    if is_dry() and steps:
        text = "\n".join(f"# {name}\n{script}" for name, script in steps)
        event("script", host=host.name, text=text)


def step_done(host: Any, name: str, *, changed: bool) -> None:
    """Tell that a step is done, or that nothing was to be done for it."""
    event("success", host=host.name, name=name, changed=changed)
    if changed and VARIABLE not in os.environ:
        host.log(f"done: {name}")


def failed(host: Any, name: str) -> None:
    """Tell that a step has failed."""
    event("error", host=host.name, name=name)
    if VARIABLE not in os.environ:
        host.log(f"failed: {name}")


class Progress(BaseStateCallback):
    """pyinfra's callbacks, passed on."""

    @staticmethod
    def operation_start(state: State, op_hash: str) -> None:
        """An operation begins on all its hosts."""
        if phase := phases.get(_name(state, op_hash)):
            event("phase", name=str(phase))

    @staticmethod
    def operation_host_start(state: State, host: Any, op_hash: str) -> None:
        """An operation begins on a host."""
        if op_hash in state.ops[host] and _name(state, op_hash) not in phases:
            event("start", host=host.name, name=_name(state, op_hash))

    @staticmethod
    def operation_end(state: State, op_hash: str) -> None:
        """An operation has ended on all its hosts; only now is it known what it changed."""
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
    """Tell what the run would change, which pyinfra's own table cuts short on many hosts."""
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
    """End this run when who started it is gone, so that none goes on behind the next one's back."""
    while os.getppid() == parent:
        sleep(0.5)
    os._exit(1)


def _name(state: State, op_hash: str) -> str:
    """Return what an operation is called, without the part of the deploy that it stands in."""
    names = sorted(state.get_op_meta(op_hash).names)
    return ", ".join(each.rpartition(" | ")[2] for each in names)


def report(state: State) -> None:
    """Pass on what happens from here, once a run."""
    if any(isinstance(handler, Progress) for handler in state.callback_handlers):
        return
    state.add_callback_handler(Progress())  # type: ignore[no-untyped-call]  # pyinfra's own
    if is_dry():
        atexit.register(_foretell, state)
    # Only now: to start a thread lets the other hosts' runs of the deploy file go on.
    if VARIABLE in os.environ:
        Thread(target=_end_with, args=[os.getppid()], daemon=True).start()
    reached = {host.name for host in state.activated_hosts}
    wanted = [host.name for host in state.inventory if state.is_host_in_limit(host)]
    event("unreached", hosts=[name for name in wanted if name not in reached])

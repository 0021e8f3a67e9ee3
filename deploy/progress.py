"""Tell whoever started this run how far it is: one line of JSON for each thing that happens.

`certsync deploy` names a file descriptor in CERTSYNC_EVENTS; without it nothing is told.
"""

from __future__ import annotations

import json
import os
from typing import Any

from pyinfra.api.state import BaseStateCallback, State

VARIABLE = "CERTSYNC_EVENTS"


def event(kind: str, **values: Any) -> None:
    """Write one event."""
    if VARIABLE in os.environ:
        line = json.dumps({"event": kind, **values}) + "\n"
        os.write(int(os.environ[VARIABLE]), line.encode())


class Progress(BaseStateCallback):
    """pyinfra's callbacks, passed on."""

    @staticmethod
    def operation_start(state: State, op_hash: str) -> None:
        """An operation begins on all its hosts."""
        event("operation", name=_name(state, op_hash))

    @staticmethod
    def operation_host_start(state: State, host: Any, op_hash: str) -> None:
        """An operation begins on a host."""
        if op_hash in state.ops[host]:
            event("start", host=host.name, name=_name(state, op_hash))

    @staticmethod
    def operation_end(state: State, op_hash: str) -> None:
        """An operation has ended on all its hosts; only now is it known what it changed."""
        for host in state.inventory:
            data = state.ops[host].get(op_hash)
            if data is None or not data.operation_meta.is_complete():
                continue
            meta = data.operation_meta
            kind = "error" if meta.did_error() else "success"
            name = _name(state, op_hash)
            event(kind, host=host.name, name=name, changed=meta.did_change())


def _name(state: State, op_hash: str) -> str:
    return ", ".join(sorted(state.get_op_meta(op_hash).names))


def report(state: State) -> None:
    """Pass on what happens from here, once a run."""
    if any(isinstance(handler, Progress) for handler in state.callback_handlers):
        return
    state.add_callback_handler(Progress())  # type: ignore[no-untyped-call]  # pyinfra's own
    reached = {host.name for host in state.activated_hosts}
    event("unreached", hosts=[host.name for host in state.inventory if host.name not in reached])

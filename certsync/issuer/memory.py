"""What is remembered between runs: read once per command, written as soon as it changes."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from certsync.issuer.state import LineageState, State
from certsync.issuer.store import Store
from certsync.model import codec
from certsync.model.errors import BrokenStateError, NewerSchemaError


@dataclass
class Memory:
    """The state file of one issuer, for one command that holds the fleet lock."""

    store: Store
    _state: State | None = None

    @property
    def state(self) -> State:
        """Everything remembered. A corrupt file counts as empty.

        Raises:
            NewerSchemaError: a newer version wrote it.
        """
        if self._state is None:
            self._state = self._read() or State()
        return self._state

    @property
    def state_or_nothing(self) -> State:
        """Everything remembered; nothing, if a newer version wrote it."""
        try:
            return self.state
        except NewerSchemaError:
            return State()

    def of(self, lineage: str) -> LineageState:
        """Return what is remembered about a lineage.

        Raises:
            NewerSchemaError: a newer version wrote it.
        """
        return self.state.lineage(lineage)

    def note(self, lineage: str, **changes: Any) -> LineageState:
        """Save changed fields of a `LineageState`, and return the new one.

        Raises:
            OSError: the disk cannot be written.
            NewerSchemaError: a newer version wrote it.
        """
        known = replace(self.of(lineage), **changes)
        self.keep(self.state.having(lineage, known))
        return known

    def keep(self, state: State) -> None:
        """Save everything.

        Raises:
            OSError: the disk cannot be written; nothing has changed then.
        """
        self.store.write_state(self.store.state_file, state.to_json())
        self._state = state

    def put_broken_aside(self) -> Path | None:
        """Rename a corrupt state file, and return its new path; None: it is not corrupt.

        Raises:
            NewerSchemaError: a newer version wrote it.
        """
        self._state = self._read()
        if self._state is not None:
            return None
        path = self.store.state_file
        aside = path.with_suffix(".json.broken")
        try:
            path.replace(aside)
        except OSError:
            # A disk that cannot be written is reported by whatever has to write.
            return None
        return aside

    def _read(self) -> State | None:
        with contextlib.suppress(BrokenStateError, *codec.NOT_THESE):
            return State.from_json(self.store.read_state(self.store.state_file))
        return None

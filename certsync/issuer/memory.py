"""What is remembered between runs: read once a command, and written as soon as it changes."""

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
        """All that is remembered. What is broken counts for nothing.

        Raises:
            NewerSchemaError: a newer version has written it.
        """
        if self._state is None:
            self._state = self._read() or State()
        return self._state

    @property
    def state_or_nothing(self) -> State:
        """All that is remembered; nothing, where a newer version has written it."""
        try:
            return self.state
        except NewerSchemaError:
            return State()

    def of(self, lineage: str) -> LineageState:
        """Return what is remembered of a lineage.

        Raises:
            NewerSchemaError: a newer version has written it.
        """
        return self.state.lineage(lineage)

    def note(self, lineage: str, **changes: Any) -> LineageState:
        """Write down fields of a `LineageState`, and return it with them.

        Raises:
            OSError: the disk refuses.
            NewerSchemaError: a newer version has written it.
        """
        known = replace(self.of(lineage), **changes)
        self.keep(self.state.having(lineage, known))
        return known

    def keep(self, state: State) -> None:
        """Write down all of it.

        Raises:
            OSError: the disk refuses; then it is as it was.
        """
        self.store.write_state(self.store.state_file, state.to_json())
        self._state = state

    def put_broken_aside(self) -> Path | None:
        """Keep a broken state file under another name, and return it; None: it is not broken.

        Raises:
            NewerSchemaError: a newer version has written it.
        """
        self._state = self._read()
        if self._state is not None:
            return None
        path = self.store.state_file
        aside = path.with_suffix(".json.broken")
        try:
            path.replace(aside)
        except OSError:
            # A disk that takes nothing is told where something has to be written.
            return None
        return aside

    def _read(self) -> State | None:
        with contextlib.suppress(BrokenStateError, *codec.NOT_THESE):
            return State.from_json(self.store.read_state(self.store.state_file))
        return None

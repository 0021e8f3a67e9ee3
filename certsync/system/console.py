"""The only place that prints, and its rules.

stdout is the result, what was asked for; stderr is the narration. An error is one `error:` line,
then `hint:` lines: no capital, no full stop. No colour codes into a pipe. A secret never comes
here: what is told is made of names, numbers, fingerprints and other people's error texts. Those
may hold anything, so nothing is printed that would drive a terminal.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

from certsync.model.errors import CertsyncError
from certsync.system.terminal import harmless


def result(text: str) -> None:
    """Print what was asked for."""
    print(harmless(text), flush=True)


@contextmanager
def narrating() -> Iterator[None]:
    """Have what a person would be shown as the result narrated, where programs get another one."""
    with redirect_stdout(sys.stderr):
        yield


def result_json(data: Any) -> None:
    """Print what was asked for, for programs."""
    print(json.dumps(data, indent=2), flush=True)


def tell(text: str) -> None:
    """Narrate what is being done."""
    print(harmless(text), file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """Tell what a person should look at, and goes on all the same."""
    print(harmless(f"warning: {text}"), file=sys.stderr, flush=True)


def fail(error: CertsyncError) -> None:
    """Print an error and its hint."""
    print(harmless(f"error: {error.message}"), file=sys.stderr, flush=True)
    if error.hint:
        print(harmless(f"hint: {error.hint}"), file=sys.stderr, flush=True)

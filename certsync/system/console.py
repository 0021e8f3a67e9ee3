"""The only place that prints, and its rules.

stdout is for the result, stderr for progress. An error is one `error:` line, then `hint:` lines: no
capital, no full stop. No colour codes into a pipe. Secrets never get here: output consists of
names, numbers, fingerprints and other programs' error texts. Those may contain anything, so
terminal control characters are replaced.
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
    """Print the result."""
    print(harmless(text), flush=True)


@contextmanager
def narrating() -> Iterator[None]:
    """Send results to stderr inside the block, because stdout is for programs."""
    with redirect_stdout(sys.stderr):
        yield


def result_json(data: Any) -> None:
    """Print the result as JSON."""
    print(json.dumps(data, indent=2), flush=True)


def tell(text: str) -> None:
    """Report progress."""
    print(harmless(text), file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """Report something to look at that does not stop the run."""
    print(harmless(f"warning: {text}"), file=sys.stderr, flush=True)


def fail(error: CertsyncError) -> None:
    """Print an error and its hint."""
    print(harmless(f"error: {error.message}"), file=sys.stderr, flush=True)
    if error.hint:
        print(harmless(f"hint: {error.hint}"), file=sys.stderr, flush=True)

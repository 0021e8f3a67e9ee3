"""The interface of a backend's web server: what activating a certificate needs from it."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class Server(Protocol):
    """A web server. The receiver has its own implementation, which imports nothing of ours."""

    def test(self, folder: Path, live: Path) -> None:
        """Refuse a generation's folder if the server would not start with it; change nothing.

        ``live`` is the folder that it reads now.

        Raises:
            receiver.Unfit: because of the generation.
            receiver.Refused: because of this host.
        """
        ...

    def reload(self) -> None:
        """Reload certificates and keys, or start the server.

        Raises:
            receiver.Refused: it failed; the server keeps what it had.
        """
        ...

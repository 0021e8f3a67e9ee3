"""What a backend's web server has to be able to do for a certificate to go live: a port."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class Server(Protocol):
    """A web server; the receiver has one, which imports nothing of ours."""

    def test(self, folder: Path, live: Path) -> None:
        """Refuse a generation's folder with which it would not start, changing nothing.

        ``live`` is the folder that it reads at the moment.

        Raises:
            receiver.Unfit: the generation is the reason.
            receiver.Refused: this host is.
        """
        ...

    def reload(self) -> None:
        """Read certificates and keys again, or start.

        Raises:
            receiver.Refused: it does not; it goes on with what it had.
        """
        ...

"""A problem as a value: which machine, and what is wrong, in words."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One problem found, for people to read and for programs to distinguish."""

    host: str
    """A machine's name, a public address, or `DNS`."""

    text: str
    hint: str = ""
    """What to try; empty: the caller supplies it."""

    lineage: str = ""
    """Which lineage it is about, if not the fleet's first."""

    stops: bool = True
    """Whether it would make a deploy fail; else it is a note."""

    @property
    def about(self) -> tuple[str, str]:
        """The machine and lineage concerned."""
        return self.host, self.lineage

    def __str__(self) -> str:
        """Return it on one line."""
        where = f"{self.host} {self.lineage}" if self.lineage else self.host
        return f"{where}: {self.text}"

    def full(self) -> str:
        """Return it with its severity and hint, as `check --online` prints it."""
        kind = "" if self.stops else "note: "
        hint = f"\n  hint: {self.hint}" if self.hint else ""
        return f"{kind}{self}{hint}"

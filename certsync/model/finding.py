"""Something that is wrong, as a value: about which machine, and in words."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that was found, for a person to read and for a program to tell apart."""

    host: str
    """A machine's name, a public address, or `DNS`."""

    text: str
    hint: str = ""
    """What to try; empty: whoever tells of it knows better."""

    lineage: str = ""
    """Which one it is about, where a fleet has several and it is not the first."""

    stops: bool = True
    """Whether a deploy would trip over it; else it is a note."""

    @property
    def about(self) -> tuple[str, str]:
        """The machine and the lineage that it is about."""
        return self.host, self.lineage

    def __str__(self) -> str:
        """Return it in one line."""
        where = f"{self.host} {self.lineage}" if self.lineage else self.host
        return f"{where}: {self.text}"

    def full(self) -> str:
        """Return it with its kind and its hint, as `check --online` prints it."""
        kind = "" if self.stops else "note: "
        hint = f"\n  hint: {self.hint}" if self.hint else ""
        return f"{kind}{self}{hint}"

"""How a pyinfra run ended: what failed where, and what to try."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from certsync.model.finding import Finding
from certsync.operator.deployment.progress import Outcome
from certsync.operator.deployment.run import Run


@dataclass(frozen=True)
class Executed:
    """How a run ended."""

    run: Run
    outcome: Outcome
    elsewhere: tuple[Finding, ...] = ()
    """What failed, but not on a host: at a provider's balancer."""

    @property
    def failures(self) -> list[Finding]:
        """Return what failed on which host."""
        failed = [Finding(name, _why(self.run, name)) for name in self.outcome.unreached]
        failed += [
            Finding(name, f"{what}: {_why(self.run, name)}")
            for name, what in self.outcome.failed.items()
        ]
        return [*failed, *self.elsewhere]

    @property
    def why(self) -> str:
        """The failures as text."""
        return "; ".join(map(str, self.failures))

    @property
    def hints(self) -> list[str]:
        """Return the hints that failed hosts printed.

        If they differ between hosts, each is prefixed with its host.
        """
        names = dict.fromkeys((*self.outcome.unreached, *self.outcome.failed))
        found = {
            name: dict.fromkeys(_of_kind("hint: ", self.run.output_of(name))) for name in names
        }
        found |= {each.host: {each.hint: None} for each in self.elsewhere if each.hint}
        kinds = [hints for hints in found.values() if hints]
        if all(hints == kinds[0] for hints in kinds):
            return [hint for hints in kinds[:1] for hint in hints]
        return [f"{name}: {hint}" for name, hints in found.items() for hint in hints]


def _why(run: Run, name: str) -> str:
    """Return one line that says why a host failed: ours, dpkg's, apt's, or the first one."""
    output = run.output_of(name)
    errors = [*_of_kind("error: ", output), *_of_dpkg(output), *_of_kind("E: ", output)]
    return (errors or output or ["no reason was given"])[0]


def _of_dpkg(lines: Sequence[str]) -> list[str]:
    """Return dpkg's errors, each joined with its reason, which is on the following line."""
    return [
        f"{line.removesuffix(':')}: {why}" if line.endswith(":") and why else line
        for line, why in zip_longest(lines, lines[1:], fillvalue="")
        if line.startswith("dpkg: error processing ")
    ]


def _of_kind(kind: str, lines: Sequence[str]) -> list[str]:
    return [line.removeprefix(kind) for line in lines if line.startswith(kind)]

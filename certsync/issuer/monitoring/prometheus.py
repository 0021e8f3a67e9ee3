"""A fleet's metrics for node_exporter, in Prometheus' text format. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from certsync.model.proof import Proof, Verdict

Sample = tuple[dict[str, str], float]

LABEL_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
"""https://prometheus.io/docs/instrumenting/exposition_formats/#comments-help-text-and-type-information"""

HELP = {
    "certificate_not_after_seconds": "When the certificate a backend serves expires, Unix time.",
    "certificate_days_left": "Days until then, when this was written.",
    "backend_in_sync": "1 if the backend was proven to serve the current generation, else 0.",
    "generation": "The number of the current generation.",
    "last_run_timestamp_seconds": "When the last renewal run started.",
    "last_success_timestamp_seconds": "When the last successful renewal run started.",
    "last_run_exit_status": "Exit status of the last run: 0 success, 75 retry later.",
    "failed_tries": "Failed attempts to order since the last success.",
    "next_renewal_timestamp_seconds": "When the next order is due.",
    "challenge_reachable": "1 if a challenge would reach the issuer, looked at daily, else 0.",
}
"""Every metric, in the order of output, by its name without `certsync_`."""


@dataclass(frozen=True)
class Readings:
    """The values at the end of a run."""

    lineage: str
    at: datetime
    """The time from which days left are counted."""

    proofs: tuple[Proof, ...] = ()
    """Each backend, as it was last seen."""

    generation: int | None = None
    """The number of the current generation; None: nothing has been issued."""

    last_run: datetime | None = None
    last_success: datetime | None = None
    exit_status: int = 0
    failed_tries: int = 0
    next_renewal: datetime | None = None
    challenge_reachable: bool | None = None
    """Whether a challenge would reach the issuer; None: nobody has looked yet."""


def text(*lineages: Readings) -> str:
    """Return a text file's content; unknown values are left out.

    Values about the run, not a lineage, come from the first one.
    """
    samples: dict[str, list[Sample]] = {name: [] for name in HELP}
    for readings in lineages:
        for name, found in _samples(readings).items():
            samples[name] += [each for each in found if each[0] or readings is lineages[0]]
    return "".join(
        line
        for name in HELP
        if samples[name]
        for line in _family(f"certsync_{name}", name, samples)
    )


def _samples(readings: Readings) -> dict[str, list[Sample]]:
    lineage = {"lineage": readings.lineage}
    ends = {
        proof.name: datetime.fromisoformat(proof.not_after)
        for proof in readings.proofs
        if proof.not_after
    }
    reachable = readings.challenge_reachable
    named = {proof.name: {**lineage, "backend": proof.name} for proof in readings.proofs}
    return {
        "certificate_not_after_seconds": [(named[name], ends[name].timestamp()) for name in ends],
        "certificate_days_left": [
            (named[name], (ends[name] - readings.at) / timedelta(days=1)) for name in ends
        ],
        "backend_in_sync": [
            (named[proof.name], proof.verdict is Verdict.IN_SYNC) for proof in readings.proofs
        ],
        "generation": [] if readings.generation is None else [(lineage, readings.generation)],
        "last_run_timestamp_seconds": _moment({}, readings.last_run),
        "last_success_timestamp_seconds": _moment({}, readings.last_success),
        "last_run_exit_status": [({}, readings.exit_status)] if readings.last_run else [],
        "failed_tries": [(lineage, readings.failed_tries)],
        "next_renewal_timestamp_seconds": _moment(lineage, readings.next_renewal),
        "challenge_reachable": [] if reachable is None else [(lineage, reachable)],
    }


def _moment(labels: dict[str, str], moment: datetime | None) -> list[Sample]:
    return [] if moment is None else [(labels, moment.timestamp())]


def _family(full_name: str, name: str, samples: dict[str, list[Sample]]) -> Iterator[str]:
    yield f"# HELP {full_name} {HELP[name]}\n"
    yield f"# TYPE {full_name} gauge\n"
    for labels, value in samples[name]:
        pairs = ",".join(f'{key}="{word.translate(LABEL_ESCAPES)}"' for key, word in labels.items())
        yield f"{full_name}{f'{{{pairs}}}' if pairs else ''} {_number(value)}\n"


def _number(value: float) -> str:
    # Avoids both `1e+09` and fourteen decimal places.
    return f"{round(value, 3):.3f}".rstrip("0").rstrip(".")

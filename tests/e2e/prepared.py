"""Hosts on which a deploy has come to its third phase: no certificate, no account at the CA.

They are made once, by pyinfra's own door, and kept as a snapshot that is known by all that it is
made from: a change of the product or of the lab makes new ones.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from lab import Lab, LabError, snapshot
from lab.world import CHECKOUT
from tests.e2e.road import Road, fleet_text

MADE_FROM = (
    "certsync", "deploy", "templates", "lab", "inventory/lab.py", "constraints.txt",
    "tests/e2e/road.py", "tests/e2e/prepared.py",
)  # fmt: skip


def disks(lab: Lab) -> Path:
    """Return a snapshot for a lab: of the hosts that are in its fleet file at first.

    Raises:
        LabError: the deploy that prepares them fails.
    """
    model = Lab(
        "prepared",
        backends=min(lab.backend_count, 3),
        balancers=lab.balancer_count,
        suite=lab.suite,
    )
    said = (snapshot.contents(model.suite), fleet_text(model))
    return snapshot.kept(
        snapshot.key(CHECKOUT, MADE_FROM, said), lambda folder: _prepare(model, folder)
    )


def _prepare(model: Lab, folder: Path) -> None:
    with model, TemporaryDirectory() as work:
        road = Road(model, Path(work))
        ended = road.operator(
            "pyinfra", "-y", "--data", "certificate=none", str(road.folder / "lab.py"),
            "deploy/site.py",
        )  # fmt: skip
        if ended.status != 0:
            raise LabError(f"hosts cannot be prepared: {ended.everything}")
        model.keep_disks(folder)

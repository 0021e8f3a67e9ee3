#!/usr/bin/env python3
"""Measure the CPU time of an hourly run when nothing is due, compared with Python alone.

usage: sudo .venv/bin/python bench/hourly.py [--runs 20]

On a lab of three backends, in turns, the CPU time of the process and its children:

- `certsync renew`, with nothing due: every backend is proven by a TLS handshake;
- `certsync --version`: the same program without the run;
- the same Python with nothing to do.

The table is printed on standard output.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

from lab import Lab, Machine  # noqa: E402  # found through the line above

COMMANDS = {
    "certsync renew, nothing due": "certsync renew",
    "certsync --version": "certsync --version",
    "Python alone": "/opt/certsync/current/bin/python -c pass",
}


def seconds(machine: Machine, command: str) -> float:
    """Return a command's CPU time, user and system."""
    output = machine.sh(f"bash -c 'TIMEFORMAT=\"%U %S\"; time {command}' 2>&1 | tail -n 1")
    return sum(float(word) for word in output.split())


def deploy(lab: Lab, folder: Path) -> None:
    """Deploy the lab's fleet, and stop its hourly runs."""
    text = (CHECKOUT / "inventory/lab.toml").read_text()
    (folder / "lab.toml").write_text(text.replace("/run/certsync-lab/lab/", f"{lab.folder}/"))
    shutil.copy(CHECKOUT / "inventory/lab.py", folder)
    argv = [sys.executable, "-m", "certsync", "deploy", str(folder / "lab.toml")]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(
        [*lab.operator_argv(), *argv], cwd=CHECKOUT, check=True, stdout=subprocess.DEVNULL,
        env={**os.environ, "PATH": path},
    )  # fmt: skip
    lab.backends[0].sh("systemctl stop cron; certsync renew")


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=20)
    runs = parser.parse_args().runs
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with Lab("hourly") as lab, tempfile.TemporaryDirectory() as folder:
        deploy(lab, Path(folder))
        for _ in range(runs):
            for name, command in COMMANDS.items():
                taken[name].append(seconds(lab.backends[0], command))
    medians = {name: statistics.median(each) for name, each in taken.items()}
    alone = medians["Python alone"]
    rows = ["| | CPU seconds | times Python alone |", "|---|--:|--:|"]
    rows += [
        f"| {name} | {median:.3f} | {median / alone:.1f} |" for name, median in medians.items()
    ]
    sys.stdout.write("\n".join(rows) + "\n")


if __name__ == "__main__":
    main()

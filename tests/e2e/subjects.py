"""Which end-to-end modules a change can touch: for `script/test changed`, and kept in one place.

A file that is not named here is the concern of every module: the receiver, the deploys, the lab.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

HERE = Path(__file__).parent
CHECKOUT = HERE.parent.parent

NOTHING = (
    "*.md", "LICENSE", ".gitignore", "docs/*", "bench/*", "script/demo", "script/pin",
    "tests/unit/*", "tests/conftest.py", "tests/e2e/subjects.py", "inventory/example.*",
)  # fmt: skip
"""Files that no end-to-end test reads."""

CHANGING = (
    "changing", "compromised", "cut_off", "joining", "lineages_change", "old_issuer", "removing",
)  # fmt: skip
UNATTENDED = ("notify", "renewal", "unattended")
ISSUING = ("adopt", "bad_ca", "before", "compromised", "killed", "rehearse", "renewal", "upgrade")

SUBJECTS: dict[str, Sequence[str]] = {
    "certsync/alerts.py": UNATTENDED,
    "certsync/alt_svc.py": ("through",),
    "certsync/caa.py": ("changing", "old_issuer"),
    "certsync/canary.py": ISSUING,
    "certsync/certbot.py": ("adopt",),
    "certsync/commands/add_backend.py": CHANGING,
    "certsync/commands/adopt.py": ("adopt",),
    "certsync/commands/afterwards.py": UNATTENDED,
    "certsync/commands/check*.py": ("before", "variants"),
    "certsync/commands/compromised.py": CHANGING,
    "certsync/commands/enroll.py": CHANGING,
    "certsync/commands/init.py": ("installed",),
    "certsync/commands/leave.py": ("changing", "cut_off"),
    "certsync/commands/notify.py": ("notify",),
    "certsync/commands/passthrough.py": ("expired", "road", "variants"),
    "certsync/commands/promote.py": CHANGING,
    "certsync/commands/rehearse*.py": ("rehearse",),
    "certsync/commands/remove_backend.py": CHANGING,
    "certsync/commands/resign.py": CHANGING,
    "certsync/commands/rollback.py": ("renewal", "compromised"),
    "certsync/commands/rules.py": ("somebody_elses",),
    "certsync/commands/take_over.py": ("adopt",),
    "certsync/commands/tickets.py": ("sessions", "through"),
    "certsync/compromise.py": CHANGING,
    "certsync/cut_off.py": ("through", "somebody_elses"),
    "certsync/dns.py": ("before", "compromised"),
    "certsync/forwarding.py": ("somebody_elses",),
    "certsync/heartbeat.py": UNATTENDED,
    "certsync/issuance/*": ISSUING,
    "certsync/keyring.py": ("sessions",),
    "certsync/knock.py": ("through", "two_balancers"),
    "certsync/metrics.py": UNATTENDED,
    "certsync/notif*": UNATTENDED,
    "certsync/registration.py": ISSUING,
    "certsync/rehearsal.py": ("rehearse",),
    "certsync/resumption.py": ("sessions",),
    "certsync/revocation.py": ("compromised", "renewal"),
    "certsync/succession.py": CHANGING,
    "certsync/textfile.py": UNATTENDED,
    "certsync/tickets.py": ("sessions",),
    "certsync/tries.py": ("bad_ca", "before"),
    "certsync/vrrp.py": ("two_balancers",),
    "deploy/keepalived.py": ("two_balancers",),
    "deploy/leave.py": ("changing", "cut_off"),
    "deploy/remove.py": CHANGING,
    "deploy/renewal.py": ("unattended", "renewal"),
    "lab/cable.py": ("far_away", "lab"),
    "lab/lab": ("lab",),
    "lab/relay.py": ("far_away", "lab"),
    "templates/keepalived/*": ("two_balancers",),
    "templates/nginx/lb.html.j2": ("road", "browser"),
    "templates/nginx/tickets.conf.j2": ("sessions",),
    "templates/renewal/*": ("unattended", "renewal"),
    "tests/e2e/browser.py": ("browser",),
    "tests/e2e/faulty_ca.py": ("bad_ca",),
    "tests/e2e/managed.py": ("killed_deploy",),
    "tests/e2e/outage.py": ("outages", "two_balancers"),
    "tests/e2e/sessions.py": ("sessions", "through"),
    "tests/sslyze-requirements.*": ("tls_profile",),
}
"""Pattern of a file's path to the modules, without their `test_`, that a change of it can touch."""

BROAD = ("expired", "hostile", "load", "lineages", "pyinfra_door")
"""Modules that no single file is named for: whatever is not named above touches them."""

LONGEST = (
    "bad_ca", "changing", "removing", "old_issuer", "cut_off", "expired", "lineages", "compromised",
    "outages", "renewal", "two_balancers", "through", "variants", "before", "road", "adopt",
    "hostile", "unattended", "joining", "sessions", "lineages_change", "notify",
)  # fmt: skip
"""The modules that take longest, the longest first: they begin first, so that none is left alone
at the end. The others follow in the order of their names."""


def modules() -> list[str]:
    """Return all end-to-end modules, without their `test_`."""
    return sorted(path.stem.removeprefix("test_") for path in HERE.glob("test_*.py"))


def turn(module: str) -> int:
    """Return when it is a module's turn: the lowest is first, and many have the same."""
    return LONGEST.index(module) if module in LONGEST else len(LONGEST)


def touched(paths: Iterable[str]) -> list[str]:
    """Return the modules that a change of these files can touch; paths are the checkout's."""
    found = set[str]()
    for path in paths:
        found |= _touched(path)
    return sorted(found & {*modules()})


def _touched(path: str) -> set[str]:
    if path.startswith("tests/e2e/test_"):
        return {Path(path).stem.removeprefix("test_")}
    named = [names for pattern, names in SUBJECTS.items() if fnmatchcase(path, pattern)]
    if named:
        return {name for names in named for name in names}
    return set() if any(fnmatchcase(path, each) for each in NOTHING) else {*modules()}


def changed(base: str) -> list[str]:
    """Return the paths of the files that differ from a commit, new ones included."""

    def git(*words: str) -> list[str]:
        done = subprocess.run(
            ["git", *words], cwd=CHECKOUT, capture_output=True, text=True, check=True, timeout=30
        )
        return done.stdout.splitlines()

    return sorted({*git("diff", "--name-only", base), *git("ls-files", "-o", "--exclude-standard")})


if __name__ == "__main__":
    print(*(f"tests/e2e/test_{name}.py" for name in touched(changed(sys.argv[1]))))

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
    "changing", "compromised", "interrupted", "joining", "lineages_change", "old_issuer",
    "removing",
)  # fmt: skip
UNATTENDED = ("notify", "renewal", "unattended")
ISSUING = ("adopt", "bad_ca", "before", "compromised", "killed", "rehearse", "renewal", "upgrade")

SUBJECTS: dict[str, Sequence[str]] = {
    "certsync/issuer/monitoring/alerts.py": UNATTENDED,
    "certsync/operator/watching/alt_svc.py": ("through",),
    "certsync/model/caa.py": ("before",),
    "certsync/operator/hosts/caa.py": ("before",),
    "certsync/system/caa.py": ("before", "changing", "old_issuer"),
    "certsync/operator/hosts/admission.py": ("awkward",),
    "certsync/operator/hosts/between.py": ("awkward", "before"),
    "certsync/programs/admits.sh": ("awkward",),
    "certsync/programs/reaches.sh": ("awkward", "before"),
    "certsync/issuer/canary.py": ISSUING,
    "certsync/model/certbot.py": ("adopt",),
    "certsync/operator/commands/add_backend.py": CHANGING,
    "certsync/operator/commands/adopt.py": ("adopt",),
    "certsync/issuer/monitoring/afterwards.py": UNATTENDED,
    "certsync/operator/commands/check*.py": ("before", "variants"),
    "certsync/issuer/replacement.py": CHANGING,
    "certsync/issuer/commands/register.py": CHANGING,
    "certsync/operator/commands/init.py": ("installed",),
    "certsync/operator/commands/leave.py": ("changing", "interrupted"),
    "certsync/issuer/commands/notify.py": ("notify",),
    "certsync/operator/commands/passthrough.py": ("expired", "road", "variants"),
    "certsync/operator/commands/promote.py": CHANGING,
    "certsync/*/commands/rehearse*.py": ("rehearse",),
    "certsync/operator/commands/remove_backend.py": CHANGING,
    "certsync/issuer/commands/close_account.py": CHANGING,
    "certsync/issuer/commands/rollback.py": ("renewal", "compromised"),
    "certsync/operator/balancer/managed/*": ("managed",),
    "certsync/operator/balancer/rules.py": ("managed", "somebody_elses"),
    "certsync/issuer/commands/take_over.py": ("adopt",),
    "certsync/issuer/tickets/share.py": ("sessions", "through"),
    "certsync/issuer/compromise.py": CHANGING,
    "certsync/operator/watching/proxy_protocol_check.py": ("through", "somebody_elses"),
    "certsync/system/dns.py": ("before", "compromised"),
    "certsync/operator/balancer/provider_rules.py": ("managed", "somebody_elses"),
    "certsync/issuer/monitoring/heartbeat.py": UNATTENDED,
    "certsync/issuer/ca/issuance/*": ISSUING,
    "certsync/issuer/tickets/keyring.py": ("sessions",),
    "certsync/programs/proxy_port_check.py": ("through", "two_balancers"),
    "certsync/issuer/monitoring/prometheus.py": UNATTENDED,
    "certsync/issuer/monitoring/notif*": UNATTENDED,
    "certsync/issuer/ca/registration.py": ISSUING,
    "certsync/model/rehearsal.py": ("rehearse",),
    "certsync/issuer/tickets/resumption.py": ("sessions",),
    "certsync/issuer/ca/crl.py": ("compromised", "renewal"),
    "certsync/operator/deployment/leaving.py": CHANGING,
    "certsync/operator/deployment/promotion.py": CHANGING,
    "certsync/operator/deployment/removal.py": CHANGING,
    "certsync/operator/deployment/succession.py": CHANGING,
    "certsync/issuer/monitoring/textfile.py": UNATTENDED,
    "certsync/issuer/tickets/decide.py": ("sessions",),
    "certsync/issuer/backoff.py": ("bad_ca", "before"),
    "certsync/operator/balancer/vrrp.py": ("two_balancers",),
    "certsync/operator/deployment/attached.py": ("managed",),
    "certsync/operator/watching/load_balancer.py": ("managed",),
    "deploy/keepalived.py": ("two_balancers",),
    "deploy/leave.py": ("changing", "interrupted"),
    "deploy/remove.py": CHANGING,
    "deploy/renewal.py": ("unattended", "renewal"),
    "lab/cable.py": ("far_away", "lab"),
    "lab/lab": ("lab",),
    "lab/relay.py": ("far_away", "lab"),
    "templates/keepalived/*": ("two_balancers",),
    "templates/nginx/lb.html.j2": ("road", "browser"),
    "templates/nginx/tickets.conf.j2": ("sessions",),
    "templates/renewal/*": ("unattended", "renewal"),
    "tests/doubles/*": ("managed",),
    "tests/e2e/behind.py": ("managed",),
    "tests/e2e/browser.py": ("browser",),
    "tests/e2e/cloud*.py": ("managed",),
    "tests/e2e/faulty_ca.py": ("bad_ca",),
    "tests/e2e/inside.py": ("managed",),
    "tests/e2e/managed.py": ("killed_deploy",),
    "tests/e2e/outage.py": ("outages", "two_balancers"),
    "tests/e2e/provider_haproxy.py": ("managed",),
    "tests/e2e/segments.py": ("tls_profile",),
    "tests/e2e/sessions.py": ("sessions", "through"),
    "tests/octavia/running.py": ("managed",),
    "tests/octavia/server.py": ("managed",),
    "tests/sslyze-requirements.*": ("tls_profile",),
}
"""Pattern of a file's path to the modules, without their `test_`, that a change of it can touch."""

BROAD = (
    "expired", "identity", "slow", "hostile", "load", "lineages", "pyinfra_door", "ubuntu",
)  # fmt: skip
"""Modules that no single file is named for: whatever is not named above touches them."""

LONGEST = (
    "managed", "bad_ca", "changing", "removing", "old_issuer", "interrupted", "expired", "lineages",
    "compromised", "outages", "renewal", "two_balancers", "through", "variants", "before", "road",
    "adopt", "awkward", "hostile", "unattended", "joining", "sessions", "lineages_change", "notify",
    "ubuntu",
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

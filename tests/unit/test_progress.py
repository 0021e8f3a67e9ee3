"""What a person sees of a run."""

from __future__ import annotations

from certsync.progress import changes_announced

TABLE = """\
--> Detected changes:
    Operation                                Change                       Conditional Change
    Phase 1 of 6: packages                   -                            -
    Backends: packages | Install nginx       2 (backend-01, backend-02)   -
    Balancers: packages | Install HAProxy    -                            -
    Phase 2 of 6: nginx on every backend     -                            -
    Backends: nginx | Test page              -                            -
    Phase 3 of 6: the way                    -                            -
    Balancers: port 80 | systemd reads it    -                            1 (balancer)

    Detected changes may not include every change pyinfra will execute.
"""


def test_a_dry_run_tells_what_would_change_on_which_host_and_nothing_else() -> None:
    assert changes_announced(TABLE.splitlines()) == [
        "1 of 6: packages",
        "    Install nginx: backend-01, backend-02",
        "3 of 6: the way",
        "    systemd reads it, if what comes before it changes: balancer",
    ]


def test_a_dry_run_on_a_finished_fleet_says_so() -> None:
    finished = [line for line in TABLE.splitlines() if "(" not in line]
    assert changes_announced(finished) == ["nothing would be changed"]

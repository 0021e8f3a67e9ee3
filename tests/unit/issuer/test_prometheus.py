"""What a Prometheus server is given to read, and that it is written whole or not at all."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

from certsync.issuer.monitoring import textfile
from certsync.issuer.monitoring.prometheus import HELP, Readings, text
from certsync.model.proof import Proof, Verdict
from tests.unit import texts
from tests.unit.fake_fleet import NAME, NOW

END = NOW + timedelta(days=60, hours=12)
GOOD = Proof("backend-01", Verdict.IN_SYNC, "0007", "ab" * 32, END.isoformat(), "")
AWAY = Proof("backend-02", Verdict.UNREACHABLE, "", "", "", "it does not answer")
FULL = Readings(
    NAME, NOW, (GOOD, AWAY), 7, NOW, NOW - timedelta(hours=1), 75, 2, NOW + timedelta(days=30), True
)


def samples(readings: Readings) -> dict[str, str]:
    """Return the samples, metric and labels without `certsync_` to value."""
    lines = [line for line in text(readings).splitlines() if not line.startswith("#")]
    return dict(line.removeprefix("certsync_").rsplit(" ", 1) for line in lines)


def test_all_that_is_known_is_written() -> None:
    assert text(FULL) == texts.kept("metrics", text(FULL))
    assert (
        samples(FULL)[f'certificate_days_left{{lineage="{NAME}",backend="backend-01"}}'] == "60.5"
    )


def test_what_is_not_known_is_not_written_with_a_number_that_is_wrong() -> None:
    assert samples(Readings(NAME, NOW, (AWAY,))) == {
        f'backend_in_sync{{lineage="{NAME}",backend="backend-02"}}': "0",
        f'failed_tries{{lineage="{NAME}"}}': "0",
    }


def test_a_backend_that_serves_another_certificate_of_ours_shows_that_ones_end() -> None:
    older = Proof("a", Verdict.BEHIND, "0006", "cd" * 32, (NOW - END + NOW).isoformat(), "older")
    shown = samples(Readings(NAME, NOW, (older,), 7))
    assert shown[f'certificate_days_left{{lineage="{NAME}",backend="a"}}'] == "-60.5"
    assert shown[f'backend_in_sync{{lineage="{NAME}",backend="a"}}'] == "0"


def test_several_lineages_share_one_heading_and_what_is_said_of_the_run() -> None:
    other = Readings("shop.example.net", NOW, (), 3, NOW)
    lines = text(FULL, other).splitlines()
    assert lines.count("# TYPE certsync_generation gauge") == 1
    assert 'certsync_generation{lineage="shop.example.net"} 3' in lines
    assert len([line for line in lines if line.startswith("certsync_last_run_timestamp")]) == 1


def test_every_metric_has_its_help_and_its_type_in_front() -> None:
    lines = text(FULL).splitlines()
    for name in HELP:
        at = lines.index(f"# HELP certsync_{name} {HELP[name]}")
        assert lines[at + 1] == f"# TYPE certsync_{name} gauge"
        assert lines[at + 2].startswith(f"certsync_{name}")
    assert len([line for line in lines if line.startswith("# ")]) == 2 * len(HELP)


def test_every_line_is_of_the_exposition_format_and_ends() -> None:
    label = r'[a-z]+="(?:[^"\\\n]|\\["\\n])*"'
    sample = re.compile(rf"[a-z_]+(\{{{label}(,{label})*\}})? -?[0-9]+(\.[0-9]+)?\n")
    for line in text(FULL).splitlines(keepends=True):
        assert line.startswith("# ") or sample.fullmatch(line), line


def test_what_means_something_within_a_label_is_escaped() -> None:
    shown = text(Readings('a"b\\c\nd', NOW, generation=1))
    assert 'certsync_generation{lineage="a\\"b\\\\c\\nd"} 1\n' in shown


# The file


def test_the_file_is_replaced_whole_and_for_everybody_to_read(tmp_path: Path) -> None:
    for content in ("a 1\n", "a 2\n"):
        assert textfile.write(str(tmp_path), content) == ""
        assert (tmp_path / "certsync.prom").read_text() == content
    assert (tmp_path / "certsync.prom").stat().st_mode & 0o777 == 0o644
    assert [path.name for path in tmp_path.iterdir()] == ["certsync.prom"]


def test_a_folder_that_is_not_there_is_told_and_not_made(tmp_path: Path) -> None:
    folder = tmp_path / "node-exporter"
    assert textfile.write(str(folder), "a 1\n") == (
        f"{folder} does not exist, so no metrics are written: "
        "install prometheus-node-exporter, or set the folder that it reads under [metrics]"
    )
    assert not folder.exists()


@pytest.mark.parametrize("name", ["certsync.prom"])
def test_a_file_that_cannot_be_replaced_is_told_and_ends_no_run(tmp_path: Path, name: str) -> None:
    (tmp_path / name / "inside").mkdir(parents=True)
    assert textfile.write(str(tmp_path), "a 1\n") == (
        f"{tmp_path}/certsync.prom cannot be written: Is a directory"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["certsync.prom"]

"""The manual page is what the commands' help says, and reads as roff."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import click

from certsync import __version__
from certsync.main import cli
from certsync.operator import manual

COMMITTED = Path(__file__).parent.parent.parent.parent / "docs/certsync.1"
MACROS = {".TH", ".SH", ".SS", ".PP", ".TP", ".B", ".I", ".BR", ".nf", ".fi"}
ESCAPES = re.compile(r"\\(?:f[BIR]|e|-|&|\(aq)")


def test_the_committed_page_is_the_one_that_the_commands_make() -> None:
    told = "certsync manual > docs/certsync.1 writes it anew"
    assert COMMITTED.read_text() == manual.page(cli, __version__), told


def test_every_line_is_text_or_one_of_few_macros_and_every_escape_is_known() -> None:
    unwrapped = False
    for line in COMMITTED.read_text().splitlines():
        if line.startswith('.\\"'):
            continue
        word = line.split()[0] if line else ""
        assert not line.startswith((".", "'")) or word in MACROS, line
        assert "\\" not in ESCAPES.sub("", line), line
        assert line or unwrapped, "an empty line outside of .nf and .fi"
        assert word != ".nf" or not unwrapped
        unwrapped = word == ".nf" or (unwrapped and word != ".fi")
    assert not unwrapped


def test_groff_has_no_warning_where_it_is_there() -> None:
    if shutil.which("groff") is None:
        return
    argv = ["groff", "-man", "-ww", "-Tutf8", str(COMMITTED)]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    shown = re.sub(r"\x1b\[[0-9;]*m|.\x08", "", done.stdout)
    assert "certsync deploy FLEET [OPTION]..." in shown


def test_every_public_command_and_option_is_on_it_and_no_hidden_one() -> None:
    text = COMMITTED.read_text().replace("\\-", "-")
    for name, command in cli.commands.items():
        assert (f'.SS "certsync {name}"' in text) is not command.hidden
        for option in command.params:
            if isinstance(option, click.Option) and not command.hidden and not option.hidden:
                assert option.opts[0] in text
    assert "--lock-token" not in text


def test_text_that_roff_would_take_for_a_request_is_printed_as_it_stands() -> None:
    assert manual.escaped(".x it's a-b \\n") == "\\&.x it\\(aqs a\\-b \\en"

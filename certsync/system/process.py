"""The edge to other programs: subprocess, and hardly anywhere else in certsync.

What a program prints may be another machine's words: it is bounded, and printable where it is told.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

from certsync.model.errors import HostError

MOST_SAID = 4 * 1024 * 1024
"""Bytes that are read of what a program prints: on the other end may be anybody by now."""

LONGEST_ANSWER = 256 * 1024
"""Bytes of one line in a conversation."""


@dataclass(frozen=True)
class Completed:
    """A program that has ended."""

    status: int
    stdout: str
    stderr: str
    noise: str = ""
    """What a login shell printed before it began."""

    @property
    def error_summary(self) -> str:
        """The end of what it printed, standard error first."""
        lines = (self.stderr.strip() or self.stdout.strip()).splitlines()
        return printable("; ".join(line.strip() for line in lines[-3:])[-500:])


def printable(text: str) -> str:
    """Return another machine's words as they can stand in a log or a terminal, and not too many."""
    return "".join(each if each.isprintable() else "?" for each in text[:500])


def _start(argv: Sequence[str], stdin: int, user: str | None) -> subprocess.Popen[bytes]:
    drop = {} if user is None else {"user": user, "group": user, "extra_groups": []}
    try:
        process: subprocess.Popen[bytes] = subprocess.Popen(
            list(argv),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            # A group of its own, so that what it has started can be ended with it.
            start_new_session=True,
            **drop,  # type: ignore[call-overload]  # three keywords of one call
        )
    except FileNotFoundError:
        raise HostError(f"{argv[0]} is not installed on this machine") from None
    return process


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a program with all that it has started: rsync's ssh would outlive it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()


class OutputReader:
    """What a program prints, taken in as it comes: no more of it than is meant to be read."""

    def __init__(self, program: str, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self.out, self.err = bytearray(), bytearray()
        self._program = program
        self._selector = selectors.DefaultSelector()
        for stream, said in ((process.stdout, self.out), (process.stderr, self.err)):
            self._selector.register(stream, selectors.EVENT_READ, said)

    def listen(self, deadline: float, *, most: int = MOST_SAID) -> bool:
        """Take in what comes next, waiting until ``deadline`` of `time.monotonic`; False: no more.

        Raises:
            HostError: nothing has come, or what has come is more than ``most`` bytes.
        """
        if not self._selector.get_map():
            return False
        ready = self._selector.select(max(0, deadline - time.monotonic()))
        if not ready:
            raise TimeoutError
        for key, _ in ready:
            said = os.read(key.fd, 65536)
            key.data.extend(said)
            if not said:
                self._selector.unregister(key.fileobj)
        if max(len(self.out), len(self.err)) > most:
            raise HostError(f"{self._program} said more than {most} bytes")
        return True

    def close(self) -> None:
        """Listen no longer."""
        self._selector.close()


def run(
    argv: Sequence[str], *, input: str = "", seconds: float = 60, user: str | None = None
) -> Completed:
    """Run a program to its end, with no terminal; ``user`` drops root's rights first.

    Raises:
        HostError: it is not there, takes longer than ``seconds``, or prints without an end.
    """
    # A file in memory: however slowly it is read, there is nothing to wait for.
    with os.fdopen(os.memfd_create("input"), "wb") as file:
        file.write(input.encode())
        file.flush()
        file.seek(0)
        process = _start(argv, file.fileno(), user)
    deadline = time.monotonic() + seconds
    ear = OutputReader(argv[0], process)
    with process:
        try:
            while ear.listen(deadline):
                pass
            process.wait(max(0.1, deadline - time.monotonic()))
        except (TimeoutError, subprocess.TimeoutExpired):
            _kill(process)
            raise HostError(f"{argv[0]} took longer than {seconds:g} s") from None
        except BaseException:
            _kill(process)
            raise
        finally:
            ear.close()
    return Completed(process.returncode, _text(ear.out), _text(ear.err))


def _text(said: bytes | bytearray) -> str:
    return said.decode(errors="replace")


class Conversation:
    """A program that answers each line on its standard input with a line."""

    def __init__(self, argv: Sequence[str], *, user: str | None = None) -> None:
        """Start it; ``user`` drops root's rights first.

        Raises:
            HostError: it is not there.
        """
        self._program = argv[0]
        self._process = _start(argv, subprocess.PIPE, user)
        self._ear = OutputReader(argv[0], self._process)
        self._speaking = threading.Lock()

    def ask(self, line: str, seconds: float) -> str:
        """Say a line and return the answer without its end; empty: it has ended without one.

        Raises:
            HostError: no answer within ``seconds``, or one without an end. It has been ended then.
        """
        with self._speaking:
            try:
                self._say(line)
                return self._answer(time.monotonic() + seconds)
            except TimeoutError:
                self._process.terminate()
                raise HostError(f"{self._program} has not answered for {seconds:g} s") from None
            except HostError:
                self._process.terminate()
                raise

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{line}\n".encode())
        except (BrokenPipeError, ValueError):
            # It has ended, or was ended: what it has printed until then says why.
            return

    def _answer(self, deadline: float) -> str:
        heard = self._ear.out
        while b"\n" not in heard and self._ear.listen(deadline, most=LONGEST_ANSWER):
            pass
        answer, found, rest = heard.partition(b"\n")
        heard[:] = rest
        return _text(answer) if found else ""

    def end(self, seconds: float = 5) -> Completed:
        """Close its standard input, and return how it ends; stopped if it does not.

        One that is still asked something, by another thread, is told to end at once.
        """
        self.close_stdin()
        if self._speaking.locked():
            self._process.terminate()
        with self._speaking, self._process:
            deadline = time.monotonic() + seconds
            try:
                while self._ear.listen(deadline):
                    pass
                self._process.wait(seconds)
            except (TimeoutError, subprocess.TimeoutExpired, HostError):
                self._stop()
            self._ear.close()
        return Completed(self._process.returncode, _text(self._ear.out), _text(self._ear.err))

    def _stop(self) -> None:
        # Not killed at once: ssh removes its socket on the way out.
        self._process.terminate()
        try:
            self._process.wait(1)
        except subprocess.TimeoutExpired:
            _kill(self._process)

    def close_stdin(self) -> None:
        """Close its standard input, and do not wait."""
        assert self._process.stdin is not None
        self._process.stdin.close()


class Child:
    """A program that goes on while we do, with a line of its output to wait for."""

    def __init__(self, argv: Sequence[str]) -> None:
        """Start it, with its standard input held open until `end`."""
        self._process = subprocess.Popen(
            list(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        # A full pipe would keep it from ever answering.
        self._errors = ""
        self._drain = threading.Thread(target=self._hear, args=[self._process.stderr], daemon=True)
        self._drain.start()
        # `communicate` would read it too.
        self._process.stderr = None

    def _hear(self, stderr: IO[str]) -> None:
        """Take in what it prints on standard error, and keep the end of it."""
        with stderr:
            while said := os.read(stderr.fileno(), 65536):
                self._errors = (self._errors + _text(said))[-LONGEST_ANSWER:]

    def line(self, seconds: float) -> str:
        """Return the next line it prints; empty at its end.

        It is killed where that takes longer than ``seconds``.
        """
        assert self._process.stdout is not None
        watch = threading.Timer(seconds, self._process.kill)
        watch.start()
        try:
            return self._process.stdout.readline(LONGEST_ANSWER)
        finally:
            watch.cancel()

    def end(self, seconds: float = 30) -> Completed:
        """Close its standard input, and return how it ends; killed if it does not in time."""
        try:
            stdout, _ = self._process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            stdout = ""
            # What it has started may hold its outputs open for longer.
            with contextlib.suppress(subprocess.TimeoutExpired):
                stdout, _ = self._process.communicate(timeout=5)
        self._drain.join(timeout=5)
        return Completed(self._process.returncode, stdout, self._errors)

    def stop(self) -> None:
        """End it at once; killed if it does not heed that."""
        self._process.terminate()
        self.end(5)


def follow(
    argv: Sequence[str], *, cwd: str, events: int, environment: dict[str, str]
) -> subprocess.Popen[str]:
    """Start a long child that writes events to the file descriptor ``events``.

    What it is to be told later goes to its standard input.
    """
    return subprocess.Popen(
        list(argv),
        cwd=cwd,
        pass_fds=(events,),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, **environment},
    )


def end(child: subprocess.Popen[str], seconds: float = 30) -> None:
    """End a child that `follow` has started; killed if it has not ended after ``seconds``."""
    child.terminate()
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()

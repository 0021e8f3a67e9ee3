"""Running other programs: almost the only place in certsync that uses subprocess.

A program's output may come from another machine: it is limited, and made printable in messages.
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
from certsync.system.environment import without_credentials

MAX_OUTPUT = 4 * 1024 * 1024
"""Bytes read of a program's output: the other end may be compromised."""

LONGEST_ANSWER = 256 * 1024
"""Bytes of one line in a conversation."""


@dataclass(frozen=True)
class Completed:
    """A program that has ended."""

    status: int
    stdout: str
    stderr: str
    noise: str = ""
    """What a login shell printed before the program began."""

    @property
    def error_summary(self) -> str:
        """The end of its output, preferably of standard error."""
        lines = (self.stderr.strip() or self.stdout.strip()).splitlines()
        return printable("; ".join(line.strip() for line in lines[-3:])[-500:])


def printable(text: str) -> str:
    """Return another machine's text, shortened and safe for logs and terminals."""
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
            # A process group of its own, so that its children can be killed with it.
            start_new_session=True,
            env=without_credentials(),
            **drop,  # type: ignore[call-overload]  # three keywords of one call
        )
    except FileNotFoundError:
        raise HostError(f"{argv[0]} is not installed on this machine") from None
    return process


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a program and its children: rsync's ssh would outlive it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()


class OutputReader:
    """Reads a program's output as it comes, up to a limit."""

    def __init__(self, program: str, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self.out, self.err = bytearray(), bytearray()
        self._program = program
        self._selector = selectors.DefaultSelector()
        for stream, output in ((process.stdout, self.out), (process.stderr, self.err)):
            self._selector.register(stream, selectors.EVENT_READ, output)

    def read(self, deadline: float, *, most: int = MAX_OUTPUT) -> bool:
        """Read what comes next, until ``deadline`` of `time.monotonic`; False: output has ended.

        Raises:
            TimeoutError: nothing came in time.
            HostError: the output exceeds ``most`` bytes.
        """
        if not self._selector.get_map():
            return False
        ready = self._selector.select(max(0, deadline - time.monotonic()))
        if not ready:
            raise TimeoutError
        for key, _ in ready:
            output = os.read(key.fd, 65536)
            key.data.extend(output)
            if not output:
                self._selector.unregister(key.fileobj)
        if max(len(self.out), len(self.err)) > most:
            raise HostError(f"{self._program} printed more than {most} bytes")
        return True

    def close(self) -> None:
        """Release its resources."""
        self._selector.close()


def run(
    argv: Sequence[str], *, input: str = "", seconds: float = 60, user: str | None = None
) -> Completed:
    """Run a program to its end, without a terminal; ``user`` drops root's rights first.

    Raises:
        HostError: it is not installed, takes longer than ``seconds``, or prints too much.
    """
    # A file in memory: however slowly it is read, writing it never blocks.
    with os.fdopen(os.memfd_create("input"), "wb") as file:
        file.write(input.encode())
        file.flush()
        file.seek(0)
        process = _start(argv, file.fileno(), user)
    deadline = time.monotonic() + seconds
    reader = OutputReader(argv[0], process)
    with process:
        try:
            while reader.read(deadline):
                pass
            process.wait(max(0.1, deadline - time.monotonic()))
        except (TimeoutError, subprocess.TimeoutExpired):
            _kill(process)
            raise HostError(f"{argv[0]} took longer than {seconds:g} s") from None
        except BaseException:
            _kill(process)
            raise
        finally:
            reader.close()
    return Completed(process.returncode, _text(reader.out), _text(reader.err))


def _text(output: bytes | bytearray) -> str:
    return output.decode(errors="replace")


class Conversation:
    """A program that answers each line on its standard input with one line."""

    def __init__(self, argv: Sequence[str], *, user: str | None = None) -> None:
        """Start it; ``user`` drops root's rights first.

        Raises:
            HostError: it is not installed.
        """
        self._program = argv[0]
        self._process = _start(argv, subprocess.PIPE, user)
        self._reader = OutputReader(argv[0], self._process)
        self._asking = threading.Lock()

    def ask(self, line: str, seconds: float) -> str:
        """Send a line and return the answer without its newline; empty: it ended without one.

        Raises:
            HostError: no answer within ``seconds``, or one that is too long; it is terminated then.
        """
        with self._asking:
            try:
                self._send(line)
                return self._answer(time.monotonic() + seconds)
            except TimeoutError:
                self._process.terminate()
                raise HostError(f"{self._program} has not answered for {seconds:g} s") from None
            except HostError:
                self._process.terminate()
                raise

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{line}\n".encode())
        except (BrokenPipeError, ValueError):
            # It has ended: what it printed until then says why.
            return

    def _answer(self, deadline: float) -> str:
        output = self._reader.out
        while b"\n" not in output and self._reader.read(deadline, most=LONGEST_ANSWER):
            pass
        answer, found, rest = output.partition(b"\n")
        output[:] = rest
        return _text(answer) if found else ""

    def end(self, seconds: float = 5) -> Completed:
        """Close its standard input, and return how it ends; it is stopped if it does not end.

        If another thread still waits for an answer, it is terminated at once.
        """
        self.close_stdin()
        if self._asking.locked():
            self._process.terminate()
        with self._asking, self._process:
            deadline = time.monotonic() + seconds
            try:
                while self._reader.read(deadline):
                    pass
                self._process.wait(seconds)
            except (TimeoutError, subprocess.TimeoutExpired, HostError):
                self._stop()
            self._reader.close()
        out, err = self._reader.out, self._reader.err
        return Completed(self._process.returncode, _text(out), _text(err))

    def _stop(self) -> None:
        # Not killed at once: ssh removes its socket when it exits.
        self._process.terminate()
        try:
            self._process.wait(1)
        except subprocess.TimeoutExpired:
            _kill(self._process)

    def close_stdin(self) -> None:
        """Close its standard input without waiting."""
        assert self._process.stdin is not None
        self._process.stdin.close()


class Child:
    """A program that runs beside us, with lines of output to wait for."""

    def __init__(self, argv: Sequence[str]) -> None:
        """Start it, with its standard input held open until `end`."""
        self._process = subprocess.Popen(
            list(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=without_credentials(),
        )
        self._unread = b""
        # A full pipe would block it.
        self._errors = ""
        self._drain = threading.Thread(
            target=self._collect, args=[self._process.stderr], daemon=True
        )
        self._drain.start()
        # `communicate` would read it too.
        self._process.stderr = None

    def _collect(self, stderr: IO[str]) -> None:
        """Read its standard error, and keep the end of it."""
        with stderr:
            while output := os.read(stderr.fileno(), 65536):
                self._errors = (self._errors + _text(output))[-LONGEST_ANSWER:]

    @property
    def runs(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def line(self, seconds: float) -> str:
        """Return the next line it prints; empty: it has ended.

        It is killed if that takes longer than ``seconds``; its children may live on.
        """
        assert self._process.stdout is not None
        end = time.monotonic() + seconds
        with selectors.DefaultSelector() as waiting:
            waiting.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._unread and len(self._unread) < LONGEST_ANSWER:
                if not waiting.select(max(0, end - time.monotonic())):
                    self._process.kill()
                    break
                if not (more := os.read(self._process.stdout.fileno(), 65536)):
                    break
                self._unread += more
        found, newline, rest = self._unread[:LONGEST_ANSWER].partition(b"\n")
        self._unread = rest + self._unread[LONGEST_ANSWER:]
        return _text(found + newline)

    def ask(self, line: str, seconds: float) -> str:
        """Send it a line, and return the next one that it prints: see `line`."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()
        except (OSError, ValueError):
            # It has ended, or `end` was called.
            return ""
        return self.line(seconds)

    def end(self, seconds: float = 30) -> Completed:
        """Close its standard input, and return how it ends; it is killed if it takes too long."""
        try:
            stdout, _ = self._process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            stdout = ""
            # Its children may hold its outputs open for longer.
            with contextlib.suppress(subprocess.TimeoutExpired):
                stdout, _ = self._process.communicate(timeout=5)
        self._drain.join(timeout=5)
        stdout = _text(self._unread) + stdout
        return Completed(self._process.returncode, stdout, self._errors)

    def stop(self) -> None:
        """Terminate it, and kill it if that does not help."""
        self._process.terminate()
        self.end(5)


def follow(
    argv: Sequence[str], *, cwd: str, events: int, environment: dict[str, str]
) -> subprocess.Popen[str]:
    """Start a long child that writes events to the file descriptor ``events``.

    Later input goes to its standard input.
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
        env={**without_credentials(), **environment},
    )


def end(child: subprocess.Popen[str], seconds: float = 30) -> None:
    """Terminate a child that `follow` started; kill it if it has not ended after ``seconds``."""
    child.terminate()
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()

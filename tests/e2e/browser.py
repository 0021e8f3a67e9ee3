"""A real browser, headless, spoken with over a pipe in its own protocol.

https://chromedevtools.github.io/devtools-protocol/ says what the commands mean.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS = 30.0


@dataclass(frozen=True)
class Page:
    """A page as the browser has it."""

    address: str
    secure: bool
    """Whether the browser calls it secure: it trusts the certificate and its names."""

    protocol: str
    title: str
    colour: str
    screenshot: bytes
    """PNG."""


def _moved_up(number: int) -> int:
    higher = fcntl.fcntl(number, fcntl.F_DUPFD, 20)
    os.close(number)
    return higher


class Browser:
    """Chromium with a profile of its own, that trusts one root."""

    def __init__(self, before: Sequence[str], home: Path, root: Path) -> None:
        self.home = home
        database = home / ".pki/nssdb"
        database.mkdir(parents=True)
        for words in (
            ["-N", "--empty-password"],
            ["-A", "-n", "the lab's", "-t", "C,,", "-i", str(root)],
        ):
            subprocess.run(["certutil", "-d", f"sql:{database}", *words], check=True, timeout=60)
        self.argv = [
            *before, "chromium", "--headless=new", "--no-sandbox", "--disable-gpu",
            "--no-first-run", "--disable-background-networking", "--disable-dev-shm-usage",
            "--window-size=1000,600", f"--user-data-dir={home / 'profile'}",
            "--remote-debugging-pipe",
        ]  # fmt: skip

    def __enter__(self) -> Browser:
        self.closing = ExitStack()
        # It reads commands from descriptor 3 and writes to 4.
        commands, self._to = os.pipe()
        self._from, answers = os.pipe()
        for number in (self._to, self._from):
            self.closing.callback(os.close, number)
        # The shell puts the two where the browser looks for them; not sh, which knows no numbers of
        # two digits. From above, so that the second is not what the first was put over.
        commands, answers = (_moved_up(number) for number in (commands, answers))
        shell = f'exec "$@" 3<&{commands} 4>&{answers}'
        with (self.home / "stderr").open("w") as stderr:
            self.process = subprocess.Popen(
                ["bash", "-c", shell, "bash", *self.argv],
                pass_fds=(commands, answers),
                env={**os.environ, "HOME": str(self.home)},
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )
        os.close(commands)
        os.close(answers)
        self._left, self._count = b"", 0
        self._events: list[dict[str, Any]] = []
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def open(self, address: str) -> Page:
        """Open a page in a window that shares nothing with those before, connections neither."""
        context = self._ask("Target.createBrowserContext")["browserContextId"]
        target = self._ask(
            "Target.createTarget", url="about:blank", browserContextId=context
        )["targetId"]  # fmt: skip
        session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network"):
            self._ask(f"{domain}.enable", session)
        self._events.clear()
        gone = self._ask("Page.navigate", session, url=address).get("errorText", "")
        if gone:
            raise AssertionError(f"{address}: {gone}")
        while not any(each["method"] == "Page.loadEventFired" for each in self._events):
            self._hear()
        answer = next(
            each["params"]["response"]
            for each in self._events
            if each["method"] == "Network.responseReceived"
        )
        page = Page(
            self._run(session, "location.href"),
            answer["securityState"] == "secure",
            answer["protocol"],
            self._run(session, "document.title"),
            self._run(session, "getComputedStyle(document.body).backgroundColor"),
            base64.b64decode(self._ask("Page.captureScreenshot", session)["data"]),
        )
        self._ask("Target.disposeBrowserContext", browserContextId=context)
        return page

    def _run(self, session: str, script: str) -> str:
        found = self._ask("Runtime.evaluate", session, expression=script)
        return str(found["result"]["value"])

    def _ask(self, method: str, session: str = "", **params: Any) -> dict[str, Any]:
        self._count += 1
        asked = {"id": self._count, "method": method, "params": params}
        if session:
            asked["sessionId"] = session
        os.write(self._to, json.dumps(asked).encode() + b"\0")
        while True:
            heard = self._hear()
            if heard.get("id") == self._count:
                if "error" in heard:
                    raise AssertionError(f"{method}: {heard['error']}")
                result: dict[str, Any] = heard["result"]
                return result

    def _hear(self) -> dict[str, Any]:
        """Return the next message, and keep it if it is an event."""
        while b"\0" not in self._left:
            part = os.read(self._from, 1 << 16)
            if not part:
                told = (self.home / "stderr").read_text()[-500:]
                raise AssertionError(f"the browser has ended: {told}")
            self._left += part
        message, _, self._left = self._left.partition(b"\0")
        heard: dict[str, Any] = json.loads(message)
        if "method" in heard:
            self._events.append(heard)
        return heard

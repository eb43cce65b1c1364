"""Debian's chromium, headless, driven over a pipe with the DevTools protocol: no port, no driver."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--remote-debugging-pipe",
]


def find() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


@dataclass
class Visit:
    """What a page did: every request it made, every console message and every exception."""

    requests: list[str] = field(default_factory=list)
    console: list[str] = field(default_factory=list)
    value: Any = None


class Browser:
    def __init__(self, to: int, back: int) -> None:
        self.to, self.back, self.buffer, self.number = to, back, b"", 0

    def send(self, method: str, session: str | None = None, **params: Any) -> int:
        self.number += 1
        message = {
            "id": self.number,
            "method": method,
            "params": params,
            **({"sessionId": session} if session else {}),
        }
        os.write(self.to, json.dumps(message).encode() + b"\0")
        return self.number

    def messages(self) -> Iterator[dict[str, Any]]:
        while True:
            while b"\0" not in self.buffer:
                chunk = os.read(self.back, 65536)
                if not chunk:
                    raise EOFError("the browser went away")
                self.buffer += chunk
            raw, self.buffer = self.buffer.split(b"\0", 1)
            yield json.loads(raw)

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        number = self.send(method, session, **params)
        for message in self.messages():
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]
        raise AssertionError

    def visit(self, page: Path, ask: str, dark: bool = False) -> Visit:
        """Open `page` in a new tab, wait for its load event, evaluate `ask`."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", session, features=scheme)
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable", session)
        seen = Visit()
        self.send("Page.navigate", session, url=page.as_uri())
        asked = None
        for message in self.messages():
            if message.get("sessionId") != session:
                continue
            self._note(message, seen)
            if message.get("method") == "Page.loadEventFired":
                asked = self.send("Runtime.evaluate", session, expression=ask, returnByValue=True)
            if asked is not None and message.get("id") == asked:
                seen.value = message["result"]["result"].get("value")
                return seen
        raise AssertionError

    @staticmethod
    def _note(message: dict[str, Any], seen: Visit) -> None:
        method, params = message.get("method"), message.get("params", {})
        if method == "Network.requestWillBeSent":
            seen.requests.append(params["request"]["url"])
        elif method == "Log.entryAdded":
            seen.console.append(f"{params['entry']['level']}: {params['entry']['text']}")
        elif method == "Runtime.consoleAPICalled":
            seen.console.append(f"{params['type']}: {params['args']}")
        elif method == "Runtime.exceptionThrown":
            seen.console.append(f"exception: {params['exceptionDetails']['text']}")


@contextmanager
def opened(binary: str, profile: Path) -> Iterator[Browser]:
    """A browser with an empty profile, ended on leaving."""
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()

    def wire() -> None:
        # The browser reads commands from descriptor 3 and answers on 4; copies first: 3 and 4 may be in use.
        a, b = os.dup(to_read), os.dup(from_write)
        os.dup2(a, 3)
        os.dup2(b, 4)

    command = [binary, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(
        command, preexec_fn=wire, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    os.close(to_read)
    os.close(from_write)
    try:
        yield Browser(to_write, from_read)
    finally:
        os.close(to_write)  # the browser ends when its pipe closes
        os.close(from_read)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

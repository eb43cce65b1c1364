"""A scripted OpenAI-compatible server on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

HALF = b"half"
"""An answer whose body breaks off, with the connection."""


@dataclass
class Script:
    """Answers in order: a string is the assistant's content, a tuple is (status, headers), a dict the message
    itself, bytes the raw body (`HALF`: half of one), a function is asked with the request. With `last` that
    answer is given for ever when the others are used up."""

    answers: list[Any] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    last: Any = None
    url: str = ""


def call(tool: str, **arguments: Any) -> dict[str, Any]:
    """A message that calls one tool."""
    function = {"name": tool, "arguments": json.dumps(arguments)}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": f"call-{tool}", "type": "function", "function": function}],
    }


def completion(message: Any) -> bytes:
    if not isinstance(message, dict):
        message = {"role": "assistant", "content": message}
    reason = "tool_calls" if message.get("tool_calls") else "stop"
    body = {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "scripted",
        "choices": [{"index": 0, "finish_reason": reason, "message": message}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    }
    return json.dumps(body).encode()


@pytest.fixture
def llm() -> Iterator[Script]:
    stamina = pytest.importorskip("stamina")
    script = Script()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            size = int(self.headers["Content-Length"])
            request = json.loads(self.rfile.read(size))
            script.requests.append(request)
            answer = script.answers.pop(0) if script.answers else script.last
            if callable(answer):
                answer = answer(request)
            status, headers = 200, {}
            if isinstance(answer, tuple):
                status, headers = answer
                body = b'{"error": {"message": "scripted"}}'
            elif answer == HALF:
                body = completion("cut")
            else:
                body = answer if isinstance(answer, bytes) else completion(answer)
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if answer == HALF:
                self.wfile.write(body[: len(body) // 2])
                self.close_connection = True
                return
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    script.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    with stamina.set_testing(True, attempts=3):
        yield script
    server.shutdown()
    server.server_close()
    thread.join()

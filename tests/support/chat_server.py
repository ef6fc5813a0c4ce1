"""A local HTTP server that imitates a chat API over a real socket, on its good days and on its bad ones."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Mood = Callable[[int, list[dict[str, str]]], "dict[str, Any] | str"]
"""(number of the request from 0, messages) -> the answer's text, or what to do instead of answering."""


class ChatServer:
    """`asked` are the messages of all requests; `most_at_once` the largest number it worked on at the same time."""

    def __init__(self, mood: Mood) -> None:
        self.mood, self.asked, self.keys = mood, list[list[dict[str, str]]](), list[str | None]()
        self.most_at_once, self._now, self._lock = 0, 0, threading.Lock()

    @contextmanager
    def running(self) -> Iterator[str]:
        """The base URL."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        chat = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with chat._lock:
                    number = len(chat.asked)
                    chat.asked.append(body["messages"])
                    chat.keys.append(self.headers.get("Authorization"))
                    chat._now += 1
                    chat.most_at_once = max(chat.most_at_once, chat._now)
                try:
                    chat.answer(self, chat.mood(number, body["messages"]))
                finally:
                    with chat._lock:
                        chat._now -= 1

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        return Handler

    def answer(self, handler: BaseHTTPRequestHandler, what: dict[str, Any] | str) -> None:
        if isinstance(what, str):
            what = {"text": what}
        time.sleep(what.get("sleep", 0))
        usage = {"prompt_tokens": 100, "completion_tokens": 10}
        content = {"choices": [{"message": {"role": "assistant", "content": what.get("text")}}], "usage": usage}
        body = what["body"] if "body" in what else json.dumps(content)
        sent = body.encode()
        handler.send_response(what.get("status", 200))
        handler.send_header("Content-Length", str(len(sent) + what.get("missing", 0)))
        handler.send_header("Connection", "close")
        for name, value in what.get("headers", {}).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(sent)
        handler.close_connection = True


def passages_in(messages: list[dict[str, str]]) -> int:
    """How many passages a request shows."""
    return sum(message["content"].startswith("Received passage") for message in messages)


def backwards(number: int, messages: list[dict[str, str]]) -> str:
    """A good day: the last passage first."""
    return " > ".join(f"[{i}]" for i in range(passages_in(messages), 0, -1))

"""A language model for tests: an HTTP server on this machine that gives scripted answers."""

import json
import threading
import time
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Scripted:
    """Answers each request with the next of ``answers``; a context manager.

    An answer is a text, or (status, body as bytes or JSON, headers), or "slow" or "cut" for a connection that fails.
    Once they are used up, the last is repeated. A function of the request may be given instead.
    """

    def __init__(self, answers: Iterable[Any] | Callable[[dict[str, Any]], Any]) -> None:
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self._answers = answers if callable(answers) else list(answers)

    def __enter__(self) -> "Scripted":
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                number = len(outer.requests)
                outer.requests.append(body)
                outer.headers.append(dict(self.headers))
                outer.paths.append(self.path)
                given = outer._answers
                answer = given(body) if callable(given) else given[min(number, len(given) - 1)]
                if answer == "cut":
                    self.close_connection = True
                    return
                if answer == "slow":
                    time.sleep(0.5)
                    return
                status, content, headers = (200, completion(answer), {}) if isinstance(answer, str) else answer
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(data))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._server.shutdown()
        self._server.server_close()


def completion(text: Any) -> dict[str, Any]:
    """A chat completion as endpoints give it."""
    return {
        "id": "chatcmpl-1", "object": "chat.completion", "model": "small",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }  # fmt: skip

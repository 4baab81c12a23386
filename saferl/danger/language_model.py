"""A language model behind an endpoint of OpenAI's form: chat completions, logged, and replayed from the log.

    export OPENAI_BASE_URL=http://localhost:8000/v1 OPENAI_MODEL=my-model OPENAI_API_KEY=...   # the key may be absent
    model = language_model_from_environment(log=Path("exchanges.jsonl"))
    text = model.complete([{"role": "user", "content": "..."}])

    with ReplayServer(Path("exchanges.jsonl")) as server:      # answers what was asked before as it was answered then
        model = LanguageModel(server.base_url, "my-model")

The log has a line of JSON for each try: time, URL, request, and the response or the error. The key is in none of them.
"""

import http.client
import json
import os
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

BASE_URL, KEY, MODEL = "OPENAI_BASE_URL", "OPENAI_API_KEY", "OPENAI_MODEL"  # environment variables
RETRIED = (408, 429, 500, 502, 503, 504)  # HTTP status
MOST_BYTES = 10_000_000  # of an answer
MASK = "***"

Message = Mapping[str, str]  # {"role": "system" | "user" | "assistant", "content": ...}


class LanguageModelError(OSError):
    """The model can't be asked or gave no usable answer: one line with the address, the reason and what to do."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The key is for the host that was named, and for no other."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


@dataclass(frozen=True)
class LanguageModel:
    """A model and how it is asked.

    Args:
        base_url: of the endpoint, ``http(s)://host[:port]/v1``; requests go to ``{base_url}/chat/completions``.
        model: name that the endpoint knows.
        key: sent as a bearer token; None sends none.
        temperature: of sampling.
        max_tokens: of an answer.
        timeout: s, without a byte from the endpoint.
        tries: requests in all where the connection fails or the endpoint is overloaded.
        pause: s before the second try, doubled before each further one.
        log: file that each try is appended to as a line of JSON; None keeps none.
    Raises: LanguageModelError for a URL or key that can't be used.
    """

    base_url: str
    model: str
    key: str | None = field(default=None, repr=False)
    temperature: float = 1.0
    max_tokens: int = 2048
    timeout: float = 120.0
    tries: int = 3
    pause: float = 1.0
    log: Path | None = None

    def __post_init__(self) -> None:
        parts = urllib.parse.urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            shown = urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
            raise LanguageModelError(
                f"{BASE_URL} must be http(s)://host[:port]/path without a user name or password; got {shown!r}."
            )
        if self.key is not None and not (self.key.isascii() and self.key.isprintable() and " " not in self.key):
            raise LanguageModelError(f"{KEY} holds a space or a character that a header can't carry; set it again.")

    def complete(self, messages: Sequence[Message], seed: int | None = None) -> str:
        """The text of the model's answer.

        Args:
            messages: the conversation so far.
            seed: sent along; endpoints that know it repeat their answers.
        Raises: LanguageModelError after the last try, or at once for an answer that another try won't mend.
        """
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [dict(message) for message in messages],
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
        }
        if seed is not None:
            body["seed"] = seed
        for number in range(self.tries):
            if number:
                time.sleep(self.pause * 2 ** (number - 1))
            answer, error, again = self._asked(body)
            self._write({"request": body, **({"response": answer} if error is None else {"error": error})})
            if error is None:
                return _content(answer)
            if not again:
                break
        tried = f" after {number + 1} tries" if number else ""
        raise LanguageModelError(f"language model at {self.base_url}{tried}: {error}")

    def _asked(self, body: Mapping[str, Any]) -> tuple[Any, str | None, bool]:
        """One try: the answer, or what went wrong and whether another try may help."""
        headers = {"Content-Type": "application/json"}
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key}"
        url = f"{self.base_url.rstrip('/')}/chat/completions"
        request = urllib.request.Request(url, json.dumps(body).encode(), headers, method="POST")
        try:
            with _OPENER.open(request, timeout=self.timeout) as response:
                data = response.read(MOST_BYTES + 1)
        except urllib.error.HTTPError as error:
            return None, self._refusal(error), error.code in RETRIED
        except (OSError, http.client.HTTPException) as error:  # URLError, timeouts and cut connections
            reason = getattr(error, "reason", None) or error
            return None, self._masked(f"no answer ({_line(reason) or type(error).__name__})."), True
        try:
            if len(data) > MOST_BYTES:
                raise ValueError("it is longer than 10 MB")
            answer = json.loads(data)
            _content(answer)
        except (ValueError, LookupError, TypeError) as error:
            return None, self._masked(f"the answer is no chat completion ({_line(error)}); check {BASE_URL}."), False
        return answer, None, False

    def _refusal(self, error: urllib.error.HTTPError) -> str:
        try:
            told = json.loads(error.read(100_000))["error"]
            reason = told["message"] if isinstance(told, dict) else told
        except (OSError, ValueError, LookupError, TypeError, http.client.HTTPException):
            reason = error.reason
        hints = {401: f"; check {KEY}", 403: f"; check {KEY}", 404: f"; check {BASE_URL} and {MODEL}"}
        return self._masked(f"HTTP {error.code}, {_line(reason).rstrip('.')}{hints.get(error.code, '')}.")

    def _masked(self, value: Any) -> Any:
        """Plain values with the key, should an endpoint repeat it, blotted out."""
        if not self.key:
            return value
        if isinstance(value, str):
            return value.replace(self.key, MASK)
        if isinstance(value, dict):
            return {self._masked(name): self._masked(each) for name, each in value.items()}
        return [self._masked(each) for each in value] if isinstance(value, list) else value

    def _write(self, entry: dict[str, Any]) -> None:
        if self.log is None:
            return
        head = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "url": self.base_url}
        line = json.dumps(self._masked({**head, **entry}), ensure_ascii=False)
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with self.log.open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")
        except OSError as error:
            raise LanguageModelError(f"{self.log}: the exchange can't be logged ({error.strerror}).") from error


def language_model_from_environment(log: Path | None = None, **settings: Any) -> LanguageModel:
    """The model of the variables OPENAI_BASE_URL and OPENAI_MODEL, with OPENAI_API_KEY where that is set.

    Args:
        log: as of ``LanguageModel``.
        settings: further arguments of it, temperature for one.
    Raises: LanguageModelError naming the variable that is not set, or can't be used.
    """
    missing = [name for name in (BASE_URL, MODEL) if not os.environ.get(name)]
    if missing:
        raise LanguageModelError(
            f"a language model needs the environment variable {' and '.join(missing)}: "
            f"{BASE_URL}=https://host/v1, {MODEL}=its name, and {KEY} if the endpoint wants a key."
        )
    key = os.environ.get(KEY) or None
    return LanguageModel(os.environ[BASE_URL], os.environ[MODEL], key, log=log, **settings)


class ReplayServer:
    """An endpoint on this machine that gives recorded answers: a context manager.

    A request gets the answer that the same request, word by word, got in the recording; where it was made several
    times, the answers come in their order. Any other request is refused with HTTP 404.

    Args:
        exchanges: a log of ``LanguageModel``, or exchanges like its lines, ``{"request": ..., "response": ...}``.
    Attributes:
        base_url: for ``LanguageModel``, once entered.
        refused: requests that were not in the recording.
    Raises: LanguageModelError for a log that can't be read, naming the line.
    """

    def __init__(self, exchanges: Path | Iterable[Mapping[str, Any]]) -> None:
        listed = _read_log(exchanges) if isinstance(exchanges, Path) else exchanges
        self._answers: dict[str, list[Any]] = {}
        for each in listed:
            if "response" in each:  # the others are tries that failed
                self._answers.setdefault(_key(each["request"]), []).append(each["response"])
        self.base_url = ""
        self.refused: list[Any] = []
        self._lock = threading.Lock()

    def __enter__(self) -> "ReplayServer":
        """Start; listens on a free port of 127.0.0.1."""
        answer: Callable[[Any], Any] = self._answer

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                found = answer(request)
                told = {"error": {"message": "this request is not in the recording"}} if found is None else found
                data = json.dumps(told).encode()
                self.send_response(404 if found is None else 200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: Any) -> None:
                """Nothing on stderr."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *exception: Any) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, request: Any) -> Any:
        with self._lock:
            answers = self._answers.get(_key(request), [])
            if answers:
                return answers.pop(0)
            self.refused.append(request)
            return None


def _read_log(path: Path) -> list[Any]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise LanguageModelError(f"{path}: no log to replay ({error.strerror}).") from error
    exchanges = []
    for number, line in enumerate(lines, 1):
        try:
            exchange = json.loads(line)
            exchange["request"]
        except (ValueError, LookupError, TypeError):
            raise LanguageModelError(f"{path}, line {number}: not an exchange with a language model.") from None
        exchanges.append(exchange)
    return exchanges


def _key(request: Any) -> str:
    return json.dumps(request, sort_keys=True)


def _content(answer: Any) -> str:
    content = answer["choices"][0]["message"]["content"]
    if not isinstance(content, str):
        raise TypeError(f"its content is {type(content).__name__}, not text")
    return content


def _line(thing: Any) -> str:
    """In one line, not too long."""
    return " ".join(str(thing).split())[:200]

"""A real HTTP server whose answers a test writes down, and documents shaped as the API's."""

import json
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import pytest

from assay.cli import main
from assay.client import AssayClient

DOCUMENTS = Path(__file__).with_name("documents")


@dataclass
class Received:
    """A request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Answer:
    """What to send back; ``None`` as the body closes the connection without an answer."""

    body: Any
    status: int = 200


@dataclass
class ScriptedServer:
    """Answers each (method, path) with its list of answers, the last one again and again."""

    url: str
    answers: dict[tuple[str, str], list[Answer]] = field(default_factory=dict)
    received: list[Received] = field(default_factory=list)

    def on(self, method: str, path: str, *answers: Answer) -> None:
        self.answers[method, path] = list(answers)

    def take(self, method: str, path: str) -> Answer:
        script = self.answers.get((method, path))
        if script is None:
            return Answer({"title": "Not found", "status": 404, "detail": f"no {path}"}, status=404)
        return script.pop(0) if len(script) > 1 else script[0]

    def calls(self, method: str, path: str) -> list[Received]:
        return [request for request in self.received if (request.method, request.path) == (method, path)]


def _handler(server: ScriptedServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            headers = {name.lower(): value for name, value in self.headers.items()}
            assert self.command is not None
            server.received.append(Received(self.command, parts.path, query, headers, body))
            answer = server.take(self.command, parts.path)
            if answer.body is None:
                self.close_connection = True
                return
            content = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
            self.send_response(answer.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = handle_any

        def log_message(self, *arguments: Any) -> None:
            """Nothing: the test's output is not for this."""

    return Handler


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    scripted = ScriptedServer(url="")
    http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(scripted))
    scripted.url = f"http://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield scripted
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.fixture
def client(server: ScriptedServer) -> Iterator[AssayClient]:
    with AssayClient(server.url, "secret-key", retry_delays_s=(0.01, 0.01)) as made:
        yield made


@pytest.fixture
def answer() -> type[Answer]:
    return Answer


@pytest.fixture
def document() -> Any:
    """``document("run")`` is the recorded document of that name."""

    def load(name: str) -> Any:
        return json.loads((DOCUMENTS / f"{name}.json").read_text())

    return load


class Outcome(NamedTuple):
    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def assay(
    server: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    """Runs the command in this process against the scripted server."""
    monkeypatch.setenv("ASSAY_URL", server.url)
    monkeypatch.setenv("ASSAY_API_KEY", "secret-key")
    monkeypatch.setenv("COLUMNS", "160")

    def run(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["assay", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        return Outcome(code=code, out=captured.out, err=captured.err)

    return run

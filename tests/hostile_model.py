"""A model behind an HTTP endpoint that answers with whatever text it was given, as models may."""

import contextlib
import json
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FAILS = "this one fails"
"""A prompt with these words is answered with an error whose message is the first text."""


@contextlib.contextmanager
def hostile_model(texts: Sequence[str]) -> Iterator[str]:
    """Completions in streams; one text after the other is the answer. Yields the endpoint's URL."""
    given = iter(range(1 << 30))
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Nothing is logged."""

        def do_GET(self) -> None:
            self._reply(200, {"object": "list", "data": [{"id": "hostile", "object": "model"}]})

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if FAILS in str(request["prompt"]):
                self._reply(500, {"error": {"code": 500, "type": "server_error", "message": texts[0]}})
                return
            with lock:
                text = texts[next(given) % len(texts)]
            choice = {
                "index": 0,
                "text": text,
                "token_ids": [1],
                "finish_reason": "stop",
                "stop_reason": None,
            }
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            events: list[dict[str, object]] = [{"choices": [choice]}, {"choices": [], "usage": usage}]
            body = "".join(f"data: {json.dumps({'model': 'hostile', **event})}\n\n" for event in events)
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            piece = f"{body}data: [DONE]\n\n".encode()
            self.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(piece), piece))

        def _reply(self, status: int, document: object) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(timeout=10)

"""A model server of a few lines: answers its health check once it has "loaded", asks for its key otherwise.

SMALL_LOAD_S: seconds until it listens. SMALL_EXIT: exit status to end with instead. SMALL_SAY: first line of
its output. SMALL_KEY: the key, if it is not on the command line.
"""

import argparse
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        key = os.environ.get("SMALL_KEY") or self.server.key  # type: ignore[attr-defined]
        allowed = self.path == "/health" or self.headers["Authorization"] == f"Bearer {key}"
        body = " ".join(sys.argv[1:]).encode() if allowed else b""
        self.send_response(200 if allowed else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Requests are not logged."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--api-key", default="")
    arguments, _ = parser.parse_known_args()
    print(os.environ.get("SMALL_SAY", "loading weights"), flush=True)
    time.sleep(float(os.environ.get("SMALL_LOAD_S", "0")))
    if "SMALL_EXIT" in os.environ:
        print("RuntimeError: no kernel image is available", file=sys.stderr, flush=True)
        sys.exit(int(os.environ["SMALL_EXIT"]))
    server = ThreadingHTTPServer((arguments.host, arguments.port), Handler)
    server.key = arguments.api_key  # type: ignore[attr-defined]
    server.serve_forever()


if __name__ == "__main__":
    main()

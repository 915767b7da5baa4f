"""The adapter's program hands its spans to a collector."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from assay_serving.adapter_process import exporting_traces


class Collector(BaseHTTPRequestHandler):
    received: list[tuple[str, bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.received.append((self.path, body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def collector() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    received: list[tuple[str, bytes]] = []
    server = HTTPServer(("127.0.0.1", 0), type("_", (Collector,), {"received": received}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", received
    server.shutdown()
    thread.join()
    server.server_close()


def test_spans_are_sent_before_the_program_ends(collector: tuple[str, list[tuple[str, bytes]]]) -> None:
    url, received = collector
    with exporting_traces(url, service="assay-adapter-cpu") as provider:
        assert provider is not None
        provider.get_tracer("test").start_span("ServingAdapter/Generate").end()
    ((path, body),) = received
    assert path == "/v1/traces"
    assert b"ServingAdapter/Generate" in body
    assert b"assay-adapter-cpu" in body


def test_without_a_collector_nothing_is_traced() -> None:
    with exporting_traces(None, service="assay-adapter-cpu") as provider:
        assert provider is None

"""The client against a real HTTP server: retries, references, uploads, refusals."""

import socket
from pathlib import Path
from typing import Any

import pytest

from assay.client import AssayClient
from assay.errors import (
    Conflict,
    NotFound,
    PlatformFailed,
    PlatformUnreachable,
    RequestRefused,
)
from assay.models import Dataset

RUN = "run_01kaqy3m5r0000000000000001"
DATASET = "ds_01kaqy3m5r0000000000000001"


def test_a_safe_call_is_repeated_until_it_is_answered(
    server: Any, client: AssayClient, answer: Any, document: Any
) -> None:
    unavailable = answer({"title": "Temporarily unavailable", "detail": "the store is away"}, status=503)
    server.on("GET", f"/v1/datasets/{DATASET}", answer(None), unavailable, answer(document("dataset")))
    dataset = client.datasets.get(DATASET)
    assert dataset.name == "questions"
    calls = server.calls("GET", f"/v1/datasets/{DATASET}")
    assert len(calls) == 3
    assert calls[0].headers["x-api-key"] == "secret-key"


def test_tries_end(server: Any, client: AssayClient, answer: Any) -> None:
    problem = {"detail": "the store is away", "request_id": "req_1"}
    server.on("GET", f"/v1/datasets/{DATASET}", answer(problem, status=503))
    with pytest.raises(PlatformFailed, match=r"the store is away \(request req_1\)"):
        client.datasets.get(DATASET)
    assert len(server.received) == 3


def test_a_creation_is_sent_once(server: Any, client: AssayClient, answer: Any) -> None:
    server.on("POST", "/v1/datasets", answer(None))
    with pytest.raises(PlatformUnreachable):
        client.datasets.create("questions")
    assert len(server.received) == 1


def test_the_start_of_a_run_is_repeated_under_one_key(
    server: Any, client: AssayClient, answer: Any, document: Any
) -> None:
    for name, path in (("artifact", "artifacts"), ("dataset", "datasets"), ("method", "methods")):
        server.on("GET", f"/v1/{path}", answer({"items": [document(name)], "next_cursor": None}))
    server.on("POST", "/v1/evaluations", answer(None), answer(document("run"), status=202))
    run = client.runs.start(
        artifact="base", dataset="questions", method="short-answers", options={"limit": 5}
    )
    assert run.id == RUN
    first, second = server.calls("POST", "/v1/evaluations")
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"] != ""
    assert first.json() == {
        "artifact_id": document("artifact")["id"],
        "dataset_id": DATASET,
        "method_id": document("method")["id"],
        "column_mapping": {},
        "options": {"limit": 5},
    }


def test_two_starts_have_two_keys(server: Any, client: AssayClient, answer: Any, document: Any) -> None:
    ids = {}
    for name, path in (("artifact", "artifacts"), ("dataset", "datasets"), ("method", "methods")):
        ids[name] = document(name)["id"]
        server.on("GET", f"/v1/{path}/{ids[name]}", answer(document(name)))
    server.on("POST", "/v1/evaluations", answer(document("run"), status=202))
    for _ in range(2):
        client.runs.start(**ids)
    first, second = server.calls("POST", "/v1/evaluations")
    assert first.headers["idempotency-key"] != second.headers["idempotency-key"]


def test_an_unknown_and_an_ambiguous_name(
    server: Any, client: AssayClient, answer: Any, document: Any
) -> None:
    server.on("GET", "/v1/datasets", answer({"items": [], "next_cursor": None}))
    with pytest.raises(NotFound, match="no dataset called 'question'"):
        client.datasets.get("question")
    run = document("run")
    other = {**run, "id": RUN[:-1] + "2"}
    server.on("GET", "/v1/evaluations", answer({"items": [run, other], "next_cursor": None}))
    with pytest.raises(RequestRefused, match=f"2 runs are called 'base-questions'.*{RUN}"):
        client.runs.get("base-questions")


def test_a_name_that_looks_like_an_id_is_a_name(
    server: Any, client: AssayClient, answer: Any, document: Any
) -> None:
    named = {**document("dataset"), "name": "ds_sums"}
    server.on("GET", "/v1/datasets", answer({"items": [named], "next_cursor": None}))
    assert client.datasets.get("ds_sums").id == DATASET
    assert server.received[0].query["name"] == "ds_sums"


def test_lists_follow_the_cursor(server: Any, client: AssayClient, answer: Any, document: Any) -> None:
    page = {"items": [document("dataset")] * 2, "next_cursor": "next"}
    server.on("GET", "/v1/datasets", answer(page), answer({**page, "next_cursor": None}))
    assert len(list(client.datasets.list())) == 4
    assert [request.query.get("cursor") for request in server.received] == [None, "next"]


def test_a_list_stops_at_its_limit(server: Any, client: AssayClient, answer: Any, document: Any) -> None:
    server.on("GET", "/v1/datasets", answer({"items": [document("dataset")] * 3, "next_cursor": "more"}))
    assert len(list(client.datasets.list(limit=3))) == 3
    assert len(server.received) == 1
    assert server.received[0].query["limit"] == "3"


def test_an_upload_is_sent_in_pieces(
    server: Any, client: AssayClient, answer: Any, document: Any, tmp_path: Path
) -> None:
    content = b'{"input": "x", "expected_output": "y"}\n' * 40_000
    file = tmp_path / "rows.jsonl"
    file.write_bytes(content)
    server.on("GET", f"/v1/datasets/{DATASET}", answer(document("dataset")))
    server.on(
        "POST",
        f"/v1/datasets/{DATASET}/data",
        answer(document("dataset")["current_snapshot"], status=201),
    )
    sent: list[int] = []
    snapshot = client.datasets.upload(DATASET, file, split="train", on_bytes=sent.append)
    assert snapshot.rows == 252
    [request] = server.calls("POST", f"/v1/datasets/{DATASET}/data")
    assert request.body == content
    assert request.query == {"split": "train", "filename": "rows.jsonl"}
    assert request.headers["content-length"] == str(len(content))
    assert sum(sent) == len(content)
    assert max(sent) < len(content) / 4


def test_wrong_lines_are_named(
    server: Any, client: AssayClient, answer: Any, document: Any, tmp_path: Path
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("{}\n")
    problem = {
        "type": "urn:assay:problem:invalid-upload",
        "title": "The upload is not valid",
        "status": 422,
        "detail": "2 lines cannot be read",
        "errors": [
            {"line": 17, "column": 4, "message": "expected ',' or '}'"},
            {"line": 30, "message": "an array, not an object"},
        ],
    }
    server.on("GET", f"/v1/datasets/{DATASET}", answer(document("dataset")))
    server.on("POST", f"/v1/datasets/{DATASET}/data", answer(problem, status=422))
    with pytest.raises(RequestRefused) as caught:
        client.datasets.upload(DATASET, file)
    assert str(caught.value) == (
        "2 lines cannot be read\n  line 17, column 4: expected ',' or '}'\n  line 30: an array, not an object"
    )
    assert caught.value.status == 422
    assert [fault.line for fault in caught.value.faults] == [17, 30]


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ({"field": "body.name", "message": "name 'x' is taken"}, "name 'x' is taken by ds_1\n  in body.name"),
        ({"field": "name", "message": "choose another"}, "name 'x' is taken by ds_1\n  name: choose another"),
        ({"message": "name 'x' is taken"}, "name 'x' is taken by ds_1"),
    ],
)
def test_a_single_fault_is_not_said_twice(
    server: Any, client: AssayClient, answer: Any, fault: dict[str, str], text: str
) -> None:
    server.on("POST", "/v1/datasets", answer({"detail": "name 'x' is taken by ds_1", "errors": [fault]}, 409))
    with pytest.raises(Conflict) as caught:
        client.datasets.create("x")
    assert str(caught.value) == text


def test_long_lists_of_faults_are_cut_in_the_text_alone(
    server: Any, client: AssayClient, answer: Any
) -> None:
    faults = [{"line": number, "message": "wrong"} for number in range(1, 101)]
    server.on("POST", "/v1/datasets", answer({"detail": "100 lines", "errors": faults}, status=422))
    with pytest.raises(RequestRefused) as caught:
        client.datasets.create("questions")
    assert len(caught.value.faults) == 100
    assert str(caught.value).endswith("line 20: wrong\n  ... and 80 more")


def test_statuses_have_their_errors(server: Any, client: AssayClient, answer: Any) -> None:
    server.on("POST", "/v1/datasets", answer({"detail": "name is taken by ds_1"}, status=409))
    with pytest.raises(Conflict, match="name is taken by ds_1"):
        client.datasets.create("questions")
    server.on("GET", "/v1/backends", answer({"detail": "unknown key"}, status=401))
    with pytest.raises(RequestRefused, match="API key is not accepted: unknown key"):
        client.backends.list()
    server.on("GET", "/v1/backends", answer(b"<html>bad gateway</html>", status=500))
    with pytest.raises(PlatformFailed, match="500"):
        client.backends.list()


def test_another_servers_answer_is_no_document(server: Any, client: AssayClient, answer: Any) -> None:
    server.on("GET", "/v1/backends", answer(b"<html>hello</html>"))
    with pytest.raises(PlatformFailed, match="is it an Assay gateway"):
        client.backends.list()


def test_nobody_there() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        with (
            AssayClient(url, "key", retry_delays_s=()) as client,
            pytest.raises(PlatformUnreachable, match=f"{url} does not answer"),
        ):
            client.datasets.get(DATASET)


def test_waiting_ends_with_the_run(server: Any, client: AssayClient, answer: Any, document: Any) -> None:
    run = document("run")
    server.on(
        "GET",
        f"/v1/evaluations/{RUN}",
        *(answer({**run, "state": state}) for state in ("Queued", "Running", "Failed")),
    )
    seen: list[str] = []
    over = client.wait_run(RUN, lambda run: seen.append(run.state), poll_s=0.001)
    assert over.state == "Failed"
    assert seen == ["Queued", "Running", "Failed"]


def test_waiting_has_a_limit(server: Any, client: AssayClient, answer: Any, document: Any) -> None:
    server.on("GET", f"/v1/evaluations/{RUN}", answer({**document("run"), "state": "Running"}))
    with pytest.raises(TimeoutError, match="still Running"):
        client.wait_run(RUN, poll_s=0.001, timeout_s=0.01)


def test_what_a_newer_platform_adds_is_kept(document: Any) -> None:
    newer = {**document("dataset"), "retention": {"days": 30}}
    assert Dataset.model_validate(newer).document() == newer

"""Reports and tables of real scored runs over HTTP."""

import asyncio
import csv
import hashlib
import io
import re
import time
from typing import Any

import httpx
import pyarrow
import pyarrow.parquet

ROWS = [
    {
        "question": f"What is {number} + 3? <b>&amp; =SUM(A1) \u202e</b>",
        "answer": str(number + 3),
    }
    for number in range(60)
]
STRICT = "exact_match,strict"


def answering(salt: str, *, of: int) -> Any:
    """Wrong for about one document in ``of``, with an answer that is a formula and markup."""

    def answers(document: Any) -> list[str]:
        digest = hashlib.sha256(f"{salt}{document.prompt_hash}".encode()).digest()
        return [document.target if digest[0] % of else '=HYPERLINK("x")<script>alert(1)</script>']

    return answers


async def finished(platform: Any, client: httpx.AsyncClient, *runs: Any) -> None:
    for run in runs:
        for event in run.events:
            await platform.tell(event)
    deadline = time.monotonic() + 90
    for run in runs:
        while (await client.get(f"/v1/metrics/runs/{run.id}")).json()["state"] != "final":
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        platform.peers.runs[run.id]["state"] = "Succeeded"


async def made(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    response = await client.post(path, json=body, timeout=120)
    assert response.status_code == 201, response.text
    return dict(response.json())


async def file(client: httpx.AsyncClient, path: str, **query: str) -> httpx.Response:
    response = await client.get(path, params=query, timeout=120)
    assert response.status_code == 200, response.text
    assert response.headers["x-content-type-options"] == "nosniff"
    return response


async def test_reports_and_items_of_a_comparison_with_two_candidates(platform: Any) -> None:
    base = await platform.maker.make(ROWS, answering("base", of=5))
    first = await platform.maker.make(ROWS, answering("first", of=4), artifact="first")
    second = await platform.maker.make(ROWS, answering("second", of=2), artifact="second")
    async with platform.service() as client:
        await finished(platform, client, base, first, second)
        body = {"baseline_run_id": base.id, "candidate_run_ids": [first.id, second.id]}
        comparison = await made(client, "/v1/comparisons", body)
        address = f"/v1/comparisons/{comparison['id']}"
        page = await file(client, f"{address}/report.html")
        markdown = await file(client, f"{address}/report.md")
        table = await file(client, f"{address}/items.csv")
        other = await file(client, f"{address}/items.parquet", candidate=second.id)
        stranger = await client.get(f"{address}/items.csv", params={"candidate": base.id})
        unknown = [await client.get(f"/v1/comparisons/cmp_0/report.{kind}") for kind in ("html", "md")]
        listed = (await client.get(f"{address}/items", params={"limit": 200})).json()["items"]

    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "sandbox" in page.headers["content-security-policy"]
    assert f'inline; filename="comparison-{comparison["id"]}.html"' == page.headers["content-disposition"]
    html = page.text
    assert html.count("<svg") >= 2
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)" in html  # an example shows the response
    assert "⟨U+202E⟩" in html
    assert "first" in html
    assert "second" in html
    assert markdown.text.count("\n## ") == 1
    assert len(markdown.content) < 60_000
    assert stranger.status_code == 422
    assert [response.status_code for response in unknown] == [404, 404]

    assert table.headers["content-type"] == "text/csv; charset=utf-8"
    assert f'attachment; filename="items-{comparison["id"]}-1.csv"' == table.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(table.content.decode("utf-8-sig"), newline="")))
    assert len(rows) == len(ROWS) == len(listed)
    for row, item in zip(rows, listed, strict=True):
        assert row["doc_hash"] == item["doc_hash"]
        assert int(row["baseline_index"]) == item["baseline"]["index"]
        assert float(row[f"baseline_value:{STRICT}"]) == item["baseline"]["value"]
        assert float(row[f"candidate_value:{STRICT}"]) == item["candidate"]["value"]
        assert row[f"flip:{STRICT}"] == item["flip"]
        assert row[f"class:{STRICT}"] == (item["flip_class"] or "")
        assert row["candidate_response"].removeprefix("'") == item["candidate"]["response"]
        assert not re.match(r"\s*[=+@]", "".join(row.values()))
        assert all(not re.match(r"[=+@\t\r]|-\D", cell) for cell in row.values())
    assert any(row["candidate_response"].startswith("'=HYPERLINK") for row in rows)

    read = pyarrow.parquet.read_table(io.BytesIO(other.content)).to_pylist()
    assert len(read) == len(ROWS)
    assert {row["candidate_response"] for row in read} != {row["candidate_response"] for row in rows}
    assert all(isinstance(row[f"candidate_value:{STRICT}"], float) for row in read)
    wrong = sum(row[f"candidate_value:{STRICT}"] == 0.0 for row in read)
    assert wrong / len(ROWS) == 1 - second.expected.metrics[f"jsonl_qa.{STRICT}"]
    assert [row["baseline_index"] for row in read] == sorted(row["baseline_index"] for row in read)


async def test_reports_of_a_decision(platform: Any) -> None:
    base = await platform.maker.make(ROWS, answering("base", of=5))
    worse = await platform.maker.make(ROWS, lambda document: ["no idea"], artifact="worse")
    async with platform.service() as client:
        await finished(platform, client, base, worse)
        body = {"baseline_run_id": base.id, "candidate_run_id": worse.id, "policy": "default"}
        decision = await made(client, "/v1/decisions", body)
        page = await file(client, f"/v1/decisions/{decision['id']}/report.html")
        markdown = await file(client, f"/v1/decisions/{decision['id']}/report.md")
        unknown = await client.get("/v1/decisions/dec_0/report.html")
    text = re.sub(r"<[^>]*>", " ", page.text)
    assert (
        text.index(decision["verdict"]) < text.index("Reasons") < text.index("Policy") < text.index("Quality")
    )
    assert decision["bundle_digest"] in text
    assert decision["comparison_id"] in text
    assert decision["policy"]["digest"] in text
    for reason in decision["reasons"]:
        assert reason["code"] in text
    assert markdown.text.startswith("## ")
    assert decision["verdict"] in markdown.text.splitlines()[0]
    assert unknown.status_code == 404


async def test_samples_of_a_run_as_tables(platform: Any) -> None:
    def answers(document: Any) -> list[str] | None:
        return None if document.index == 4 else [document.target if document.index % 3 else "-1+1"]

    run = await platform.maker.make(ROWS, answers)
    waiting = await platform.maker.make(ROWS, answers)
    async with platform.service() as client:
        await finished(platform, client, run)
        address = f"/v1/metrics/runs/{run.id}"
        table = await file(client, f"{address}/samples.csv")
        parquet = await file(client, f"{address}/samples.parquet")
        metrics = (await client.get(address)).json()
        view = (
            await client.post(
                "/v1/scorings",
                json={
                    "run_id": run.id,
                    "scoring": {"filters": [{"name": "short", "steps": [{"function": "first-line"}]}]},
                },
                timeout=60,
            )
        ).json()
        deadline = time.monotonic() + 60
        while (await client.get(f"/v1/scorings/{view['id']}")).json()["state"] != "final":
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        rescored = await file(client, f"/v1/metrics/runs/{view['id']}/samples.parquet")
        early = await client.get(f"/v1/metrics/runs/{waiting.id}/samples.csv")
        unknown = await client.get("/v1/metrics/runs/run_0/samples.csv")
    rows = list(csv.DictReader(io.StringIO(table.content.decode("utf-8-sig"), newline="")))
    assert [int(row["index"]) for row in rows] == list(range(len(ROWS)))
    values = [float(row[f"value:{STRICT}"]) for row in rows]
    assert sum(values) / len(values) == metrics["quality"][f"jsonl_qa.{STRICT}"]
    assert (rows[4]["failed"], values[4], rows[4]["response"]) == ("True", 0.0, "")
    assert rows[3]["response"] == "'-1+1"
    typed = pyarrow.parquet.read_table(io.BytesIO(parquet.content))
    assert typed.schema.field(f"value:{STRICT}").type == pyarrow.float64()
    assert typed.column("target").to_pylist() == [str(row["answer"]) for row in ROWS]
    assert typed.column("response").to_pylist()[3] == "-1+1"
    names = pyarrow.parquet.read_table(io.BytesIO(rescored.content)).schema.names
    assert "filtered:short" in names
    assert "filtered:strict" not in names
    assert (early.status_code, unknown.status_code) == (409, 404)

"""Lines of lm-eval's sample log, `samples_<task>_<date>.jsonl`, as its own tracker writes them."""

import json
from collections.abc import Sequence

from pydantic import JsonValue

from assay_harness.results import DocumentScore, LoggedDocument, LogProbability, RequestKind, Response
from assay_harness.values import EncodedValue, decode_metric


def sample_lines(
    document: LoggedDocument,
    responses: Sequence[Response] | None,
    score: DocumentScore,
    *,
    repeats: int = 1,
    error: str | None = None,
) -> dict[str, str]:
    """One line for each filter that scored the document.

    Args:
        document: what was asked.
        responses: aligned with the document's requests, repeats side by side; None where there are none,
            which is shown as an empty text for every request, because readers expect one.
        score: of the responses; of a document without responses, what it counts as.
        repeats: how often each request was made.
        error: why there are no responses; added as `error`, which lm-eval's own lines do not have.

    Returns:
        JSON text by filter, each with a newline at its end.
    """
    filters = list(dict.fromkeys(key.rpartition(",")[2] for key in score.values))
    if responses is None:
        grouped: list[list[JsonValue]] = [[""] for _ in document.arguments]
    else:
        texts = [_texts(_logged(response, document.kind)) for response in responses]
        grouped = [texts[start : start + repeats] for start in range(0, len(texts), repeats)]
    return {name: _line(document, score, name=name, responses=grouped, error=error) for name in filters}


def _line(
    document: LoggedDocument,
    score: DocumentScore,
    *,
    name: str,
    responses: list[list[JsonValue]],
    error: str | None,
) -> str:
    """The line of one filter; the order of its fields is lm-eval's."""
    metrics = {
        key.rpartition(",")[0]: decode_metric(EncodedValue(value, ""))
        for key, value in score.values.items()
        if key.rpartition(",")[2] == name
    }
    filtered = score.filtered.get(name)
    line = {
        "doc_id": document.doc_id,
        "doc": document.doc,
        "target": document.target,
        "arguments": document.arguments,
        "resps": responses,
        "filtered_resps": [""] * len(responses) if filtered is None else [_texts(item) for item in filtered],
        "filter": name,
        "metrics": list(metrics),
        "doc_hash": document.doc_hash,
        "prompt_hash": document.prompt_hash,
        "target_hash": document.target_hash,
        **metrics,
    }
    if error is not None:
        line["error"] = error
    return json.dumps(line, ensure_ascii=False, default=_plain) + "\n"


def _logged(response: Response, kind: RequestKind) -> object:
    """A response as lm-eval's models give it: of a whole text the log-probability alone."""
    if kind is RequestKind.ROLLING and not isinstance(response, str | int | float):
        return response[0]
    return tuple(response) if isinstance(response, LogProbability) else response


def _texts(value: object) -> JsonValue:
    """Every number as text, as lm-eval writes responses, so that a column has one type."""
    if isinstance(value, list | tuple):
        return [_texts(item) for item in value]
    return str(value)


def _plain(value: object) -> JsonValue:
    """What lm-eval makes of a value that is no JSON."""
    return list(value) if isinstance(value, set) else str(value)

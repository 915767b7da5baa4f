"""Which pages are asked for, and what the API has to answer for each of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from pages.answers import Answers
from pages.clones import STATES
from pages.population import Population

PAGE_SIZE = 50
_MOST = 200


@dataclass(frozen=True, slots=True)
class PageCase:
    """A page of the console.

    ``calls`` are the API's paths with the same data: in stages, those of one at once, as the page asks them.
    """

    title: str
    page: str
    calls: Sequence[Sequence[str]]


def cases(population: Population, answers: Answers) -> Iterator[PageCase]:
    """Every kind of page."""
    yield from _evaluations(population, answers)
    yield from _samples(population, answers)
    comparisons = _path("/v1/comparisons", limit=PAGE_SIZE)
    yield PageCase("comparisons, first page", "/comparisons", [[comparisons]])
    yield PageCase("datasets, first page", "/datasets", [[_path("/v1/datasets", limit=PAGE_SIZE)]])
    method = population.small.plan.method["id"]
    choices = [_path(f"/v1/{kind}", limit=_MOST) for kind in ("methods", "datasets", "artifacts")]
    points = _path("/v1/trends", method_id=method, limit=_MOST)
    newest = answers.json(points)["items"][-1]["run_id"]
    yield PageCase(
        "trends, 200 points",
        _path("/trends", method_id=method),
        [[*choices, points], [f"/v1/metrics/runs/{newest}"]],
    )


def _evaluations(population: Population, answers: Answers) -> Iterator[PageCase]:
    exam = population.group.plan.dataset["id"]
    # A cursor of this list is the identifier of the last run before it.
    far = answers.json(_path("/v1/evaluations", name="copy-05050"))["items"][0]["id"]
    for title, query in {
        "evaluations, first page": {},
        "evaluations, 100th page": {"cursor": far},
        "evaluations, by a part of the name": {"name": "opy-04711"},
        f"evaluations, {STATES[0]}": {"state": STATES[0]},
        "evaluations, groups alone": {"dataset_id": exam},
        f"evaluations, {STATES[1]} groups": {"state": STATES[1], "dataset_id": exam},
    }.items():
        # The page's field Name finds a part of the name.
        asked = {"search" if name == "name" else name: value for name, value in query.items()}
        calls = [_path("/v1/evaluations", **asked, limit=PAGE_SIZE), _path("/v1/datasets", limit=_MOST)]
        yield PageCase(title, _path("/evaluations", **query), [calls])
    for title, run in {"evaluation": population.large, "evaluation of a group": population.group}.items():
        metrics, views = f"/v1/metrics/runs/{run.id}", _path("/v1/scorings", run_id=run.id, limit=PAGE_SIZE)
        yield PageCase(title, f"/evaluations/{run.id}", [[f"/v1/evaluations/{run.id}"], [metrics, views]])
    run_id = population.large.id
    runtime = [[f"/v1/evaluations/{run_id}"], [f"/v1/metrics/runs/{run_id}"]]
    yield PageCase("evaluation, runtime", _path(f"/evaluations/{run_id}", tab="runtime"), runtime)


def _samples(population: Population, answers: Answers) -> Iterator[PageCase]:
    run_id = population.large.id
    scored = f"/v1/metrics/runs/{run_id}/samples"
    # A cursor of this list names a block of the run's log and a place in it.
    last = {"cursor": f"{answers.last_block(run_id) - 1}:0"}
    before = [[f"/v1/evaluations/{run_id}"], [f"/v1/metrics/runs/{run_id}"]]
    views = _path("/v1/scorings", run_id=run_id, limit=PAGE_SIZE)

    def listed(title: str, wish: dict[str, str], query: dict[str, str]) -> PageCase:
        page = _path(f"/evaluations/{run_id}", tab="samples", **wish)
        return PageCase(title, page, [*before, [views, _path(scored, **query, limit=PAGE_SIZE)]])

    yield listed("samples, first page", {}, {})
    yield listed("samples, near the end", last, last)
    word = {"search": "apples"}
    yield listed("samples, with a word", word, word)
    for metric in answers.json(f"/v1/metrics/runs/{run_id}")["sample_metrics"]:
        wish = {"outcome": "right", "metric": metric}
        yield listed(f"samples, right by {metric.partition(',')[2]}", wish, wish)
    index = answers.json(_path(scored, **last, limit=PAGE_SIZE))["items"][0]["index"]
    sample = _path(f"/evaluations/{run_id}/samples/{index}", **last)
    both = [call[0] for call in before]
    yield PageCase("one sample", sample, [both, [_path(scored, **last, limit=PAGE_SIZE)]])


def _path(path: str, **query: str | int) -> str:
    return f"{path}?{urlencode(query)}" if query else path

"""What the harness hands out: plain data, picklable and (where it is stored) JSON- and BSON-safe."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from pydantic import JsonValue


class RequestKind(StrEnum):
    """What a model is asked for."""

    GENERATE = "generate"
    LOGLIKELIHOOD = "loglikelihood"
    ROLLING = "rolling"


class FewshotSource(StrEnum):
    """Where the examples of a prompt come from."""

    NONE = "none"
    ROWS = "rows"
    EVALUATION_ROWS = "evaluation_rows"
    TASK = "task"


class LogProbability(NamedTuple):
    """Answer to a loglikelihood request: natural log, and whether greedy decoding gives the same text."""

    log_probability: float
    is_greedy: bool


Response: TypeAlias = str | float | LogProbability | Sequence[float | bool]
"""Text for `generate`; else a `LogProbability` or the same as a list; a float will do for `rolling`."""


@dataclass(frozen=True, slots=True)
class Deviation:
    """One thing in which a run differs from the task's own definition, in JSON-safe values.

    `field` is one of `dataset_path`, `dataset_name`, `evaluation_split`, `fewshot_source`, `fewshot_split`,
    `num_fewshot`, `repeats`, `generation_kwargs`, `limit`; None stands for what is not defined, or not known.
    """

    field: str
    task_value: JsonValue
    run_value: JsonValue
    message: str


@dataclass(frozen=True, slots=True)
class MemberFacts:
    """One task of a group: its documents are those with `start <= index < stop` in the run.

    The other fields are as in `TaskFacts`.
    """

    task: str
    start: int
    stop: int
    row_count: int
    version: str
    output_type: str
    repeats: int
    evaluation_split: str
    num_fewshot: int
    fewshot_source: FewshotSource
    fewshot_canonical: bool
    generation_kwargs: dict[str, JsonValue]
    metric_names: list[str]
    config_sha256: str
    deviations: list[Deviation]


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """What is fixed once a task stands on its rows; recorded in the run's plan.

    `document_count` counts after the limit, `row_count` before it. `until`, `max_gen_toks` and
    `generation_kwargs` (normalised, after merging the options) are None or empty where nothing is generated.
    `fewshot_canonical` is False where the examples come from elsewhere than in the task's own definition.
    `config_sha256` covers the resolved task definition; `file_sha256` every file behind it, by its path
    relative to the lm-eval package. `metric_names` and the keys of per-document values are `metric,filter`.
    `deviations` tell what keeps the numbers from being the task's own; empty for a canonical run.

    Of a group, `task` is its name, counts are sums, names are unions in order of the members; `output_type`,
    `evaluation_split` and `evaluation_role` are "mixed", and `generation_kwargs`, `until` and `max_gen_toks`
    those of the first member that generates, where members differ. `members` (empty for a single task) has
    what holds for each.
    """

    task: str
    version: str
    output_type: str
    request_kinds: list[RequestKind]
    needs_log_probabilities: bool
    row_count: int
    document_count: int
    repeats: int
    columns: list[str]
    evaluation_split: str
    evaluation_role: str
    num_fewshot: int
    fewshot_source: FewshotSource
    fewshot_canonical: bool
    fewshot_pool_size: int
    generation_kwargs: dict[str, JsonValue]
    until: list[str] | None
    max_gen_toks: int | None
    metric_names: list[str]
    filters: list[str]
    higher_is_better: dict[str, bool]
    config_sha256: str
    file_sha256: dict[str, str]
    library_versions: dict[str, str]
    deviations: list[Deviation] = field(default_factory=list)
    members: list[MemberFacts] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One call to a model.

    `index` is the position in the document's list of requests, `repeat` the 0-based repetition of the same
    prompt. `continuation` is empty for `generate`; for `rolling` it is the whole text and `context` is
    empty. `messages` is the prompt as chat turns where a chat template is asked for (`context` is then
    their JSON text). `generation_kwargs` always holds `until`, `max_gen_toks`, `temperature`, `do_sample`
    for `generate` and is empty otherwise; requests may share the dictionary, so it must not be changed.
    """

    index: int
    repeat: int
    kind: RequestKind
    context: str
    continuation: str = ""
    messages: list[dict[str, str]] | None = None
    generation_kwargs: dict[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Document:
    """One row, ready to be asked.

    `index` is the row's position in the evaluation rows as the task sees them (lm-eval's `doc_id`), counted
    on from the member before in a group. `task` is the task that the row belongs to. The hashes are
    lm-eval's: two runs may be paired where all three agree. `doc` is JSON-safe.
    """

    index: int
    doc_hash: str
    prompt_hash: str
    target_hash: str
    target: str
    doc: dict[str, JsonValue]
    requests: list[ModelRequest]
    task: str = ""


@dataclass(frozen=True, slots=True)
class LoggedDocument:
    """One row as lm-eval's sample log shows it.

    `index` is the document's in the run, `doc_id` its row in its own task. `arguments` are those of each
    request, `{"gen_args_0": {"arg_0": prompt, "arg_1": ...}}`, in JSON-safe values.
    """

    index: int
    task: str
    kind: RequestKind
    doc_id: int
    doc: JsonValue
    target: str
    arguments: dict[str, JsonValue]
    doc_hash: str
    prompt_hash: str
    target_hash: str


@dataclass(frozen=True, slots=True)
class DocumentScore:
    """The scores of one document; survives JSON and BSON exactly, as `DocumentScore(**stored)`.

    `values` maps `metric,filter` to a number, or for metrics that only exist over the whole set of documents
    to a tagged structure (see `values.encode`). `number_types` names the NumPy type of the values that are
    NumPy scalars, because Python and NumPy numbers add up differently in the last bit. `filtered` maps each
    filter to its results, one per request (repeats merged). `index` and `task` are the document's.
    """

    index: int
    values: dict[str, JsonValue]
    number_types: dict[str, str]
    filtered: dict[str, list[JsonValue]]
    task: str = ""

    @property
    def numbers(self) -> dict[str, float]:
        """The values that are plain numbers: what two runs can be compared by, document by document."""
        return {key: float(value) for key, value in self.values.items() if isinstance(value, int | float)}


@dataclass(frozen=True, slots=True)
class Aggregate:
    """The numbers of a run.

    `metrics` maps `<task>.<metric>,<filter>` and `<task>.<metric>_stderr,<filter>` to lm-eval's value, None
    where lm-eval says "N/A" or where the value is not finite; the latter keys are in `not_finite`.
    `higher_is_better` goes by the keys of the metrics without stderr. `sample_count` counts documents. A
    group brings the metrics of its tasks, of the groups inside it and its own. `sample_counts` says how many
    documents are behind each metric, by the same keys without stderr.
    """

    metrics: dict[str, float | None]
    higher_is_better: dict[str, bool]
    sample_count: int
    not_finite: list[str]
    sample_counts: dict[str, int] = field(default_factory=dict)


class RenderProblem(NamedTuple):
    """A row that cannot become a prompt, and why."""

    row_index: int
    problem: str


@dataclass(frozen=True, slots=True)
class RenderReport:
    """Outcome of rendering every row: how many succeeded, the first problems, the first prompts."""

    rendered_count: int
    problem_count: int
    problems: list[RenderProblem]
    prompts: list[str]


ScoreInput: TypeAlias = tuple[int, Sequence[Response]]

"""An lm-eval task that stands on our rows instead of downloading its own."""

import copy
import functools
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import datasets
import jinja2
import lm_eval.utils
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._yaml_loader import load_yaml

from assay_harness.columns import required_columns
from assay_harness.deviations import find_deviations
from assay_harness.errors import FewshotPoolTooSmall, InvalidOptions, RowProblem, TaskRefused, UnmappedColumn
from assay_harness.exclusion import ExcludingSampler
from assay_harness.fewshot import SplitPlan, effective_num_fewshot, plan_splits
from assay_harness.question_answer import build_rows, task_config
from assay_harness.results import Deviation, FewshotSource
from assay_harness.rows import RowReader
from assay_harness.sources import PACKAGE_ROOT, config_sha256, file_digests, unresolved_config
from assay_harness.spec import JsonlQuestionAnswer, RowFiles, TaskOptions

_RENDERED_FIELDS = ("doc_to_text", "doc_to_target", "doc_to_choice", "description", "gen_prefix")
_COLUMN_IN_ERROR = re.compile(r"'([^']{1,100})'(?: is undefined)?")
_COLUMN_FIELDS = ("doc_to_text", "doc_to_target", "doc_to_choice")


class PinnedTask(ConfigurableTask):  # type: ignore[misc]
    """A task over given splits whose documents are prepared once.

    lm-eval prepares them anew on each access, so that a task which shuffles in `process_docs` would be
    scored against other documents than it was prompted with.
    """

    def __init__(self, *, splits: Mapping[str, "datasets.Dataset"], config: dict[str, Any]) -> None:
        self._splits = splits
        self._prepared: dict[tuple[str, int], Any] = {}
        self._pool: frozenset[int] = frozenset()
        self._rendered: dict[tuple[int, str, str], Any] = {}
        super().__init__(config=config)

    def download(self, *arguments: object, **options: object) -> None:
        """Take the pinned splits: nothing is fetched."""
        self.dataset = self._splits

    def training_docs(self) -> Any:
        """Return the prepared rows of the training split, None without one."""
        return self._prepare(self.config.training_split, self.config.process_docs)

    def validation_docs(self) -> Any:
        """Return the prepared rows of the validation split, None without one."""
        return self._prepare(self.config.validation_split, self.config.process_docs)

    def test_docs(self) -> Any:
        """Return the prepared rows of the test split, None without one."""
        return self._prepare(self.config.test_split, self.config.process_docs)

    def fewshot_docs(self) -> Any:
        """Return the rows to draw examples from; the very same documents where the split is the same."""
        if self.fewshot_cfg.split is not None:
            return self._prepare(self.fewshot_cfg.split, self.fewshot_cfg.process_docs)
        return super().fewshot_docs()

    def keep_rendered_examples(self) -> None:
        """Render each row to draw examples from once: five examples a prompt are most of its cost.

        Only the rows that the sampler keeps; those that a sampler makes anew are rendered anew.
        """
        self._pool = frozenset(map(id, self.sampler.df))

    def doc_to_text(self, doc: Any, doc_to_text: Any = None) -> Any:
        """Return the text of a document; lm-eval names the template where the document is an example."""
        return self._render("text", super().doc_to_text, doc, doc_to_text)

    def doc_to_target(self, doc: Any, doc_to_target: Any = None) -> Any:
        """Return the target of a document; lm-eval names the template where the document is an example."""
        return self._render("target", super().doc_to_target, doc, doc_to_target)

    def _render(self, part: str, render: Callable[[Any, Any], Any], doc: Any, template: Any) -> Any:
        """Render an example's template once; functions, which may do anything, are called each time."""
        if not isinstance(template, str) or id(doc) not in self._pool:
            return render(doc, template)
        key = (id(doc), part, template)
        if key not in self._rendered:
            self._rendered[key] = render(doc, template)
        return self._rendered[key]

    def _prepare(self, split: str | None, process_docs: Callable[[Any], Any] | None) -> Any:
        """Prepare a split once per function."""
        if split is None:
            return None
        key = (split, id(process_docs))
        if key not in self._prepared:
            rows = self._splits[split]
            self._prepared[key] = process_docs(rows) if process_docs else rows
        return self._prepared[key]


@dataclass(frozen=True, slots=True)
class BuiltTask:
    """A constructed task with the decisions that went into it.

    `row_problems` maps rows that cannot be evaluated to the reason. `columns` are those of the rows after
    the column mapping.
    """

    task: ConfigurableTask
    plan: SplitPlan
    num_fewshot: int
    fewshot_pool_size: int
    rows: RowFiles
    row_problems: dict[int, str]
    columns: list[str]
    config_sha256: str
    file_sha256: dict[str, str]
    deviations: list[Deviation] = field(default_factory=list)


def cache_compiled_templates() -> None:
    """Make lm-eval compile each Jinja template once per process instead of once per call (20 x faster)."""
    environment = lm_eval.utils.env
    if not hasattr(environment.from_string, "cache_info"):
        environment.from_string = functools.lru_cache(maxsize=1024)(environment.from_string)


def build_builtin(
    yaml_path: Path,
    config: Mapping[str, Any],
    *,
    options: TaskOptions,
    rows: RowFiles,
    reader: RowReader,
    overrides: Mapping[str, Any] | None = None,
) -> BuiltTask:
    """Construct a task from what `load_definition` made of its file, relative to the lm-eval package.

    `overrides` are the settings that a group makes for its task. Raises `UnmappedColumn`, `TaskRefused`
    (with the reason found at this late point, such as a package that is not installed),
    `FewshotPoolTooSmall`, `InvalidOptions`, `RowFileProblem`.
    """
    path = PACKAGE_ROOT / yaml_path
    config = dict(config) | dict(overrides or {})
    for key in ("tag", "group", "task_list", "dataset_kwargs", "custom_dataset"):
        config.pop(key, None)
    config["metadata"] = _metadata(config.get("metadata"), source=yaml_path)
    evaluation, fewshot = _read(rows, reader)
    for dataset in (evaluation, *([fewshot] if fewshot else [])):
        _check_columns(config, available=dataset.column_names)
    # Constructing the task merges the options into these very arguments.
    own = {**config, "generation_kwargs": dict(config.get("generation_kwargs") or {})}
    built = _build(
        config,
        evaluation=evaluation,
        fewshot=fewshot,
        options=options,
        rows=rows,
        row_problems={},
        config_digest=config_sha256(unresolved_config(path) | dict(overrides or {})),
        file_sha256=file_digests(path),
    )
    deviations = find_deviations(
        own, plan=built.plan, num_fewshot=built.num_fewshot, rows=rows, options=options
    )
    return replace(built, deviations=deviations)


def load_definition(name: str, path: Path) -> dict[str, Any]:
    """Load a task's YAML with its functions; raises `TaskRefused` where these cannot be imported."""
    try:
        config: dict[str, Any] = copy.deepcopy(load_yaml(path, resolve_func=True))
    except (ImportError, SystemExit) as error:
        # Some tasks end the program where a tool of theirs is missing.
        reason = f"it needs something that is not installed here ({error})"
        raise TaskRefused(task=name, reason=reason) from error
    return config


def _read(rows: RowFiles, reader: RowReader) -> tuple["datasets.Dataset", "datasets.Dataset | None"]:
    """Read the rows to evaluate and, where there are others, those to draw examples from.

    Examples from the very file that is evaluated are examples from the evaluated rows.
    """
    own = rows.fewshot is not None and rows.fewshot != rows.evaluation
    return reader.read(rows.evaluation), reader.read(rows.fewshot) if own and rows.fewshot else None


def build_question_answer(
    recipe: JsonlQuestionAnswer, *, options: TaskOptions, rows: RowFiles, reader: RowReader
) -> BuiltTask:
    """Construct the JSONL question-answer task.

    Raises `TemplateError` besides what `build_builtin` raises, and `RowProblem` for an unusable example row
    (unusable evaluation rows are collected in `row_problems`).
    """
    evaluation_rows, fewshot_rows = _read(rows, reader)
    evaluation = build_rows(recipe, evaluation_rows)
    fewshot = build_rows(recipe, fewshot_rows) if fewshot_rows else None
    config = task_config(recipe)
    configured = effective_num_fewshot(None, options.num_fewshot)
    if configured:
        pool = fewshot or evaluation
        for index, problem in pool.problems.items():
            raise RowProblem(row_index=index, problem=problem, source="few-shot" if fewshot else "evaluation")
    return _build(
        config,
        evaluation=evaluation.dataset,
        fewshot=fewshot and fewshot.dataset,
        options=options,
        rows=rows,
        row_problems=evaluation.problems,
        config_digest=config_sha256(recipe.model_dump(mode="json")),
        file_sha256={},
    )


def _build(
    config: dict[str, Any],
    *,
    evaluation: "datasets.Dataset",
    fewshot: "datasets.Dataset | None",
    options: TaskOptions,
    rows: RowFiles,
    row_problems: dict[int, str],
    config_digest: str,
    file_sha256: dict[str, str],
) -> BuiltTask:
    """Decide the splits, construct the task and apply the options in `simple_evaluate`'s order."""
    num_fewshot = effective_num_fewshot(config.get("num_fewshot"), options.num_fewshot)
    plan = plan_splits(config, num_fewshot=num_fewshot, has_fewshot_rows=fewshot is not None)
    splits = {plan.evaluation: evaluation}
    if plan.fewshot is not None and fewshot is not None:
        splits[plan.fewshot] = fewshot
    changes = plan.overrides | ({"repeats": options.repeats} if options.repeats else {})
    task = _construct({**config, **changes}, splits=splits, available=evaluation.column_names)
    if task.get_config("output_type") == "generate_until":
        task.set_config("generation_kwargs", generation_overrides(options), update=True)
    elif options.apply_chat_template:
        problem = "this task scores log-probabilities of a continuation, which chat endpoints do not give"
        raise InvalidOptions(option="apply_chat_template", problem=problem)
    task.set_config("num_fewshot", num_fewshot)
    return BuiltTask(
        task=task,
        plan=plan,
        num_fewshot=num_fewshot,
        fewshot_pool_size=_prepare_sampler(task, plan=plan, num_fewshot=num_fewshot),
        rows=rows,
        row_problems=row_problems,
        columns=evaluation.column_names,
        config_sha256=config_digest,
        file_sha256=file_sha256,
    )


def _prepare_sampler(task: PinnedTask, *, plan: SplitPlan, num_fewshot: int) -> int:
    """Check that there are enough rows to draw from and return how many; guard draws from evaluated rows."""
    if not num_fewshot:
        return 0
    pool_size = len(task.sampler.df) if hasattr(task, "sampler") else 0
    needed = num_fewshot + (plan.source is FewshotSource.EVALUATION_ROWS)
    if pool_size < needed:
        raise FewshotPoolTooSmall(available=pool_size, needed=needed, num_fewshot=num_fewshot)
    task.keep_rendered_examples()
    # In the task's own arrangement its numbers are lm-eval's, whatever the rows are like.
    if plan.source is FewshotSource.EVALUATION_ROWS and not plan.canonical:
        task.sampler = ExcludingSampler(task, task.sampler)
    return pool_size


def _construct(
    config: dict[str, Any], *, splits: Mapping[str, "datasets.Dataset"], available: list[str]
) -> PinnedTask:
    """Construct the task and turn the errors of its own code about columns into `UnmappedColumn`."""
    try:
        task = PinnedTask(splits=splits, config=config)
    except (KeyError, jinja2.UndefinedError) as error:
        # A function of the task, or a template over what the function prepared, read what is not there.
        named = _COLUMN_IN_ERROR.fullmatch(str(error))
        if named is None or named.group(1) in available:
            raise
        raise UnmappedColumn(columns=[named.group(1)], available=available) from error
    unknown = [name for name in _bare_names(config) if name not in task.features]
    if unknown:
        # lm-eval would take the name for the text itself and evaluate a constant.
        raise UnmappedColumn(columns=unknown, available=available)
    return task


def _check_columns(config: Mapping[str, Any], *, available: list[str]) -> None:
    """Name all missing columns at once where the task reads the rows as they are."""
    if config.get("process_docs") is None:
        missing = sorted(_rendered_columns(config) - set(available))
        if missing:
            raise UnmappedColumn(columns=missing, available=available)


def _rendered_columns(config: Mapping[str, Any]) -> set[str]:
    """Return the columns that the config's templates and bare names read."""
    texts = (config.get(field) for field in _RENDERED_FIELDS)
    return {name for text in texts if isinstance(text, str) for name in required_columns(text)}


def _bare_names(config: Mapping[str, Any]) -> list[str]:
    """Return the columns that the config names without a template around them."""
    texts = (config.get(field) for field in _COLUMN_FIELDS)
    return [text for text in texts if isinstance(text, str) and text.isidentifier()]


def _metadata(configured: object, *, source: Path) -> dict[str, Any]:
    """Return the metadata as lm-eval's own loader shapes it."""
    metadata = (
        dict(configured) if isinstance(configured, dict) else {"_metadata": configured} if configured else {}
    )
    return {**metadata, "config_source": str(source)}


def generation_overrides(options: TaskOptions) -> dict[str, Any]:
    """Return a copy of the wanted generation arguments; a temperature implies sampling, as over HTTP."""
    overrides: dict[str, Any] = json.loads(json.dumps(options.generation_kwargs))
    if overrides.get("temperature"):
        overrides.setdefault("do_sample", True)
    return overrides

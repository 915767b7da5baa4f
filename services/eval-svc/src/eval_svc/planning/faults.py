"""What the harness refuses, in the words and fields of a run request."""

from collections.abc import Sequence

from pydantic import ValidationError

from assay_chassis.errors import Fault
from assay_harness.errors import (
    FewshotPoolTooSmall,
    HarnessError,
    InvalidOptions,
    TemplateError,
    UnmappedColumn,
)
from assay_harness.results import MemberFacts, RenderReport, TaskFacts
from assay_harness.spec import TaskOptions
from eval_svc.domain import RunRequest
from eval_svc.errors import InvalidPlan

PROBLEMS_SHOWN = 20

FIELDS = {
    "random_seed": "seeds.random",
    "numpy_seed": "seeds.numpy",
    "fewshot_seed": "seeds.fewshot",
}
"""Options whose name in a run request is not the harness's."""


def task_options(request: RunRequest) -> TaskOptions:
    """The options of ``request`` that the harness knows.

    Raises:
        InvalidPlan: the harness would not take them; the faults name the fields.
    """
    options = request.options
    try:
        return TaskOptions(
            num_fewshot=options.num_fewshot,
            limit=options.limit,
            repeats=options.repeats,
            generation_kwargs=dict(options.generation_kwargs),
            column_mapping=dict(request.column_mapping),
            system_instruction=options.system_instruction,
            apply_chat_template=options.apply_chat_template,
            fewshot_as_multiturn=options.fewshot_as_multiturn,
            random_seed=options.seeds.random,
            numpy_seed=options.seeds.numpy,
            fewshot_seed=options.seeds.fewshot,
            bootstrap_iterations=options.bootstrap_iterations,
        )
    except ValidationError as error:
        faults = [
            Fault(item["msg"], field=_field(".".join(map(str, item["loc"])))) for item in error.errors()
        ]
        raise InvalidPlan("; ".join(fault.message for fault in faults), faults=faults) from error


def faults_of(error: HarnessError) -> list[Fault]:
    """The fields or rows that ``error`` is about."""
    if isinstance(error, UnmappedColumn):
        return [
            Fault(
                f"the method reads column {column!r}; map it to one of {', '.join(error.available)}",
                field=f"column_mapping.{column}",
            )
            for column in error.columns
        ]
    if isinstance(error, InvalidOptions):
        return [Fault(str(error), field=_field(error.option))]
    if isinstance(error, FewshotPoolTooSmall):
        return [Fault(str(error), field="options.num_fewshot")]
    if isinstance(error, TemplateError):
        return [Fault(str(error), field="method_id")]
    row = getattr(error, "row_index", None)
    return [Fault(str(error), row=row, field=None if row is not None else "method_id")]


def check_rendering(report: RenderReport, facts: TaskFacts) -> None:
    """Refuse rows that cannot become prompts.

    Raises:
        InvalidPlan: there are some; the faults name the first.
    """
    if not report.problem_count:
        return
    raise InvalidPlan(
        f"{report.problem_count} of {facts.document_count} rows cannot be rendered",
        faults=[
            _row_fault(problem.row_index, problem.problem, facts.members)
            for problem in report.problems[:PROBLEMS_SHOWN]
        ],
    )


def _row_fault(index: int, problem: str, members: Sequence[MemberFacts]) -> Fault:
    """The row as the member's own file counts it, where a group is run."""
    for member in members:
        if member.start <= index < member.stop:
            return Fault(f"{member.task}: {problem}", row=index - member.start)
    return Fault(problem, row=index)


def _field(option: str) -> str:
    name, separator, rest = option.partition(".")
    prefix = "" if name == "column_mapping" else "options."
    return f"{prefix}{FIELDS.get(name, name)}{separator}{rest}"

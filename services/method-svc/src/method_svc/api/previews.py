"""``/methods/preview`` and ``/methods/{method_id}/preview``."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field, JsonValue, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from assay_chassis.guard import GuardedRoute, needs
from assay_chassis.identity import Role
from assay_chassis.web import PageModel, problems
from assay_harness.results import Document, FewshotSource, RequestKind
from assay_harness.spec import Recipe, TaskOptions
from method_svc.api.parameters import Body, CheckedRecipe, Identifier, Opened, Shown
from method_svc.domain.previews import (
    MAX_PREVIEW_ROWS,
    FewshotOrigin,
    Preview,
    PreviewWish,
    RowSelection,
    RowSource,
)
from method_svc.domain.snapshots import Snapshot
from method_svc.errors import (
    IndexNotReady,
    InvalidMethod,
    MethodNotFound,
    PreviewTimedOut,
    VersionNotFound,
    faults_of_options,
)

router = APIRouter(route_class=GuardedRoute, tags=["methods"])

RowIndex = Annotated[int, Field(ge=0, lt=2**31)]


class Seeds(Body):
    """Seeds of a run; the defaults are lm-eval's."""

    random: int = Field(default=0, ge=0, lt=2**63)
    numpy: int = Field(default=1234, ge=0, lt=2**32)
    fewshot: int = Field(default=1234, ge=0, lt=2**63)


class PreviewOptions(Body):
    """Which rows to render, and the options of the run that decide their prompts."""

    dataset_id: Identifier | None = Field(default=None, description="its current snapshot is used")
    snapshot_id: Identifier | None = Field(default=None, description="in place of dataset_id")
    member_datasets: dict[str, Identifier] = Field(
        default_factory=dict, description="for a group: a member's own dataset, by the member's name"
    )
    fewshot_dataset_id: Identifier | None = Field(
        default=None, description="draw examples from its current snapshot"
    )
    fewshot_snapshot_id: Identifier | None = Field(default=None, description="in place of fewshot_dataset_id")
    member_fewshot_datasets: dict[str, Identifier] = Field(
        default_factory=dict, description="for a group: where a member's examples are drawn from"
    )
    offset: RowIndex = Field(default=0, description="first row")
    rows: int = Field(default=3, ge=1, le=MAX_PREVIEW_ROWS, description="how many rows")
    row_indices: list[RowIndex] | None = Field(
        default=None, min_length=1, max_length=MAX_PREVIEW_ROWS, description="in place of offset and rows"
    )
    column_mapping: dict[str, str] = Field(
        default_factory=dict, description="column that the recipe reads to the dataset's column that holds it"
    )
    num_fewshot: int | None = Field(default=None, description="the task's own number if left out")
    system_instruction: str | None = Field(default=None, min_length=1, max_length=100_000)
    apply_chat_template: bool = Field(default=False, description="ask in chat turns")
    fewshot_as_multiturn: bool = Field(
        default=True, description="in chat turns: one turn for each example and answer"
    )
    generation_kwargs: dict[str, JsonValue] = Field(default_factory=dict)
    repeats: int | None = Field(default=None, description="the task's own number if left out")
    seeds: Seeds = Field(default_factory=Seeds)

    @model_validator(mode="after")
    def _sources(self) -> "PreviewOptions":
        rows = (self.dataset_id, self.snapshot_id, self.member_datasets or None)
        if len(rows) - rows.count(None) != 1:
            raise PydanticCustomError(
                "source", "name either dataset_id or snapshot_id, or for a group member_datasets"
            )
        examples = (self.fewshot_dataset_id, self.fewshot_snapshot_id, self.member_fewshot_datasets or None)
        if len(examples) - examples.count(None) > 1:
            raise PydanticCustomError(
                "source",
                "name at most one of fewshot_dataset_id, fewshot_snapshot_id and member_fewshot_datasets",
            )
        return self

    def wish(self, recipe: Recipe) -> PreviewWish:
        """What this asks for; raises InvalidMethod for options that the harness does not take."""
        named = self.row_indices is not None
        indices = sorted(set(self.row_indices or range(self.offset, self.offset + self.rows)))
        return PreviewWish(
            recipe=recipe,
            options=self._task_options(),
            rows=RowSelection(indices=tuple(indices), named=named),
            dataset_id=self.dataset_id,
            snapshot_id=self.snapshot_id,
            fewshot_dataset_id=self.fewshot_dataset_id,
            fewshot_snapshot_id=self.fewshot_snapshot_id,
            member_datasets=self.member_datasets,
            member_fewshot_datasets=self.member_fewshot_datasets,
        )

    def _task_options(self) -> TaskOptions:
        try:
            return TaskOptions(
                num_fewshot=self.num_fewshot,
                repeats=self.repeats,
                generation_kwargs=self.generation_kwargs,
                column_mapping=self.column_mapping,
                system_instruction=self.system_instruction,
                apply_chat_template=self.apply_chat_template,
                fewshot_as_multiturn=self.fewshot_as_multiturn,
                random_seed=self.seeds.random,
                numpy_seed=self.seeds.numpy,
                fewshot_seed=self.seeds.fewshot,
            )
        except ValidationError as error:
            raise InvalidMethod(faults_of_options(error)) from None


class PreviewRequest(PreviewOptions):
    """A recipe and what to render with it."""

    recipe: CheckedRecipe


class RenderedRequest(Shown):
    """One call to a model."""

    index: int = Field(description="position among the row's requests")
    repeat: int
    kind: RequestKind
    prompt: str = Field(description="what the model reads; with a chat template the turns as JSON text")
    messages: list[dict[str, str]] | None = Field(description="the chat turns, where a chat template is used")
    continuation: str = Field(description="the text whose probability is asked for; empty for `generate`")
    generation_kwargs: dict[str, JsonValue]


class RenderedRow(Shown):
    """A row as the recipe would ask it, with the hashes that a run records for it."""

    index: int = Field(description="position of the row, from 0; over all members of a group")
    task: str = Field(description="the task that the row belongs to")
    row: dict[str, JsonValue] = Field(description="what the task sees of the row")
    prompt: str
    messages: list[dict[str, str]] | None
    target: str
    doc_hash: str
    prompt_hash: str
    target_hash: str
    requests: list[RenderedRequest]


class SnapshotReferenceModel(Shown):
    """A snapshot whose rows are used."""

    dataset_id: str
    dataset_name: str
    snapshot_id: str
    split: str


class RowSourceModel(BaseModel):
    """Where the rows of a task, and its few-shot examples, come from."""

    task: str = Field(description="the member of a group; empty where there is only one task")
    evaluation: SnapshotReferenceModel
    fewshot: SnapshotReferenceModel | None = Field(description="rows set aside for examples")
    fewshot_origin: FewshotOrigin = Field(
        description="`companion`: the few-shot split that was ingested with the rows"
    )


class DeviationModel(Shown):
    """One thing in which a run differs from the task's own definition."""

    field: str
    task_value: JsonValue
    run_value: JsonValue
    message: str


class PreviewModel(PageModel):
    """Rendered rows, and what decides how they look."""

    items: list[RenderedRow]
    total: int = Field(description="rows that there are")
    sources: list[RowSourceModel]
    num_fewshot: int
    fewshot_source: FewshotSource
    fewshot_canonical: bool = Field(description="whether the examples come from where the task says")
    fewshot_pool_size: int = Field(description="rows that examples are drawn from")
    deviations: list[DeviationModel] = Field(
        description="what keeps the numbers of such a run from being the task's own"
    )


@router.post(
    "/methods/preview",
    openapi_extra=needs(Role.VIEWER),
    summary="Render rows",
    responses=problems(InvalidMethod, IndexNotReady, PreviewTimedOut),
)
async def preview(body: PreviewRequest, services: Opened) -> PreviewModel:
    """Rows of a dataset as the recipe would ask them, rendered by lm-eval itself as a run renders them."""
    return _shown(await services.previews.preview(body.wish(body.recipe)))


@router.post(
    "/methods/{method_id}/preview",
    openapi_extra=needs(Role.VIEWER),
    summary="Render rows with a method",
    responses=problems(MethodNotFound, VersionNotFound, InvalidMethod, IndexNotReady, PreviewTimedOut),
)
async def preview_of_method(
    method_id: str,
    body: PreviewOptions,
    services: Opened,
    version: Annotated[int | None, Query(description="the newest if left out")] = None,
) -> PreviewModel:
    """The same for a method that is defined already."""
    methods = services.methods
    saved = await (methods.method(method_id) if version is None else methods.version(method_id, version))
    return _shown(await services.previews.preview(body.wish(saved.recipe)))


def _shown(rendered: Preview) -> PreviewModel:
    facts = rendered.facts
    return PreviewModel(
        items=[_row(document, task=document.task or facts.task) for document in rendered.documents],
        total=facts.document_count,
        sources=[_source(source) for source in rendered.sources],
        num_fewshot=facts.num_fewshot,
        fewshot_source=facts.fewshot_source,
        fewshot_canonical=facts.fewshot_canonical,
        fewshot_pool_size=facts.fewshot_pool_size,
        deviations=[DeviationModel.model_validate(deviation) for deviation in facts.deviations],
    )


def _row(document: Document, *, task: str) -> RenderedRow:
    requests = [
        RenderedRequest(
            index=request.index,
            repeat=request.repeat,
            kind=request.kind,
            prompt=request.context,
            messages=request.messages,
            continuation=request.continuation,
            generation_kwargs=request.generation_kwargs,
        )
        for request in document.requests
    ]
    first = requests[0] if requests else None
    return RenderedRow(
        index=document.index,
        task=task,
        row=document.doc,
        prompt=first.prompt if first else "",
        messages=first.messages if first else None,
        target=document.target,
        doc_hash=document.doc_hash,
        prompt_hash=document.prompt_hash,
        target_hash=document.target_hash,
        requests=requests,
    )


def _source(source: RowSource) -> RowSourceModel:
    return RowSourceModel(
        task=source.task,
        evaluation=_reference(source.evaluation),
        fewshot=None if source.fewshot is None else _reference(source.fewshot),
        fewshot_origin=source.fewshot_origin,
    )


def _reference(snapshot: Snapshot) -> SnapshotReferenceModel:
    return SnapshotReferenceModel(
        dataset_id=snapshot.dataset_id,
        dataset_name=snapshot.dataset_name,
        snapshot_id=snapshot.id,
        split=snapshot.split,
    )

"""``/methods/form``."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from assay_chassis.errors import Fault, InvalidRequest
from assay_chassis.guard import GuardedRoute, needs
from assay_chassis.identity import Role
from assay_chassis.web import problems
from method_svc.api.parameters import Opened, Shown
from method_svc.api.tasks import TaskModel
from method_svc.domain.forms import Form, Widget
from method_svc.domain.guesses import GuessBasis
from method_svc.domain.snapshots import SourceKind
from method_svc.domain.templates import TemplateName
from method_svc.errors import IndexNotReady, InvalidMethod, TaskNotFound

router = APIRouter(route_class=GuardedRoute, tags=["methods"])


class ChoiceModel(Shown):
    """A value to choose, and what it is."""

    value: str
    hint: str


class SearchModel(Shown):
    """Where values are searched: GET `endpoint` with what is typed as `query_parameter`."""

    endpoint: str
    query_parameter: str
    value: str = Field(description="field of a found item that is the value")
    parameters: dict[str, str] = Field(description="further query parameters")


class FormFieldModel(Shown):
    """How one field is shown."""

    path: str = Field(description="dotted path in the body, as a refusal names it")
    label: str
    widget: Widget
    help: str
    advanced: bool = Field(description="may be folded away: its default does")
    choices: list[ChoiceModel] = Field(
        description="values to offer; see the schema whether others are allowed"
    )
    search: SearchModel | None
    placeholders: list[str] = Field(description="names that a `template` may hold between `{{` and `}}`")


class UiModel(BaseModel):
    """Hints for drawing the form."""

    fields: list[FormFieldModel] = Field(description="in the order in which they are shown")
    preview: str = Field(description="POST the recipe with a dataset there to see rendered rows")
    submit: str = Field(description="POST the filled-in document there")


class GuessModel(Shown):
    """A guessed value with its reason."""

    field: str
    value: str | None = Field(description="null where nothing fits")
    basis: GuessBasis
    reason: str


class ColumnMappingModel(Shown):
    """Which column of the rows holds what a task reads; for `column_mapping` of a preview or a run."""

    complete: bool | None = Field(
        description="whether every column was found; null where only the task's code knows its columns"
    )
    reason: str
    guesses: list[GuessModel] = Field(description="one for each column that the task reads")
    mapping: dict[str, str] = Field(description="what to send: only names that differ")
    choices: list[ChoiceModel]


class OfferModel(Shown):
    """A template as it is offered for these rows."""

    template: TemplateName
    title: str
    fits: bool
    reason: str


class SourceModel(BaseModel):
    """The rows that the form is for."""

    dataset_id: str
    dataset_name: str
    snapshot_id: str
    kind: SourceKind
    split: str
    rows: int


class FormModel(BaseModel):
    """What a client needs to draw the form of a method."""

    model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True)

    template: TemplateName
    title: str
    description: str
    source: SourceModel
    templates: list[OfferModel] = Field(description="every template, the one to offer first first")
    fits: bool
    reason: str
    body_schema: dict[str, Any] = Field(
        alias="schema", description="JSON Schema (draft 2020-12) of the body of `POST /v1/methods`"
    )
    ui: UiModel
    defaults: dict[str, Any] = Field(description="that body as far as it is known; only its name is missing")
    guesses: list[GuessModel] = Field(description="which of the defaults were guessed, and why")
    task: TaskModel | None = Field(description="the task that was named, or guessed from the source")
    column_mapping: ColumnMappingModel | None = Field(description="null without a task")


@router.get(
    "/methods/form",
    openapi_extra=needs(Role.VIEWER),
    summary="Get the form of a method",
    responses=problems(InvalidMethod, TaskNotFound, IndexNotReady),
)
async def get_form(
    services: Opened,
    template: Annotated[
        TemplateName | None, Query(description="the one to offer first for these rows if left out")
    ] = None,
    dataset_id: Annotated[str | None, Query(max_length=100, pattern=r"^[A-Za-z0-9_]+$")] = None,
    snapshot_id: Annotated[str | None, Query(max_length=100, pattern=r"^[A-Za-z0-9_]+$")] = None,
    task: Annotated[
        str | None,
        Query(max_length=200, description="a task: shows where its columns are found in the rows"),
    ] = None,
) -> FormModel:
    """The fields of a method for a dataset's rows, with guessed defaults and the reason of each guess."""
    if (dataset_id is None) == (snapshot_id is None):
        message = "name either dataset_id or snapshot_id"
        raise InvalidRequest(message, faults=[Fault(message=message, field="dataset_id")])
    return _shown(
        await services.forms.form(
            template=template, dataset_id=dataset_id, snapshot_id=snapshot_id, task=task
        )
    )


def _shown(form: Form) -> FormModel:
    snapshot = form.snapshot
    return FormModel(
        template=form.template,
        title=form.title,
        description=form.description,
        source=SourceModel(
            dataset_id=snapshot.dataset_id,
            dataset_name=snapshot.dataset_name,
            snapshot_id=snapshot.id,
            kind=snapshot.kind,
            split=snapshot.split,
            rows=snapshot.rows,
        ),
        templates=[OfferModel.model_validate(offer) for offer in form.offers],
        fits=form.fits,
        reason=form.reason,
        body_schema=form.schema,
        ui=UiModel(
            fields=[FormFieldModel.model_validate(field) for field in form.fields],
            preview="/v1/methods/preview",
            submit="/v1/methods",
        ),
        defaults=form.defaults,
        guesses=[GuessModel.model_validate(guess) for guess in form.guesses],
        task=None if form.task is None else TaskModel.model_validate(form.task),
        column_mapping=(
            None if form.column_mapping is None else ColumnMappingModel.model_validate(form.column_mapping)
        ),
    )

"""Templates, tasks, methods, forms, previews."""

from typing import Any

from pydantic import Field

from assay.models.documents import Document, NamedDocument


class TemplateParameter(Document):
    """What a method of a template must or may say."""

    name: str
    required: bool = False
    default: Any = None
    description: str = ""


class Template(Document):
    """A kind of method."""

    name: str
    title: str
    description: str = ""
    parameters: list[TemplateParameter] = Field(default_factory=list)


class Task(Document):
    """A name of lm-eval's index: a task, or a group of tasks; ``reason`` says what its status means."""

    name: str
    kind: str = "task"
    status: str = ""
    reason: str = ""
    output_type: str | None = None
    num_fewshot: int | None = None
    splits: dict[str, str] = Field(default_factory=dict)
    columns: list[str] | None = None
    members: list[str] = Field(default_factory=list)
    needs_log_probabilities: bool = False
    refusal: str | None = None


class TaskPage(Document):
    """Tasks, the closest names first; without any, ``suggestions`` are names that may have been meant."""

    items: list[Task]
    suggestions: list[str] = Field(default_factory=list)


class Method(NamedDocument):
    """An evaluation method in one of its versions."""

    version: int
    description: str = ""
    recipe: dict[str, Any]
    recipe_hash: str = ""
    created_at: str


class Guess(Document):
    """A guessed value and why it was guessed."""

    field: str
    value: str | None = None
    basis: str = ""
    reason: str = ""


class Choice(Document):
    """A value to choose and what it is."""

    value: str
    hint: str = ""


class FormField(Document):
    """How one field of a form is shown; ``path`` is its dotted path in the body that defines a method."""

    path: str
    label: str
    widget: str = "text"
    help: str = ""
    advanced: bool = False
    choices: list[Choice] = Field(default_factory=list)


class FormHints(Document):
    """The fields of a form in the order in which they are shown."""

    fields: list[FormField] = Field(default_factory=list)


class Offer(Document):
    """A template as it is offered for some rows."""

    template: str
    title: str = ""
    fits: bool = True
    reason: str = ""


class ColumnMapping(Document):
    """Which column holds what a task reads; ``mapping`` is what a preview or a run has to be told."""

    complete: bool | None = None
    reason: str = ""
    guesses: list[Guess] = Field(default_factory=list)
    mapping: dict[str, str] = Field(default_factory=dict)


class Form(Document):
    """The form of a method for some rows; ``defaults`` is the body that defines it but for its name."""

    template: str
    title: str
    source: dict[str, Any]
    templates: list[Offer] = Field(default_factory=list)
    fits: bool
    reason: str = ""
    ui: FormHints = Field(default_factory=FormHints)
    defaults: dict[str, Any]
    guesses: list[Guess] = Field(default_factory=list)
    task: Task | None = None
    column_mapping: ColumnMapping | None = None


class RenderedRow(Document):
    """A row as the method would ask it; the hashes are those that a run records."""

    index: int = 0
    task: str = ""
    row: Any = None
    prompt: str
    messages: list[dict[str, Any]] | None = None
    target: str
    prompt_hash: str = ""
    requests: list[dict[str, Any]] = Field(default_factory=list)


class RowSource(Document):
    """Where the rows of a preview, and its few-shot examples, come from."""

    task: str = ""
    evaluation: dict[str, Any] = Field(default_factory=dict)
    fewshot: dict[str, Any] | None = None
    fewshot_origin: str = ""


class Deviation(Document):
    """One thing in which a run differs from the task's own definition."""

    field: str
    task_value: Any = None
    run_value: Any = None
    message: str = ""


class Preview(Document):
    """Rendered rows of ``total``, and what decides how they look."""

    items: list[RenderedRow]
    total: int | None = None
    sources: list[RowSource] = Field(default_factory=list)
    num_fewshot: int = 0
    fewshot_source: str = "none"
    fewshot_canonical: bool = True
    deviations: list[Deviation] = Field(default_factory=list)

"""Builds the forms: what the recipes' own schemas say, plus what a snapshot's columns and source suggest."""

from collections.abc import Mapping, Sequence
from typing import Any

from assay_harness.index import IndexEntry
from method_svc.domain.forms import (
    Choice,
    ColumnMapping,
    Form,
    FormField,
    Offer,
    Search,
    TaskChoice,
    Widget,
)
from method_svc.domain.guesses import (
    Guess,
    GuessBasis,
    guess_mapping,
    guess_question_and_answer,
    printable_first,
)
from method_svc.domain.methods import MAX_DESCRIPTION_CHARACTERS, NAME_PATTERN
from method_svc.domain.snapshots import Column, Snapshot, SourceKind
from method_svc.domain.templates import DESCRIPTIONS, TemplateName, template_of, templates

JSON_SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_EXAMPLE_CHARACTERS = 80


def offers_of(snapshot: Snapshot) -> tuple[Offer, ...]:
    """The templates for a snapshot, the best first: data of the Hub has tasks, an upload has columns."""
    questions, answers = guess_question_and_answer(snapshot.usable_columns, rows=snapshot.rows)
    fits = questions.value is not None and answers.value is not None
    if fits:
        reason = "the rows have columns for an input and an expected output"
    else:
        count = len(printable_first(snapshot.usable_columns))
        reason = (
            "it compares an input with an expected output, and needs two columns of text, numbers or flags; "
            f"the rows have {count}"
        )
    by_name = {
        TemplateName.BUILTIN: (
            True,
            "standard data has a task of lm-eval"
            if snapshot.kind is SourceKind.HUGGINGFACE
            else "for rows that have the columns of a task of lm-eval",
        ),
        TemplateName.JSONL_QA: (fits, reason),
    }
    order = [TemplateName.BUILTIN, TemplateName.JSONL_QA]
    if snapshot.kind is SourceKind.JSONL:
        order.reverse()
    order.sort(key=lambda name: not by_name[name][0])
    titles = {template.name: template.title for template in templates()}
    return tuple(
        Offer(template=name, title=titles[name], fits=by_name[name][0], reason=by_name[name][1])
        for name in order
    )


def question_answer_form(snapshot: Snapshot) -> Form:
    """The form of the JSONL QA template: which columns, and the prompt around them."""
    columns = printable_first(snapshot.usable_columns)
    choices = tuple(_column_choice(column) for column in columns)
    prompt = Guess(
        "recipe.prompt_template",
        "{{input}}",
        GuessBasis.CONVENTION,
        "the input as it is; write around it what the model should be told",
    )
    guesses = (*guess_question_and_answer(snapshot.usable_columns, rows=snapshot.rows), prompt)
    names = ["input", *(column.name for column in columns if column.name != guesses[1].value)]
    own = (
        FormField(
            path="recipe.input_field",
            label="Input field",
            widget=Widget.SELECT,
            help=DESCRIPTIONS["input_field"],
            choices=choices,
        ),
        FormField(
            path="recipe.expected_output_field",
            label="Expected output field",
            widget=Widget.SELECT,
            help=DESCRIPTIONS["expected_output_field"],
            choices=choices,
        ),
        FormField(
            path="recipe.prompt_template",
            label="Prompt template",
            widget=Widget.TEMPLATE,
            help=DESCRIPTIONS["prompt_template"],
            placeholders=tuple(dict.fromkeys(names)),
        ),
        _advanced("max_tokens", "Longest answer (tokens)", Widget.NUMBER),
        _advanced("stop", "Stop texts", Widget.LIST),
        _advanced("target_delimiter", "Between question and answer of an example", Widget.TEXT),
        _advanced("fewshot_delimiter", "Between examples", Widget.TEXT),
    )
    offer = _offer(snapshot, TemplateName.JSONL_QA)
    schema = _schema(TemplateName.JSONL_QA, fields=own, guesses=guesses)
    return _form(snapshot, offer, schema=schema, fields=own, guesses=guesses)


def builtin_form(snapshot: Snapshot, choice: TaskChoice) -> Form:
    """The form of the built-in template: which task; with one, where its columns are found."""
    own = (
        FormField(
            path="recipe.task",
            label="Task",
            widget=Widget.SEARCH,
            help=DESCRIPTIONS["task"],
            choices=choice.candidates,
            search=Search(
                endpoint="/v1/tasks", query_parameter="query", value="name", parameters={"status": "ok"}
            ),
        ),
    )
    mapping = None if choice.entry is None else column_mapping(snapshot, choice)
    offer = _fit_of_task(_offer(snapshot, TemplateName.BUILTIN), choice, mapping)
    guesses = () if choice.guess is None else (choice.guess,)
    schema = _schema(TemplateName.BUILTIN, fields=own, guesses=guesses)
    named = {} if choice.entry is None else {"task": choice.entry.name}
    return _form(
        snapshot,
        offer,
        schema=schema,
        fields=own,
        guesses=guesses,
        named=named,
        task=choice.entry,
        mapping=mapping,
    )


def column_mapping(snapshot: Snapshot, choice: TaskChoice) -> ColumnMapping:
    """Where the columns of the chosen task are found."""
    entries = choice.members or ((choice.entry,) if choice.entry else ())
    choices = tuple(_column_choice(column) for column in snapshot.usable_columns)
    wanted = [name for entry in entries for name in entry.columns or ()]
    if any(entry.columns is None for entry in entries) and not wanted:
        reason = (
            "only the task's own code knows which columns it reads; a preview shows whether they are there"
        )
        return ColumnMapping(complete=None, reason=reason, choices=choices)
    guesses = tuple(guess_mapping(wanted, snapshot.usable_columns, rows=snapshot.rows))
    missing = [guess.field for guess in guesses if guess.value is None]
    if missing:
        reason = f"nothing was found for {', '.join(map(repr, missing))}; name the columns before a run"
    elif all(guess.value == guess.field for guess in guesses):
        reason = "the rows have every column that the task reads, under its own name"
    else:
        reason = "some columns have other names than the task's; send this mapping with a preview or a run"
    return ColumnMapping(complete=not missing, reason=reason, guesses=guesses, choices=choices)


def _fit_of_task(offer: Offer, choice: TaskChoice, mapping: ColumnMapping | None) -> Offer:
    entry = choice.entry
    if entry is None:
        return offer
    if entry.refusal:
        reason = f"task {entry.name!r} cannot be run here: {entry.refusal}"
        return Offer(template=offer.template, title=offer.title, fits=False, reason=reason)
    fits = mapping is None or mapping.complete is not False
    reason = offer.reason if mapping is None else mapping.reason
    return Offer(template=offer.template, title=offer.title, fits=fits, reason=reason)


def _form(
    snapshot: Snapshot,
    offer: Offer,
    *,
    schema: dict[str, Any],
    fields: Sequence[FormField],
    guesses: Sequence[Guess],
    named: Mapping[str, str] | None = None,
    task: IndexEntry | None = None,
    mapping: ColumnMapping | None = None,
) -> Form:
    template = template_of(offer.template)
    recipe: dict[str, Any] = {"template": str(offer.template)}
    recipe |= {
        parameter.name: parameter.default for parameter in template.parameters if not parameter.required
    }
    recipe |= {
        guess.field.removeprefix("recipe."): guess.value for guess in guesses if guess.value is not None
    }
    recipe |= named or {}
    return Form(
        template=offer.template,
        title=template.title,
        description=template.description,
        snapshot=snapshot,
        offers=offers_of(snapshot),
        fits=offer.fits,
        reason=offer.reason,
        schema=schema,
        fields=_all_fields(fields),
        defaults={"description": "", "dataset_id": _dataset_to_check(snapshot, mapping), "recipe": recipe},
        guesses=tuple(guesses),
        task=task,
        column_mapping=mapping,
    )


def _dataset_to_check(snapshot: Snapshot, mapping: ColumnMapping | None) -> str | None:
    """The dataset to check a new method against; none while columns of it are yet to be mapped."""
    unmapped = mapping is not None and (mapping.mapping or mapping.complete is False)
    return None if unmapped else snapshot.dataset_id


def _all_fields(own: Sequence[FormField]) -> tuple[FormField, ...]:
    """The fields of a template between those that every method has."""
    titles = tuple(Choice(value=str(template.name), hint=template.title) for template in templates())
    name = FormField(
        path="name", label="Name", widget=Widget.TEXT, help="letters, digits and . _ -, at most 100"
    )
    template = FormField(
        path="recipe.template",
        label="Evaluation Method template",
        widget=Widget.SELECT,
        help="which evaluation approach to use; another one has another form",
        choices=titles,
    )
    simple = [one for one in own if not one.advanced]
    description = FormField(
        path="description", label="Description", widget=Widget.TEXTAREA, help="what the method is for"
    )
    dataset = FormField(
        path="dataset_id",
        label="Dataset",
        widget=Widget.HIDDEN,
        help="the recipe is checked against its columns",
    )
    return (name, template, *simple, description, *(one for one in own if one.advanced), dataset)


def _schema(
    template: TemplateName, *, fields: Sequence[FormField], guesses: Sequence[Guess]
) -> dict[str, Any]:
    """The schema of the whole body, from the recipe's own."""
    described = template_of(template)
    recipe = described.recipe.model_json_schema()
    properties: dict[str, Any] = recipe["properties"]
    # Which template it is decides the form: it is no default but a condition.
    properties["template"] = {"const": str(template), "title": "Evaluation Method template"}
    for one in fields:
        own = properties[one.path.removeprefix("recipe.")]
        own |= {"title": one.label, "description": one.help}
        if one.widget is Widget.SELECT and one.choices:
            own["enum"] = [choice.value for choice in one.choices]
    for guess in guesses:
        if guess.value is not None:
            properties[guess.field.removeprefix("recipe.")]["default"] = guess.value
    return {
        "$schema": JSON_SCHEMA_DIALECT,
        "title": described.title,
        "description": described.description,
        "type": "object",
        "additionalProperties": False,
        "required": ["name", "recipe"],
        "properties": {
            "name": {"type": "string", "pattern": NAME_PATTERN, "title": "Name"},
            "description": {
                "type": "string",
                "maxLength": MAX_DESCRIPTION_CHARACTERS,
                "default": "",
                "title": "Description",
            },
            "dataset_id": {"type": ["string", "null"], "title": "Dataset"},
            "recipe": {
                "type": "object",
                "additionalProperties": False,
                "required": ["template", *recipe.get("required", ())],
                "properties": properties,
            },
        },
    }


def _advanced(name: str, label: str, widget: Widget) -> FormField:
    return FormField(
        path=f"recipe.{name}", label=label, widget=widget, help=DESCRIPTIONS[name], advanced=True
    )


def _offer(snapshot: Snapshot, template: TemplateName) -> Offer:
    return next(offer for offer in offers_of(snapshot) if offer.template is template)


def _column_choice(column: Column) -> Choice:
    example = str(column.examples[0]) if column.examples else ""
    shown = example if len(example) <= _EXAMPLE_CHARACTERS else f"{example[: _EXAMPLE_CHARACTERS - 1]}…"
    return Choice(value=column.name, hint=f"{column.type}: {shown}" if shown else column.type)

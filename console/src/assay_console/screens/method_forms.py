"""From the API's form of a method to drawn fields, and from what a browser sends back to the API's body.

Which fields there are, of which kind, with which choices, limits and defaults is all the API's; here is only
how a value is written in a text field and read from it.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from assay.models import Fault, Form, Guess
from assay.models.methods import FormField
from assay_console.gateway import ApiError

TASK = "recipe.task"
TEMPLATE = "recipe.template"
MAPPING_PREFIX = "column_mapping."
MAPPING_TASK = "mapping_task"
NUM_FEWSHOT = "preview.num_fewshot"
OFFSET = "preview.offset"
_QUOTED_HELP = "as it is, or in double quotes, where \\n is a line break"


@dataclass(frozen=True, slots=True)
class Option:
    """A value of a select and how it reads."""

    value: str
    text: str


@dataclass(frozen=True, slots=True)
class DrawnField:
    """A field as the page shows it.

    Attributes:
        path: its name in the form, which is its dotted path in the body and in refusals.
        label, help, widget, advanced, placeholders: as the API has them.
        value: what stands in it, as text.
        options: of a select.
        attributes: HTML attributes from the schema's limits.
        fault: why the platform refused what stood in it.
        reason: why its default was guessed, while that stands in it.
        is_optional: whether it is usually left empty.
    """

    path: str
    label: str
    help: str
    widget: str
    advanced: bool
    value: str
    options: Sequence[Option]
    placeholders: Sequence[str]
    attributes: Mapping[str, str]
    fault: str | None
    reason: str | None
    is_optional: bool

    @property
    def key(self) -> str:
        """The path as a part of HTML ids."""
        return key_of(self.path)

    @property
    def decides_prompts(self) -> bool:
        """Whether a preview depends on it."""
        return self.path.startswith("recipe.")


@dataclass(frozen=True, slots=True)
class MappedColumn:
    """A column that a task reads, and the column of the rows that is taken for it."""

    column: str
    chosen: str
    reason: str
    options: Sequence[Option]
    fault: str | None

    @property
    def path(self) -> str:
        """Its name in the form."""
        return f"{MAPPING_PREFIX}{self.column}"


def key_of(path: str) -> str:
    """A field's path as it can stand in an id and in a selector."""
    return re.sub(r"[^A-Za-z0-9]+", "-", path)


def drawn_fields(
    form: Form, values: Mapping[str, str], *, recipe: Mapping[str, Any], error: ApiError | None
) -> Sequence[DrawnField]:
    """The visible fields in the API's order.

    Args:
        form: the API's form.
        values: what the browser sent, by path; wins over the rest.
        recipe: of the version that is edited; wins over the form's defaults.
        error: a refusal whose faults stand at their fields.
    """
    reasons = {guess.field: guess for guess in form.guesses}
    return [
        _drawn(one, form, values=values, recipe=recipe, error=error, guess=reasons.get(one.path))
        for one in form.ui.fields
        if one.widget != "hidden"
    ]


def mapped_columns(
    form: Form, values: Mapping[str, str], *, error: ApiError | None = None
) -> Sequence[MappedColumn]:
    """The columns that the form's task reads, each with what is chosen for it: empty where nothing is."""
    mapping = form.column_mapping
    if mapping is None or form.task is None:
        return ()
    choices = (mapping.model_extra or {}).get("choices", ())
    options = [
        Option("", "Choose a column"),
        *(Option(one["value"], _described(one["value"], one["hint"])) for one in choices),
    ]
    is_current = values.get(MAPPING_TASK) == form.task.name
    return [
        MappedColumn(
            column=guess.field,
            chosen=values.get(f"{MAPPING_PREFIX}{guess.field}", "") if is_current else guess.value or "",
            reason=guess.reason,
            options=options,
            fault=_fault_at(f"{MAPPING_PREFIX}{guess.field}", error),
        )
        for guess in mapping.guesses
    ]


def mapping_of(columns: Sequence[MappedColumn]) -> dict[str, str]:
    """What a preview is told: only the columns that have other names."""
    return {one.column: one.chosen for one in columns if one.chosen not in ("", one.column)}


def body_of(form: Form, values: Mapping[str, str], *, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The body that defines the method. What cannot be read is sent as it is, for the platform to refuse."""
    own = {**form.defaults.get("recipe", {}), **_known(form, recipe), "template": form.template}
    body: dict[str, Any] = {**form.defaults, "recipe": own}
    for one in form.ui.fields:
        if one.widget == "hidden" or one.path == TEMPLATE or one.path not in values:
            continue
        target, name = (
            (own, one.path.removeprefix("recipe.")) if one.path.startswith("recipe.") else (body, one.path)
        )
        text = values[one.path]
        if text == "" and one.widget in ("number", "list") and "default" in schema_of(form, one.path):
            target[name] = [] if one.widget == "list" else schema_of(form, one.path)["default"]
        else:
            target[name] = _read(one, text)
    body["name"] = str(body.get("name", "")).strip()
    return body


def at_fields(error: ApiError, fields: Sequence[str]) -> ApiError:
    """The error with every fault at the field of the page that it belongs to: stop.0 at stop."""

    def moved(fault: Fault) -> Fault:
        sent = {"num_fewshot": NUM_FEWSHOT, "offset": OFFSET}.get(fault.field or "", fault.field or "")
        at = next((name for name in fields if sent == name or sent.startswith(f"{name}.")), None)
        return fault if at is None else fault.model_copy(update={"field": at})

    faults = [moved(fault) for fault in error.faults]
    return ApiError(error.status, error.problem.model_copy(update={"errors": faults}))


def schema_of(form: Form, path: str) -> Mapping[str, Any]:
    """The schema of a field of the body."""
    found: Any = (form.model_extra or {}).get("schema", {})
    for name in path.split("."):
        found = found.get("properties", {}).get(name, {})
    return dict(found)


def is_required(form: Form, path: str) -> bool:
    """Whether the schema asks for a value."""
    parent, _, name = path.rpartition(".")
    holder = schema_of(form, parent) if parent else (form.model_extra or {}).get("schema", {})
    return name in holder.get("required", ())


def written(value: Any) -> str:
    """A text in which white space matters: in quotes where it could not be seen or kept, else as it is."""
    text = str(value)
    is_plain = text.strip() == text and text.isprintable() and not text.startswith('"') and text != ""
    return text if is_plain else json.dumps(text, ensure_ascii=False)


def read_exactly(text: str) -> str:
    """The inverse of ``written``; what only begins like a quoted text is taken as it is."""
    if len(text) >= 2 and text[0] == text[-1] == '"':
        try:
            return str(json.loads(text))
        except ValueError:
            return text
    return text


def _drawn(
    one: FormField,
    form: Form,
    *,
    values: Mapping[str, str],
    recipe: Mapping[str, Any],
    error: ApiError | None,
    guess: Guess | None,
) -> DrawnField:
    default = _text_of(one, _default(form, one.path, recipe))
    value = form.template if one.path == TEMPLATE else values.get(one.path, default)
    placeholders = (one.model_extra or {}).get("placeholders", ())
    # What comes from the edited version is no guess.
    is_guessed = guess is not None and guess.value == value and not _known(form, recipe)
    return DrawnField(
        path=one.path,
        label=one.label,
        help=_help(one),
        widget=one.widget,
        advanced=one.advanced,
        value=value,
        options=_options(one, form, value),
        placeholders=placeholders,
        attributes=_attributes(form, one),
        fault=_fault_at(one.path, error),
        is_optional=not is_required(form, one.path) and default == "",
        reason=guess.reason if guess is not None and is_guessed else None,
    )


def _default(form: Form, path: str, recipe: Mapping[str, Any]) -> Any:
    found: Any = {**form.defaults, "recipe": {**form.defaults.get("recipe", {}), **_known(form, recipe)}}
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _known(form: Form, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The edited recipe, where it is one of this template."""
    is_same = recipe.get("template") == form.template
    # A task that was asked for by the address wins over that of the edited version.
    named = {"task": form.task.name} if form.task is not None and "task" in recipe else {}
    return {**recipe, **named} if is_same else {}


def _options(one: FormField, form: Form, value: str) -> Sequence[Option]:
    if one.path == TEMPLATE:
        fits = {offer.template: offer.fits for offer in form.templates}
        return [
            Option(
                choice.value, choice.hint if fits.get(choice.value, True) else f"{choice.hint} (does not fit)"
            )
            for choice in one.choices
        ]
    if one.widget != "select":
        return ()
    options = [Option(choice.value, _described(choice.value, choice.hint)) for choice in one.choices]
    if value not in {option.value for option in options}:
        options.insert(0, Option(value, f"{value} (not in this dataset)" if value else "Choose a column"))
    return options


def _described(value: str, hint: str) -> str:
    return f"{value} – {hint}" if hint else value


def _attributes(form: Form, one: FormField) -> dict[str, str]:
    schema = schema_of(form, one.path)
    names = {"maxLength": "maxlength", "minimum": "min", "maximum": "max"}
    found = {attribute: str(schema[name]) for name, attribute in names.items() if name in schema}
    if _is_exact(one) or one.widget == "list":
        found.pop("maxlength", None)  # of the text itself, not of its quoted form
    elif one.widget == "text" and "pattern" in schema:
        # Browsers read patterns by stricter rules: a hyphen in brackets needs a backslash.
        found |= {"pattern": re.sub(r"-\]", r"\\-]", schema["pattern"]), "title": one.help}
    if is_required(form, one.path):
        found["required"] = ""
    return found


def _is_exact(one: FormField) -> bool:
    return one.widget == "text" and one.path.startswith("recipe.")


def _text_of(one: FormField, value: Any) -> str:
    if value is None:
        return ""
    if one.widget == "list":
        return "\n".join(written(item) for item in value)
    return written(value) if _is_exact(one) else str(value)


def _read(one: FormField, text: str) -> Any:
    if one.widget == "number":
        return int(text) if re.fullmatch(r"-?[0-9]{1,15}", text.strip()) else text
    # Browsers send line ends of text areas as CR LF, whatever was typed.
    lines = text.replace("\r\n", "\n")
    if one.widget == "list":
        return [read_exactly(line) for line in lines.split("\n") if line != ""]
    if one.widget == "search":
        return lines.strip()
    return read_exactly(lines) if _is_exact(one) else lines


def _help(one: FormField) -> str:
    """The API's help, and how a value is written here."""
    match one.widget:
        case "list":
            return _sentence(f"{one.help}; one a line, {_QUOTED_HELP}")
        case "search":
            # The rest tells programs what to call; the page calls it.
            return f"{_sentence(one.help.partition(';')[0])} Type to search."
        case _:
            return _sentence(f"{one.help}; {_QUOTED_HELP}" if _is_exact(one) else one.help)


def _fault_at(path: str, error: ApiError | None) -> str | None:
    messages = [fault.message for fault in error.faults if fault.field == path] if error else []
    return "; ".join(messages) or None


def _sentence(text: str) -> str:
    """The API's phrase as a sentence of a page."""
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '?', '!')) else '.'}" if text else ""

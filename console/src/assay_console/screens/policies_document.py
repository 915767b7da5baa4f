"""The document of a policy, as people write it: from YAML or JSON to values and places in it, and back."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import yaml

from assay.models import Fault, Policy, Problem
from assay_console.gateway import ApiError

LONGEST = 100_000
"""Characters of a document; the platform's own limits leave room for far fewer."""

DEEPEST = 20
"""Values inside values: a policy has three, and the parser's time grows with the square of them."""

_STORED = frozenset({"id", "version", "digest", "created_at", "created_by"})
_UNICODE_LINE_END = re.compile("[\x85\u2028\u2029]")
_VALUE_ERROR = "Value error, "
_WHOLE = "body"


@dataclass(frozen=True, slots=True)
class PolicyDocument:
    """What a document says.

    Attributes:
        values: JSON values by name.
        places: line and column, from 1, of every value by its dotted path, such as ``quality.0.margin``.
    """

    values: Mapping[str, Any]
    places: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def located(self, error: ApiError) -> ApiError:
        """The same refusal; each fault tells the line of what it is about, as far as the document has it."""
        faults = [self._located(fault) for fault in error.faults]
        return ApiError(error.status, error.problem.model_copy(update={"errors": faults}))

    def fault(self, path: str, message: str) -> Fault:
        """A fault of the value at a path."""
        return self._located(Fault(message=message, field=path))

    def _located(self, fault: Fault) -> Fault:
        path = fault.field or ""
        message = fault.message.removeprefix(_VALUE_ERROR)
        named = f"{path}: {message}" if path not in ("", _WHOLE) else message
        # Of what is missing, its nearest surrounding has a place.
        while path and path not in self.places:
            path = path.rpartition(".")[0]
        line, column = self.places.get(path, (None, None))
        return fault.model_copy(update={"message": named, "line": line, "column": column})


def read_document(text: str) -> PolicyDocument:
    """Values and places of YAML, of which JSON is a part.

    Raises ApiError (422), whose faults name line and column.
    """
    if len(text) > LONGEST:
        raise refusal([Fault(message=f"The document has more than {LONGEST:,} characters.")])
    # YAML takes no tabs before values; in JSON they can be nothing else than space between them.
    source = text.replace("\t", " ") if text.lstrip().startswith("{") else text
    loader: _Loader | None = None
    try:
        loader = _Loader(source)
        root = loader.get_single_node()
        if not isinstance(root, yaml.MappingNode):
            raise refusal([Fault(message="The document holds no names and values, such as “name: strict”.")])
        places: dict[str, tuple[int, int]] = {}
        values = _values(loader, root, path="", places=places)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = {} if mark is None else {"line": mark.line + 1, "column": mark.column + 1}
        raise refusal([Fault(message=f"This is no YAML: {error.problem}.", **place)]) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise refusal([Fault(message=f"This is no YAML: {error}.")]) from error
    finally:
        if loader is not None:
            loader.dispose()
    return PolicyDocument(values=values, places=places)


def refusal(faults: Sequence[Fault], *, status: int = 422) -> ApiError:
    """A refusal of the document, as the platform would word it."""
    return ApiError(status, Problem(title="The policy is not valid", status=status, errors=list(faults)))


def document_of(policy: Policy) -> str:
    """A stored policy as the YAML that would make it."""
    values = {
        name: value
        for name, value in policy.document().items()
        if name not in _STORED and value not in (None, "")
    }
    for rules in ("quality", "runtime"):
        values[rules] = [
            {name: value for name, value in rule.items() if value is not None}
            for rule in values.get(rules, [])
        ]
    text: str = yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return text


def example_document() -> str:
    """A policy with comments, to start from; without how the command line takes it."""
    text = (files("assay") / "policy_example.yaml").read_text(encoding="utf-8")
    head, separator, rest = text.partition("\nname:")
    kept = [line for line in head.splitlines() if line != "#" and not line.startswith("#   assay")]
    return "\n".join(kept) + separator + rest


class _Loader(yaml.SafeLoader):
    """Refuses aliases, of which a few lines unfold into more than any machine holds, and endless nesting."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.constructor.ConstructorError(
                None, None, "a policy has no aliases; write the value itself", event.start_mark
            )
        if self._depth == DEEPEST:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.constructor.ConstructorError(None, None, "a policy is not nested so deeply", mark)
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


class _Dumper(yaml.SafeDumper):
    """Writes what ``_Loader`` reads as it was."""


def _text_node(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    # Line ends that only Unicode has would be read as spaces, where they are not escaped.
    return dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style='"' if _UNICODE_LINE_END.search(text) else None
    )


_Dumper.add_representer(str, _text_node)
# Numbers of JSON that YAML 1.1 takes for texts, since they have no point: 5e-2.
for _part in (_Loader, _Dumper):
    _part.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
    )


def _values(loader: _Loader, node: yaml.Node, *, path: str, places: dict[str, tuple[int, int]]) -> Any:
    if path and path not in places:
        places[path] = (node.start_mark.line + 1, node.start_mark.column + 1)
    if isinstance(node, yaml.MappingNode):
        return {
            name: _values(loader, value, path=_joined(path, name), places=places)
            for name, value in _distinct(node, path=path, places=places)
        }
    if isinstance(node, yaml.SequenceNode):
        return [
            _values(loader, value, path=_joined(path, str(index)), places=places)
            for index, value in enumerate(node.value)
        ]
    return _scalar(loader, node)


def _distinct(
    node: yaml.MappingNode, *, path: str, places: dict[str, tuple[int, int]]
) -> Iterator[tuple[str, yaml.Node]]:
    """The pairs of a mapping; notes where each name stands."""
    known: set[str] = set()
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(None, None, "a name must be a text", key.start_mark)
        name = str(key.value)
        if name in known:
            message = f"{name!r} is given twice; keep one"
            raise yaml.constructor.ConstructorError(None, None, message, key.start_mark)
        known.add(name)
        places[_joined(path, name)] = (key.start_mark.line + 1, key.start_mark.column + 1)
        yield name, value


def _scalar(loader: _Loader, node: yaml.Node) -> str | int | float | bool | None:
    value = loader.construct_object(node)
    if isinstance(value, float) and not math.isfinite(value):
        raise yaml.constructor.ConstructorError(None, None, "this is no finite number", node.start_mark)
    # What only looks like a date is the text that was written.
    return value if value is None or isinstance(value, str | int | float) else str(node.value)


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name

"""What a task that is written as a Python class reads and asks for, found in its file without running it."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_ROLES = ("training", "validation", "test")


@dataclass(frozen=True, slots=True)
class ClassFacts:
    """A task's class as its file describes it.

    `splits` maps roles to the names of splits that its methods read; `columns` are the fields of a document
    that it reads by name; `request_types` what it asks a model for; `loads_rows` says that the file has rows
    loaded in a way of its own.
    """

    dataset_path: str
    dataset_name: str
    version: str
    splits: dict[str, str]
    columns: list[str]
    request_types: list[str]
    loads_rows: bool

    @property
    def output_type(self) -> str:
        """The kind of its requests, under lm-eval's name; "mixed" where one document makes several."""
        return self.request_types[0] if len(self.request_types) == 1 else "mixed"


def scan_class(path: Path, name: str) -> ClassFacts | None:
    """Describe the class of a task; None where the file does not define it."""
    tree = ast.parse(path.read_bytes())
    found = next((node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name), None)
    if found is None:
        return None
    constants = {key: str(value) for key, value in _constants(found) if value is not None}
    methods = [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return ClassFacts(
        dataset_path=constants.get("DATASET_PATH", ""),
        dataset_name=constants.get("DATASET_NAME", ""),
        version=constants.get("VERSION", ""),
        splits=dict(_splits(found)),
        columns=sorted({key for node in ast.walk(found) for key in _subscript(node, of="doc")}),
        request_types=sorted(set(_request_types(found))),
        loads_rows="download" in methods,
    )


def _constants(found: ast.ClassDef) -> Iterator[tuple[str, object]]:
    """Yield the constants that the class's body assigns."""
    for node in found.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            yield from (
                (target.id, node.value.value) for target in node.targets if isinstance(target, ast.Name)
            )


def _splits(found: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """Yield each role with the split that the method of its documents reads."""
    for node in found.body:
        if isinstance(node, ast.FunctionDef) and node.name in {f"{role}_docs" for role in _ROLES}:
            for inner in ast.walk(node):
                yield from ((node.name.removesuffix("_docs"), key) for key in _subscript(inner, of="dataset"))


def _subscript(node: ast.AST, *, of: str) -> Iterator[str]:
    """Yield the constant text by which a variable or attribute of this name is subscripted."""
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        owner = node.value
        name = owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", "")
        if name == of and isinstance(node.slice.value, str):
            yield node.slice.value


def _request_types(found: ast.ClassDef) -> Iterator[str]:
    """Yield the kinds of requests that the class constructs."""
    for node in ast.walk(found):
        if (
            isinstance(node, ast.keyword)
            and node.arg == "request_type"
            and isinstance(node.value, ast.Constant)
        ):
            yield str(node.value.value)

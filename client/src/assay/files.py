"""Files that the client writes and reads."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from assay.errors import RequestRefused


def check_writable(path: Path) -> None:
    """Refuse a file that could not be written later. Raises RequestRefused."""
    if path.is_dir():
        raise RequestRefused(f"{path} is a directory; name a file")
    if not path.absolute().parent.is_dir():
        raise RequestRefused(f"{path} cannot be written: there is no directory {path.absolute().parent}")


def replace_file(path: Path, write: Callable[[BinaryIO], None]) -> int:
    """Write a file as a whole, or leave what is there as it is; return its size in bytes.

    Raises RequestRefused where it cannot be written; whatever ``write`` raises goes on.
    """
    check_writable(path)
    try:
        descriptor, scratch = tempfile.mkstemp(dir=path.absolute().parent, prefix=f".{path.name}.")
    except OSError as error:
        raise RequestRefused(f"{path} cannot be written: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            write(file)
            written = file.tell()
        # The scratch file is private; what a user asks for is readable as other files are.
        os.chmod(scratch, 0o666 & ~_umask())
        os.replace(scratch, path)
    except OSError as error:
        raise RequestRefused(f"{path} cannot be written: {error.strerror}") from error
    finally:
        Path(scratch).unlink(missing_ok=True)
    return written


def read_mapping(path: Path) -> dict[str, Any]:
    """A JSON or YAML file that holds one mapping, as JSON values. Raises RequestRefused naming the place."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RequestRefused(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RequestRefused(f"{path} is no text in UTF-8") from error
    values = _from_json(path, text) if path.suffix == ".json" else _from_yaml(path, text)
    if not isinstance(values, dict):
        raise RequestRefused(f"{path} does not hold names and values; `assay policy example` prints some")
    try:
        json.dumps(values, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise RequestRefused(f"{path} holds a value that JSON does not have: {error}") from error
    return values


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _from_json(path: Path, text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=lambda pairs: _distinct(path, pairs))
    except json.JSONDecodeError as error:
        message = f"{path} is no JSON: line {error.lineno}, column {error.colno}: {error.msg}"
        raise RequestRefused(message) from error


def _from_yaml(path: Path, text: str) -> Any:
    # Only the one command that reads a file of the user's needs it.
    import yaml

    class Loader(yaml.SafeLoader):
        """Refuses a name that is given twice, of which YAML would take the last one without a word."""

    def mapping(loader: Loader, node: yaml.MappingNode) -> dict[str, Any]:
        pairs = [
            (loader.construct_object(name, deep=True), loader.construct_object(value, deep=True))
            for name, value in node.value
        ]
        return _distinct(path, pairs, place=f"line {node.start_mark.line + 1}: ")

    Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    try:
        return yaml.load(text, Loader=Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: "
        raise RequestRefused(f"{path} is no YAML: {where}{error.problem}") from error
    # A date that is none is a ValueError.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RequestRefused(f"{path} is no YAML: {error}") from error


def _distinct(path: Path, pairs: list[tuple[Any, Any]], *, place: str = "") -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in pairs:
        if not isinstance(name, str):
            raise RequestRefused(f"{path}: {place}{name!r} is no text, as a name must be; put it in quotes")
        if name in values:
            raise RequestRefused(f"{path}: {place}{name!r} is given twice; keep one")
        values[name] = value
    return values

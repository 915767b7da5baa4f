"""Fingerprints of a built-in task: its resolved definition and every file behind it."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import lm_eval
from lm_eval.tasks._yaml_loader import load_yaml

PACKAGE_ROOT = Path(lm_eval.__file__).parent.resolve()


def unresolved_config(yaml_path: Path) -> dict[str, Any]:
    """Load a task's YAML with its includes merged and functions left as text, relative to the package."""
    config: dict[str, Any] = load_yaml(yaml_path, resolve_func=False)
    relative = relative_references(config)
    if not isinstance(relative, dict):
        raise TypeError(f"{yaml_path.name} does not hold a mapping")
    return relative


def config_sha256(config: Mapping[str, Any]) -> str:
    """Hash a config as canonical JSON; functions enter by their names, anything else by its text."""
    text = json.dumps(config, sort_keys=True, ensure_ascii=False, default=_name)
    return hashlib.sha256(text.encode()).hexdigest()


def _name(value: object) -> str:
    """Return what a value that is no JSON is known by, the same in every process."""
    return f"{value.__module__}.{getattr(value, '__qualname__', '')}" if callable(value) else str(value)


def file_digests(yaml_path: Path) -> dict[str, str]:
    """Hash the YAML file, its includes and the modules that it names, by path relative to the package."""
    paths = sorted(set(_yaml_files(yaml_path)) | set(function_modules(unresolved_config(yaml_path))))
    return {
        path.relative_to(PACKAGE_ROOT).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
    }


def function_modules(config: object) -> Iterator[Path]:
    """Yield the Python files inside the package that an unresolved config names through `!function`."""
    yield from (path for path, _ in function_references(config))


def function_references(config: object) -> Iterator[tuple[Path, str]]:
    """Yield the file and the function's name behind each `!function` of an unresolved config."""
    if isinstance(config, Mapping):
        config = list(config.values())
    if isinstance(config, list):
        for item in config:
            yield from function_references(item)
    elif isinstance(config, str) and config.startswith("tasks/") and "\n" not in config:
        module, _, function = config.rpartition(".")
        path = PACKAGE_ROOT / (module if module.endswith(".py") else f"{module}.py")
        if path.is_file():
            yield path.resolve(), function


def _yaml_files(path: Path) -> Iterator[Path]:
    """Yield a YAML file and what it includes, however deep."""
    path = path.resolve()
    yield path
    includes = load_yaml(path, resolve_func=False, recursive=False).get("include") or []
    for include in includes if isinstance(includes, list) else [includes]:
        yield from _yaml_files(path.parent / include)


def relative_references(value: object) -> object:
    """Make function references independent of where the package is installed."""
    if isinstance(value, dict):
        return {key: relative_references(item) for key, item in value.items()}
    if isinstance(value, list):
        return [relative_references(item) for item in value]
    if isinstance(value, str) and value.startswith(f"{PACKAGE_ROOT}/"):
        return value.removeprefix(f"{PACKAGE_ROOT}/")
    return value

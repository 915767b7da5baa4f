"""Reads the Python files behind tasks, without running them: what they import, what they would download."""

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay_harness.sources import function_modules, function_references


@dataclass(frozen=True, slots=True)
class ModuleFacts:
    """What one file does.

    `packages` are the top-level packages that importing it imports. `hub_functions` are the names of its
    functions and classes that load a metric from the hub, directly or through each other; `hub_at_import`
    says that importing the file does.
    """

    packages: frozenset[str]
    hub_functions: frozenset[str]
    hub_at_import: bool


class ModuleScanner:
    """Scans each file once."""

    def __init__(self, package_root: Path) -> None:
        self._root = package_root
        self._facts: dict[Path, ModuleFacts] = {}

    def packages(self, config: Mapping[str, Any]) -> list[str]:
        """Return the packages outside the standard library and lm-eval that the task's files import."""
        return sorted({name for path in function_modules(config) for name in self._scan(path).packages})

    def loads_from_hub(self, config: Mapping[str, Any]) -> bool:
        """Whether the task's files or the functions that it names load a metric's code from the hub."""
        for path, function in function_references(config):
            facts = self._scan(path)
            if facts.hub_at_import or function.partition(".")[0] in facts.hub_functions:
                return True
        return False

    def _scan(self, path: Path) -> ModuleFacts:
        """Return the facts of a file; one that cannot be parsed has none."""
        if path not in self._facts:
            self._facts[path] = ModuleFacts(frozenset(), frozenset(), False)
            try:
                tree = ast.parse(path.read_bytes())
            except (SyntaxError, ValueError):
                return self._facts[path]
            self._facts[path] = self._describe(tree, path)
        return self._facts[path]

    def _describe(self, tree: ast.Module, path: Path) -> ModuleFacts:
        """Collect a parsed file's facts, following imports of other task files."""
        packages: set[str] = set()
        loaders = _hub_loaders(tree)
        hub_at_import = any(
            _calls_hub(node, loaders) for node in tree.body if not isinstance(node, _DEFINITIONS)
        )
        for names in _imports(tree.body):
            found = [local for name in names if (local := self._local(name, path)) is not None]
            if not found:
                packages.add(names[0].partition(".")[0])
            # The function that older versions of datasets had for loading a metric from the hub.
            hub_at_import |= "datasets.load_metric" in names
            for facts in map(self._scan, found):
                packages |= facts.packages
                hub_at_import |= facts.hub_at_import
        return ModuleFacts(
            packages=frozenset(packages - set(sys.stdlib_module_names) - {"", "lm_eval"}),
            hub_functions=_hub_functions(tree, loaders),
            hub_at_import=hub_at_import,
        )

    def _local(self, module: str, importer: Path) -> Path | None:
        """Return the file of a module that is another task's or lies beside the importer."""
        relative = module.replace(".", "/") + ".py"
        for candidate in (self._root.parent / relative, importer.parent / relative):
            if candidate.is_file() and (self._root / "tasks") in candidate.parents:
                return candidate.resolve()
        return None


_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def _imports(body: list[ast.stmt]) -> Iterator[list[str]]:
    """Yield what importing a file needs, each as the module and, deeper, the names taken from it.

    What stands under `if`, or under a `try` that goes on without it, is optional and left out.
    """
    for node in body:
        if isinstance(node, ast.Import):
            yield from ([alias.name] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Try) and any(_raises(handler) for handler in node.handlers):
            yield from _imports(node.body)


def _raises(handler: ast.ExceptHandler) -> bool:
    """Whether a failed import is reported as an error instead of being lived with."""
    return any(isinstance(node, ast.Raise) for node in ast.walk(handler))


def _hub_loaders(tree: ast.Module) -> frozenset[str]:
    """Return the names by which a file calls the function that loads a metric from the hub."""
    names = {"evaluate.load", "hf_evaluate.load"}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "evaluate":
            names |= {alias.asname or alias.name for alias in node.names if alias.name == "load"}
    return frozenset(names)


def _calls_hub(tree: ast.AST, loaders: frozenset[str]) -> bool:
    """Whether one of the loaders is called anywhere below a node."""
    return any(isinstance(node, ast.Call) and ast.unparse(node.func) in loaders for node in ast.walk(tree))


def _hub_functions(tree: ast.Module, loaders: frozenset[str]) -> frozenset[str]:
    """Return the top-level definitions that load from the hub, and those that mention them."""
    definitions = [node for node in tree.body if isinstance(node, _DEFINITIONS)]
    found = {node.name for node in definitions if _calls_hub(node, loaders)}
    grown = bool(found)
    while grown:
        mentions = {
            definition.name
            for definition in definitions
            for node in ast.walk(definition)
            if isinstance(node, ast.Name) and node.id in found
        }
        grown = not mentions <= found
        found |= mentions
    return frozenset(found)

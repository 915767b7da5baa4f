"""Few-shot examples from the evaluated rows themselves: never a row that asks the same as the prompt."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lm_eval.api.samplers import FirstNSampler
from lm_eval.api.task import ConfigurableTask


class ExcludingSampler:
    """A task's own sampler, whose draws are repeated where an example has the text of the prompt's own row.

    lm-eval leaves out rows that are equal in every column. Two rows that differ in a column which no prompt
    shows would give the answer away; here they count as the same.
    """

    def __init__(self, task: ConfigurableTask, inner: Any) -> None:
        self._task = task
        self._inner = inner
        self._hashes: dict[int, int] = {}

    @property
    def df(self) -> Sequence[Mapping[str, Any]]:
        """The rows to draw from, under lm-eval's name."""
        rows: Sequence[Mapping[str, Any]] = self._inner.df
        return rows

    def set_rnd(self, seed: int | None) -> "ExcludingSampler":
        """Start the draws over."""
        self._inner.set_rnd(seed)
        return self

    def sample(
        self, n: int, eval_doc: Mapping[str, Any] | None = None, **options: object
    ) -> Sequence[Mapping[str, Any]]:
        """Draw `n` examples for a prompt; raises ValueError where too few rows differ from it."""
        drawn: Sequence[Mapping[str, Any]] = self._inner.sample(n, eval_doc=eval_doc, **options)
        if eval_doc is None:
            return drawn
        asked = hash(self._render(eval_doc))
        if all(self._hash(row) != asked for row in drawn):
            return drawn
        others = [row for row in self._inner.fewshot_docs() if self._hash(row) != asked]
        if len(others) < n:
            raise ValueError(f"only {len(others)} rows differ from this one; {n} examples cannot be drawn")
        if isinstance(self._inner, FirstNSampler):
            return others[:n]
        again: Sequence[Mapping[str, Any]] = self._inner.rnd.sample(others, n)
        return again

    def _hash(self, row: Mapping[str, Any]) -> int:
        """Hash the text of a row to draw from, rendered once: the sampler keeps these very objects."""
        key = id(row)
        if key not in self._hashes:
            self._hashes[key] = hash(self._render(row))
        return self._hashes[key]

    def _render(self, row: Mapping[str, Any]) -> str:
        """Return what a prompt shows of a row: its text, or its choices where these are the text."""
        text = self._task.doc_to_text(row)
        if not isinstance(text, str) or not text.strip():
            text = json.dumps(self._task.doc_to_choice(row)) if self._task.config.doc_to_choice else str(text)
        return " ".join(text.split())

"""A row as a model would be asked it: the prompt with its examples told apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from assay.models import Preview, RenderedRow
from assay_console.gateway import ApiError, Gateway

_ORIGINS = {
    "evaluation_rows": "the evaluated rows, each left out of its own prompt",
    "task": "the task's own definition",
}


@dataclass(frozen=True, slots=True)
class Example:
    """A few-shot example: the text that asks, and the answer up to the next one."""

    asked: str
    answered: str


@dataclass(frozen=True, slots=True)
class PromptParts:
    """A prompt in parts that make it up again when they are put together.

    ``is_apart`` is whether the examples could be told from the question; where not, all is in ``question``.
    """

    opening: str
    examples: Sequence[Example]
    question: str
    is_apart: bool = True


@dataclass(frozen=True, slots=True)
class ShownPreview:
    """One row of a preview.

    Attributes:
        preview: all that the API said.
        row: the row.
        parts: its prompt.
        answers: the texts whose probabilities are asked for; empty where the model writes its answer.
        previous, following: index of the rows beside it, if there are such.
    """

    preview: Preview
    row: RenderedRow
    parts: PromptParts
    answers: Sequence[str]
    previous: int | None
    following: int | None

    @property
    def few_shot(self) -> str:
        """How many examples the prompt holds, and from where."""
        preview = self.preview
        if preview.num_fewshot == 0:
            return "no examples"
        number = "1 example" if preview.num_fewshot == 1 else f"{preview.num_fewshot} examples"
        rows = [source.fewshot for source in preview.sources if source.fewshot]
        named = dict.fromkeys(f"{one.get('dataset_name')}, split {one.get('split')}" for one in rows)
        origin = "; ".join(named) or _ORIGINS.get(preview.fewshot_source, preview.fewshot_source)
        return f"{number} from {origin}"


async def shown_preview(
    api: Gateway, path: str, body: Mapping[str, Any], *, offset: int, version: int | None = None
) -> ShownPreview:
    """Render the row at ``offset``.

    Args:
        api: the API.
        path: the preview of a recipe or of a method.
        body: what to render; without rows.
        offset: index of the row.
        version: of a method that is defined already.

    Raises:
        ApiError: the platform refuses it; faults name fields of ``body``.
    """
    asked = {**body, "offset": offset, "rows": 1}
    query = {"version": version}
    preview = await api.post(path, Preview, body=asked, query=query)
    row = preview.items[0]
    turns: Sequence[Mapping[str, Any]] = ()
    if preview.num_fewshot and row.messages is None:
        turns = await _turns(api, path, asked, query=query)
    total = preview.total or 0
    return ShownPreview(
        preview=preview,
        row=row,
        parts=prompt_parts(row.prompt, turns, examples=preview.num_fewshot),
        answers=list(
            dict.fromkeys(str(one["continuation"]) for one in row.requests if one.get("continuation"))
        ),
        previous=row.index - 1 if row.index > 0 else None,
        following=row.index + 1 if row.index + 1 < total else None,
    )


async def _turns(
    api: Gateway, path: str, asked: Mapping[str, Any], *, query: Mapping[str, int | None]
) -> Sequence[Mapping[str, Any]]:
    """The same row in chat turns, one for each example and each answer: this tells where each begins."""
    body = {**asked, "apply_chat_template": True, "fewshot_as_multiturn": True}
    try:
        preview = await api.post(path, Preview, body=body, query=query)
    except ApiError as error:
        if error.is_refusal:
            return ()  # not every task can be asked in turns
        raise
    return preview.items[0].messages or ()


def prompt_parts(prompt: str, turns: Sequence[Mapping[str, Any]], *, examples: int) -> PromptParts:
    """Find in ``prompt`` where each turn begins.

    Args:
        prompt: the prompt as one text.
        turns: what is asked and answered, in turns, the question last; may be empty.
        examples: how many examples the prompt holds.
    """
    whole = PromptParts(opening="", examples=(), question=prompt, is_apart=examples == 0)
    texts = [str(turn.get("content", "")) for turn in turns if turn.get("role") != "system"]
    if examples == 0 or len(texts) != 2 * examples + 1:
        return whole
    begins: list[int] = []
    position = 0
    for text in texts:
        begin = prompt.find(text.strip(), position)
        if begin < 0:
            return whole
        begins.append(begin)
        position = begin + len(text.strip())
    found = [
        Example(
            prompt[begins[2 * one] : begins[2 * one + 1]], prompt[begins[2 * one + 1] : begins[2 * one + 2]]
        )
        for one in range(examples)
    ]
    return PromptParts(opening=prompt[: begins[0]], examples=found, question=prompt[begins[-1] :])

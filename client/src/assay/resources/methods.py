"""``/v1/templates``, ``/v1/tasks`` and ``/v1/methods``."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from assay.models import Form, Method, Page, Preview, Task, TaskPage, Template
from assay.resources.datasets import Datasets
from assay.resources.named import NamedResources
from assay.transport import Transport


class Tasks:
    """lm-eval's tasks."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def search(self, query: str | None = None, *, statuses: Sequence[str] = (), limit: int = 50) -> TaskPage:
        """Tasks and groups whose name or tags hold the words of ``query``; only with one of ``statuses``."""
        return self._transport.get(
            "/v1/tasks", TaskPage, query={"query": query, "status": list(statuses), "limit": limit}
        )

    def get(self, name: str) -> Task:
        """One task or group; raises NotFound with the nearest names."""
        return self._transport.get(f"/v1/tasks/{name}", Task)


class Methods(NamedResources[Method]):
    """How answers are asked for and judged."""

    path = "/v1/methods"
    prefix = "mth"
    kind = "method"
    listing = "assay method list"

    def __init__(self, transport: Transport, *, datasets: Datasets) -> None:
        super().__init__(transport, Method)
        self._datasets = datasets

    def templates(self) -> Iterator[Template]:
        """The templates that a method can be made of."""
        return iter(self._transport.get("/v1/templates", Page[Template]).items)

    def form(self, dataset: str, *, template: str | None = None, task: str | None = None) -> Form:
        """The fields of a method for a dataset's rows, with guessed defaults and the reason of each guess."""
        query = {"dataset_id": self._datasets.get(dataset).id, "template": template, "task": task}
        return self._transport.get("/v1/methods/form", Form, query=query)

    def create(
        self,
        name: str,
        recipe: Mapping[str, Any],
        *,
        description: str = "",
        dataset: str | None = None,
    ) -> Method:
        """Define a method. With ``dataset`` it is also checked that it fits that dataset's columns."""
        body: dict[str, Any] = {"name": name, "recipe": dict(recipe), "description": description}
        if dataset is not None:
            body["dataset_id"] = self._datasets.get(dataset).id
        return self._transport.post("/v1/methods", Method, body=body)

    def create_version(
        self, reference: str, recipe: Mapping[str, Any], *, description: str | None = None
    ) -> Method:
        """Give a method a new version; the old ones stay as they are."""
        body: dict[str, Any] = {"recipe": dict(recipe)}
        if description is not None:
            body["description"] = description
        return self._transport.post(f"/v1/methods/{self.get(reference).id}/versions", Method, body=body)

    def preview(
        self,
        method: str | Mapping[str, Any],
        dataset: str | None = None,
        *,
        version: int | None = None,
        fewshot_dataset: str | None = None,
        member_datasets: Mapping[str, str] | None = None,
        member_fewshot_datasets: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Preview:
        """Rows of a dataset as a run would ask them.

        Args:
            method: name or id of a method, or a recipe that is not saved yet.
            dataset: whose rows; may be left out where every member of a group has its own.
            version: of the method; the newest if ``None``.
            fewshot_dataset: where few-shot examples are drawn from.
            member_datasets, member_fewshot_datasets: for a group: by member, in place of the above.
            options: those of the API: offset and rows or row_indices, column_mapping, num_fewshot,
                system_instruction, apply_chat_template, fewshot_as_multiturn, generation_kwargs, repeats,
                seeds.
        """
        body = {**options, **self._datasets.ids(dataset_id=dataset, fewshot_dataset_id=fewshot_dataset)}
        body |= self._datasets.member_ids(
            member_datasets=member_datasets, member_fewshot_datasets=member_fewshot_datasets
        )
        if not isinstance(method, str):
            body["recipe"] = dict(method)
            return self._transport.post("/v1/methods/preview", Preview, body=body, repeatable=True)
        path = f"/v1/methods/{self.get(method).id}/preview"
        return self._transport.post(path, Preview, body=body, query={"version": version}, repeatable=True)

"""The wizard of a new evaluation: dataset, evaluation method, then columns and options, and Run.

Where somebody is in it stands in the address; nothing is kept between its steps.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from assay.models import Artifact, Dataset, Method, Plan, PowerPlan, Run, Snapshot
from assay_console.gateway import ApiError, Gateway
from assay_console.pages import pages_of, path_of
from assay_console.screens.artifacts import backends_of
from assay_console.screens.name_search import name_search
from assay_console.screens.wizard_methods import Columns, columns_of, columns_of_all
from assay_console.screens.wizard_request import (
    ADVANCED,
    DEFAULTS,
    FIELDS,
    MAPPING,
    run_request,
    values_of,
    values_of_plan,
)
from assay_console.sign_in import EditorApi

router = APIRouter()

_CHOICES = 200
"""How many artifacts, datasets or snapshots a list to choose from has at most."""
_BASELINES = 50
_SHOWN = "shown"
"""Value of ``plan`` in the address with which a browser without scripts asks for the plan."""
_MEMBERS_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Chosen:
    """What has been chosen so far; ``clone_of`` is the run whose plan fills the fields.

    ``values`` are all fields as they are to be shown, by their names in the request.
    """

    values: Mapping[str, str]
    clone_of: str = ""

    def __getitem__(self, name: str) -> str:
        return self.values.get(name, "")

    @property
    def address(self) -> dict[str, str]:
        """The query that leads here again, without the step and without what the clone fills."""
        names = ("dataset_id", "method_id", "artifact_id")
        return {name: self[name] for name in names} | {"clone_of": self.clone_of}


@router.get("/evaluations/new", name="evaluation_new")
async def new(request: Request, api: EditorApi, step: str = "", cursor: str = "", name: str = "") -> Response:
    """The first step that is not done, or the one that is asked for."""
    chosen = await _chosen(api, request.query_params)
    done = 1 + (1 if chosen["dataset_id"] else 0) * (2 if chosen["method_id"] else 1)
    wanted = int(step) if step in ("1", "2", "3") else done
    match min(wanted, done):
        case 1:
            return await _select_dataset(request, api, chosen, done=done, cursor=cursor, name=name)
        case 2:
            return await _select_method(request, api, chosen, done=done, cursor=cursor)
    return await _options(request, api, chosen, is_planned=request.query_params.get("plan") == _SHOWN)


@router.post("/evaluations/new", name="evaluation_start")
async def start(request: Request, api: EditorApi) -> Response:
    """Run it, and go to the evaluation; or show the form again with what is wrong."""
    form = await request.form()
    chosen = _with_values(values_of(form), clone_of=str(form.get("clone_of", "")))
    try:
        run = await api.post(
            "/v1/evaluations",
            Run,
            body=run_request(chosen.values),
            idempotency_key=str(form.get("idempotency_key", "")) or None,
        )
    except ApiError as error:
        # A backend that does not answer is no reason to lose what was chosen.
        if not error.is_refusal and error.status != 503:
            raise
        return await _options(request, api, chosen, error=error)
    return RedirectResponse(path_of(request, "evaluation", run_id=run.id), 303)


@router.post("/evaluations/new/plan", name="evaluation_plan")
async def plan(request: Request, api: EditorApi) -> Response:
    """The effective plan of the form as it stands, as a part of the page."""
    chosen = _with_values(values_of(await request.form()))
    return pages_of(request).page(request, "wizard/plan.html", is_part=True, **await _planned(api, chosen))


async def _chosen(api: Gateway, query: Mapping[str, str]) -> Chosen:
    """From the address: the fields it names, over those of the plan of the run that is cloned."""
    named, clone_of = values_of(query), query.get("clone_of", "")
    if query.get("plan") == _SHOWN:
        # The whole form has been sent: what is empty in it was emptied.
        return _with_values(named, clone_of=clone_of)
    named.pop("name", None)
    if not clone_of:
        return _with_values(named)
    cloned = values_of_plan((await api.get(f"/v1/evaluations/{clone_of}", Run)).plan)
    if named.get("dataset_id", cloned["dataset_id"]) != cloned["dataset_id"]:
        of_rows = ("snapshot_id", "fewshot_snapshot_id", "member_datasets")
        cloned = _without(cloned, of_rows)
    if named.get("method_id", cloned["method_id"]) != cloned["method_id"]:
        cloned = _without(cloned, ("method_version", "member_datasets"))
    return _with_values(
        {**cloned, **{key: value for key, value in named.items() if value}}, clone_of=clone_of
    )


def _without(values: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    """The values without those and without the mapping of columns, which is of these rows and this method."""
    return {key: value for key, value in values.items() if key not in names and not key.startswith(MAPPING)}


def _with_values(values: Mapping[str, str], *, clone_of: str = "") -> Chosen:
    return Chosen(values={**DEFAULTS, **values}, clone_of=clone_of)


async def _select_dataset(
    request: Request, api: Gateway, chosen: Chosen, *, done: int, cursor: str, name: str
) -> Response:
    page = await api.page(
        "/v1/datasets",
        Dataset,
        cursor=cursor,
        limit=request.app.state.settings.page_size,
        query=name_search(name),
    )
    return pages_of(request).page(
        request,
        "wizard/dataset.html",
        chosen=chosen,
        steps=_steps(request, chosen),
        done=done,
        datasets=page.items,
        pages=_pages(request, chosen, step=1, next_cursor=page.next_cursor, cursor=cursor, name=name),
        cursor=cursor,
        name=name,
    )


async def _select_method(
    request: Request, api: Gateway, chosen: Chosen, *, done: int, cursor: str
) -> Response:
    size = request.app.state.settings.page_size
    dataset, page = await asyncio.gather(
        api.get(f"/v1/datasets/{chosen['dataset_id']}", Dataset),
        api.page("/v1/methods", Method, cursor=cursor, limit=size),
    )
    snapshot = await _snapshot(api, chosen, dataset)
    found = await columns_of_all(api, page.items, snapshot) if snapshot else ()
    offers = sorted(zip(page.items, found, strict=False), key=lambda offer: not offer[1].fits)
    return pages_of(request).page(
        request,
        "wizard/method.html",
        chosen=chosen,
        steps=_steps(request, chosen),
        done=done,
        dataset=dataset,
        snapshot=snapshot,
        offers=offers,
        has_methods=bool(page.items),
        pages=_pages(request, chosen, step=2, next_cursor=page.next_cursor, cursor=cursor),
        cursor=cursor,
    )


def _steps(request: Request, chosen: Chosen) -> str:
    """The address of a step but for its number, which is to be put behind it as ``step=``."""
    address = path_of(request, "evaluation_new", **chosen.address)
    return f"{address}{'&' if '?' in address else '?'}"


def _pages(
    request: Request, chosen: Chosen, *, step: int, next_cursor: str | None, cursor: str, name: str = ""
) -> Mapping[str, str | None]:
    """Where the next part of a step's list is, and its beginning for those who are further on."""
    here = {**chosen.address, "step": step}
    following = path_of(request, "evaluation_new", **here, name=name, cursor=next_cursor)
    first = path_of(request, "evaluation_new", **here) if cursor or name else None
    return {"next": following if next_cursor else None, "first": first}


async def _options(
    request: Request,
    api: Gateway,
    chosen: Chosen,
    *,
    is_planned: bool = False,
    error: ApiError | None = None,
) -> Response:
    """The third step: columns, options, and the plan where it was asked for."""
    dataset, method, newest, backends, offered = await asyncio.gather(
        api.get(f"/v1/datasets/{chosen['dataset_id']}", Dataset),
        _method(api, chosen),
        api.get(f"/v1/methods/{chosen['method_id']}", Method),
        backends_of(api),
        _offered(api, chosen),
    )
    snapshot = await _snapshot(api, chosen, dataset)
    columns = await _columns(api, method, snapshot)
    planned = await _planned(api, chosen) if is_planned else {}
    return pages_of(request).page(
        request,
        "wizard/options.html",
        status=error.status if error else 200,
        chosen=chosen,
        steps=_steps(request, chosen),
        values=chosen.values,
        dataset=dataset,
        snapshot=snapshot,
        method=method,
        versions=range(newest.version, 0, -1),
        columns=columns,
        mapping=_mapping(chosen, columns),
        backends={backend.backend: backend for backend in backends},
        offered=offered,
        fields=FIELDS,
        is_unfolded=_is_unfolded(chosen, error),
        idempotency_key=uuid4().hex,
        error=error,
        is_part=False,
        **planned,
    )


@dataclass(frozen=True, slots=True)
class Offered:
    """What the fields of the third step let choose from, the newest of each.

    ``snapshots`` are the dataset's, ``baselines`` finished runs of the same dataset and method.
    """

    artifacts: Sequence[Artifact]
    datasets: Sequence[Dataset]
    snapshots: Sequence[Snapshot]
    baselines: Sequence[Run]


async def _offered(api: Gateway, chosen: Chosen) -> Offered:
    artifacts, datasets, snapshots, runs = await asyncio.gather(
        _artifacts(api, chosen["artifact_id"]),
        api.page("/v1/datasets", Dataset, limit=_CHOICES),
        api.page(f"/v1/datasets/{chosen['dataset_id']}/snapshots", Snapshot, limit=_CHOICES),
        api.page(
            "/v1/evaluations",
            Run,
            limit=_BASELINES,
            query={"state": "Succeeded", "dataset_id": chosen["dataset_id"]},
        ),
    )
    return Offered(
        artifacts=artifacts,
        datasets=[one for one in datasets.items if one.current_snapshot is not None],
        snapshots=[one for one in snapshots.items if one.role == "evaluation"],
        baselines=[run for run in runs.items if run.plan.method.get("id") == chosen["method_id"]],
    )


async def _artifacts(api: Gateway, artifact_id: str) -> Sequence[Artifact]:
    """The artifacts to choose from, the chosen one among them however old it is."""
    found = (await api.page("/v1/artifacts", Artifact, limit=_CHOICES)).items
    if not artifact_id or any(artifact.id == artifact_id for artifact in found):
        return found
    return [*found, await api.get(f"/v1/artifacts/{artifact_id}", Artifact)]


async def _method(api: Gateway, chosen: Chosen) -> Method:
    """The method, in the version that is chosen."""
    path = f"/v1/methods/{chosen['method_id']}"
    version = chosen["method_version"]
    return await api.get(f"{path}/versions/{version}" if version.isdigit() else path, Method)


async def _snapshot(api: Gateway, chosen: Chosen, dataset: Dataset) -> Snapshot | None:
    """The rows that are chosen: a snapshot by name, else what the dataset has now, if it has anything."""
    current = dataset.current_snapshot
    if chosen["snapshot_id"] and (current is None or current.id != chosen["snapshot_id"]):
        return await api.get(f"/v1/snapshots/{chosen['snapshot_id']}", Snapshot)
    return current


async def _columns(api: Gateway, method: Method, snapshot: Snapshot | None) -> Columns:
    if snapshot is None:
        return Columns(fits=False, reason="the dataset has no data yet", wanted=())
    return await columns_of(api, method, snapshot)


def _mapping(chosen: Chosen, columns: Columns) -> Sequence[Mapping[str, Any]]:
    """The columns that the method reads, each with the dataset's column that is chosen for it."""
    return [
        {
            "name": wanted.name,
            "field": f"{MAPPING}{wanted.name}",
            "column": chosen[f"{MAPPING}{wanted.name}"] or wanted.column,
            "reason": wanted.reason,
        }
        for wanted in columns.wanted or ()
    ]


def _is_unfolded(chosen: Chosen, error: ApiError | None) -> bool:
    """Whether something in the advanced options is wrong, or not as it comes; a clone's need no attention."""
    is_changed = not chosen.clone_of and any(chosen[name] != DEFAULTS[name] for name in ADVANCED)
    return is_changed or (error is not None and any(fault.field in ADVANCED for fault in error.faults))


async def _planned(api: Gateway, chosen: Chosen) -> dict[str, Any]:
    """What the templates of the plan need: the plan and the planner's answer, or why there is none."""
    if not chosen["artifact_id"]:
        return {"plan": None, "refused": None, "power": None}
    backends = asyncio.ensure_future(backends_of(api))
    try:
        found = await api.post("/v1/evaluations/plan", Plan, body=run_request(chosen.values))
    except ApiError as error:
        await backends
        if error.status == 401:
            raise
        return {"plan": None, "refused": error, "power": None}
    power = await _power(api, found)
    backend = next((one for one in await backends if one.backend == found.artifact.get("backend")), None)
    return {
        "plan": found,
        "refused": None,
        "power": power,
        "backend": backend,
        "members_shown": _MEMBERS_SHOWN,
    }


async def _power(api: Gateway, plan: Plan) -> PowerPlan | None:
    """What so many samples show, with the churn that the method has shown before where it has."""
    samples = plan.power.samples if plan.power else None
    if not samples:
        return None
    question = {"samples": samples, "method_id": plan.method.get("id")}
    try:
        return await api.post("/v1/plan/power", PowerPlan, body=question)
    except ApiError as error:
        if error.status == 401:
            raise
        return _as_planned(plan)


def _as_planned(plan: Plan) -> PowerPlan | None:
    """The planner's answer that the plan itself holds, with an assumed churn."""
    power = plan.power
    if power is None or power.assumed_churn is None:
        return None
    return PowerPlan(
        churn=power.assumed_churn,
        churn_source="assumed",
        samples=power.samples,
        detectable_difference=power.detectable_difference,
        needed=power.needed,
        note=power.note,
    )

"""Decisions: the list, deciding under a policy, and one verdict with every reason."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from assay.models import Decision, Policy, Problem, Reason
from assay.rendering.comparison import subject_name
from assay.rendering.decision import verdict_line
from assay_console.downloads import download
from assay_console.gateway import ApiError, Gateway
from assay_console.pages import pages_of, path_of
from assay_console.sign_in import Api, EditorApi

router = APIRouter()

VERDICTS = ("ACCEPT", "REJECT", "INCONCLUSIVE")
FILES = {"report.html": "report.html", "report.md": "report.md", "evidence.zip": "bundle"}
"""Names of the files that are offered, and of the API's routes for them."""
EFFECTS: Mapping[str, str] = {
    "rejects": "Proven against it",
    "blocks": "Holds an ACCEPT back",
    "supports": "Speaks for it",
    "noted": "Noted, without effect",
}
"""What a reason does to the verdict, in the order in which it matters."""
_POLICIES = 200
_SHOWN_CHARACTERS = 300


@router.get("/decisions", name="decisions")
async def decisions(
    request: Request, api: Api, verdict: str = "", candidate_run_id: str = "", cursor: str = ""
) -> Response:
    """The list, newest first."""
    chosen = verdict if verdict in VERDICTS else ""
    page = await api.page(
        "/v1/decisions",
        Decision,
        cursor=cursor,
        limit=request.app.state.settings.page_size,
        query={"verdict": chosen, "candidate_run_id": candidate_run_id},
    )
    return pages_of(request).page(
        request,
        "decisions/list.html",
        decisions=page.items,
        subject_name=subject_name,
        verdicts=VERDICTS,
        asked={"verdict": chosen, "candidate_run_id": candidate_run_id},
        next_cursor=page.next_cursor,
        cursor=cursor,
    )


@router.get("/decisions/new", name="decision_new")
async def new(
    request: Request,
    api: EditorApi,
    baseline_run_id: str = "",
    candidate_run_id: str = "",
    policy: str = "default",
    noise_floor_run_id: str = "",
    cluster_column: str = "",
) -> Response:
    """The form that asks under which policy to decide."""
    values = {
        "baseline_run_id": baseline_run_id,
        "candidate_run_id": candidate_run_id,
        "policy": policy,
        "noise_floor_run_id": noise_floor_run_id,
        "cluster_column": cluster_column,
    }
    return await _form(request, api, values)


@router.post("/decisions", name="decision_create")
async def create(
    request: Request,
    api: EditorApi,
    baseline_run_id: Annotated[str, Form()] = "",
    candidate_run_id: Annotated[str, Form()] = "",
    policy: Annotated[str, Form()] = "default",
    noise_floor_run_id: Annotated[str, Form()] = "",
    cluster_column: Annotated[str, Form()] = "",
) -> Response:
    """Decide and go to the verdict, or show the form again with what is wrong."""
    values = {
        "baseline_run_id": baseline_run_id.strip(),
        "candidate_run_id": candidate_run_id.strip(),
        "policy": policy.strip(),
        "noise_floor_run_id": noise_floor_run_id.strip(),
        "cluster_column": cluster_column.strip(),
    }
    try:
        made = await api.post(
            "/v1/decisions", Decision, body={name: value for name, value in values.items() if value}
        )
    except ApiError as error:
        if not error.is_refusal:
            raise
        return await _form(request, api, values, error=error)
    return RedirectResponse(path_of(request, "decision", decision_id=made.id), 303)


@router.get("/decisions/{decision_id}", name="decision")
async def decision(request: Request, api: Api, decision_id: str) -> Response:
    """The verdict, its reasons and its evidence."""
    found = await api.get(f"/v1/decisions/{decision_id}", Decision)
    digest = found.bundle_digest.removeprefix("sha256:")
    filename = f"decision-{found.id}-evidence.zip"
    return pages_of(request).page(
        request,
        "decisions/verdict.html",
        decision=found,
        meaning=_meaning(found),
        base_name=subject_name(found.baseline, other=found.candidate),
        candidate_name=subject_name(found.candidate, other=found.baseline),
        reasons=_by_effect(found.reasons),
        effects=EFFECTS,
        evidence_of=_evidence,
        command=f"assay verify bundle {filename} --digest {digest}",
        digest=digest,
    )


@router.get("/decisions/{decision_id}/files/{name}", name="decision_file")
async def file(request: Request, api: Api, decision_id: str, name: str) -> Response:
    """The report, or the evidence bundle, to be saved."""
    if name not in FILES:
        raise ApiError(404, Problem(title="There is no such file", detail=f"Files: {', '.join(FILES)}."))
    return await download(
        api, f"/v1/decisions/{decision_id}/{FILES[name]}", filename=f"decision-{decision_id}-{name}"
    )


async def _form(
    request: Request, api: Gateway, values: Mapping[str, Any], *, error: ApiError | None = None
) -> Response:
    policies = await api.page("/v1/policies", Policy, limit=_POLICIES)
    choices = [(policy.name, f"{policy.name} (version {policy.version})") for policy in policies.items]
    if values["policy"] and values["policy"] not in {name for name, _ in choices}:
        choices.append((values["policy"], values["policy"]))  # an older version, or a mistake to be shown
    return pages_of(request).page(
        request,
        "decisions/new.html",
        status=error.status if error else 200,
        values=values,
        choices=choices,
        error=error,
    )


def _by_effect(reasons: Sequence[Reason]) -> Mapping[str, Sequence[Reason]]:
    """The reasons, those that matter most first."""
    found: dict[str, list[Reason]] = {effect: [] for effect in EFFECTS}
    for reason in reasons:
        found.setdefault(reason.effect, []).append(reason)
    return {effect: group for effect, group in found.items() if group}


def _meaning(decision: Decision) -> str:
    """What the verdict means, as a sentence; names of artifacts at its beginning stay as they are."""
    words = verdict_line(decision).plain.partition(": ")[2]
    is_plain = words.startswith(("the evidence", "nothing may"))
    return f"{words[:1].upper()}{words[1:]}." if is_plain else f"{words}."


def _evidence(reason: Reason) -> Sequence[tuple[str, str]]:
    """What a reason rests on, as names and texts."""
    found = [(name.replace("_", " "), _written(value)) for name, value in reason.details.items()]
    if reason.samples_needed is not None:
        found.append(("items needed", f"{reason.samples_needed:,}"))
    return [(name, text) for name, text in (*found, ("code", reason.code)) if text]


def _written(value: Any) -> str:
    """A value of the API's JSON on one line; nothing where there is none."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}".replace("-", "\N{MINUS SIGN}")
    if isinstance(value, list):
        return _clipped(", ".join(str(one) for one in value))
    return _clipped(value.replace("_", " ") if isinstance(value, str) else json.dumps(value))


def _clipped(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"

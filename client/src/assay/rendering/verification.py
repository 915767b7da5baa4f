"""The check of an evidence bundle as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from assay.rendering.text import MISSING, clean, counted, fields

if TYPE_CHECKING:  # statistics take longer to load than most commands take to run
    from assay_evidence.bundle import Verification
    from assay_evidence.decision import Judgement

SHOWN_NOTES = 20
"""Notes that are listed; the JSON document has all."""


def verification_document(found: Verification) -> dict[str, Any]:
    """The check as JSON values."""
    return {
        "verified": found.ok,
        "digest": found.digest,
        "expected_digest": found.expected_digest,
        "problems": [{"code": problem.code, "message": problem.message} for problem in found.problems],
        "notes": list(found.notes),
        "stored": None if found.stored is None else found.stored.model_dump(mode="json"),
        "recomputed": None if found.recomputed is None else found.recomputed.model_dump(mode="json"),
        "decision": found.manifest.get("decision"),
    }


def verification_report(found: Verification) -> RenderableType:
    """Whether a bundle verifies, what was checked, and what does not fit."""
    parts: list[RenderableType] = [_headline(found)]
    parts += [Text(clean(f"problem: {item.message}"), style="red") for item in found.problems]
    parts.append(fields(_lines(found)))
    parts += [Text(clean(f"note: {note}"), style="dim") for note in found.notes[:SHOWN_NOTES]]
    if len(found.notes) > SHOWN_NOTES:
        parts.append(Text(f"... and {len(found.notes) - SHOWN_NOTES} more notes", style="dim"))
    return Group(*parts)


def _headline(found: Verification) -> Text:
    if not found.ok:
        return Text("NOT VERIFIED: do not rely on this bundle", style="bold red")
    text = Text("VERIFIED: every byte is as written, and the verdict follows from the evidence")
    text.stylize("bold green")
    if found.expected_digest is None:
        text.append(
            "\nWithout --digest only the bundle itself was checked: give the digest that the decision names "
            "to know that it is that decision's.",
            style="yellow",
        )
    return text


def _lines(found: Verification) -> list[tuple[str, str | Text]]:
    members = found.manifest.get("members")
    files = f"{counted(len(members), 'file')}, every byte" if isinstance(members, dict) else MISSING
    if found.expected_digest is None:
        against = "not given"
    else:
        against = "the same" if found.digest == found.expected_digest else "ANOTHER"
    lines: list[tuple[str, str | Text]] = [
        ("checked", f"{files}; comparison and verdict computed again from the samples of both runs"),
        ("verdict, as stored", _verdict(found.stored)),
        ("verdict, recomputed", _again(found)),
        ("bundle", f"sha256:{found.digest}" if found.digest else MISSING),
        ("the decision's digest", against),
    ]
    decision = found.manifest.get("decision")
    if isinstance(decision, dict):
        lines += [(f"decision {name}", str(value)) for name, value in decision.items()]
    return lines


def _again(found: Verification) -> str:
    again = _verdict(found.recomputed)
    return "the same" if found.recomputed is not None and again == _verdict(found.stored) else again


def _verdict(judgement: Judgement | None) -> str:
    if judgement is None:
        return MISSING
    invalid = "" if judgement.valid else " (invalid evidence)"
    return f"{judgement.verdict.value}{invalid}: {judgement.summary}"

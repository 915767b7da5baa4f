"""``assay keys`` and ``assay whoami``."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

KEY = {
    "id": "key_01kas3r1a4d7g0j3m6p9s2v5x8",
    "name": "ci",
    "role": "editor",
    "state": "active",
    "prefix": "assay_k7m2x9qd",
    "created_by": "owner",
    "created_at": "2026-11-23T09:30:00Z",
    "expires_at": None,
    "revoked_at": None,
    "rotated_at": None,
    "last_used_at": "2026-11-23T10:00:00Z",
}
SECRET = "assay_k7m2x9qd_the-secret-part"
ISSUED = {**KEY, "secret": SECRET}


@pytest.mark.parametrize(("text", "days"), [("90d", 90), ("12h", 0.5), ("2w", 14)])
def test_a_key_is_created_and_its_secret_shown(
    assay: Any, server: Any, answer: Any, text: str, days: float
) -> None:
    server.on("POST", "/v1/access/keys", answer(ISSUED, status=201))
    outcome = assay("keys", "create", "ci", "--role", "editor", "--expires", text)
    assert outcome.code == 0
    assert SECRET in outcome.out
    assert "shown this once" in outcome.err
    sent = server.calls("POST", "/v1/access/keys")[0].json()
    assert (sent["name"], sent["role"]) == ("ci", "editor")
    expected = datetime.now(UTC) + timedelta(days=days)
    assert abs(datetime.fromisoformat(sent["expires_at"]) - expected) < timedelta(minutes=1)


def test_a_date_is_an_end_and_other_words_are_not(assay: Any, server: Any, answer: Any) -> None:
    server.on("POST", "/v1/access/keys", answer(ISSUED, status=201))
    assert (
        assay("keys", "create", "ci", "--role", "viewer", "--expires", "2099-01-31", "--json").json()
        == ISSUED
    )
    sent = server.calls("POST", "/v1/access/keys")[0].json()
    assert sent["expires_at"] == "2099-01-31T00:00:00+00:00"
    refused = assay("keys", "create", "ci", "--role", "viewer", "--expires", "soon")
    assert refused.code == 2
    assert "--expires 'soon': write 12h, 90d, 4w, or a date" in refused.err
    assert len(server.calls("POST", "/v1/access/keys")) == 1


def test_keys_are_listed_without_secrets(assay: Any, server: Any, answer: Any) -> None:
    server.on("GET", "/v1/access/keys", answer({"items": [KEY], "next_cursor": None}))
    row = next(line for line in assay("keys", "list").out.splitlines() if KEY["prefix"] in line)
    for word in ("editor", "active", "assay_k7m2x9qd", "never", "2026-11-23 10:00", "owner"):
        assert word in row


@pytest.mark.parametrize("reference", ["ci", KEY["id"], KEY["prefix"]])
def test_a_key_is_rotated_and_revoked_by_name_id_or_prefix(
    assay: Any, server: Any, answer: Any, reference: str
) -> None:
    path = f"/v1/access/keys/{KEY['id']}"
    server.on("GET", "/v1/access/keys", answer({"items": [KEY], "next_cursor": None}))
    server.on("POST", f"{path}/rotate", answer(ISSUED))
    server.on("DELETE", path, answer({}, status=200))
    assert SECRET in assay("keys", "rotate", reference, "--grace", "60").out
    assert server.calls("POST", f"{path}/rotate")[0].json() == {"grace_seconds": 60}
    assert "revoked ci (assay_k7m2x9qd)" in assay("keys", "revoke", reference).err
    assert len(server.calls("DELETE", path)) == 1


def test_a_key_that_there_is_not_is_said(assay: Any, server: Any, answer: Any) -> None:
    server.on("GET", "/v1/access/keys", answer({"items": [], "next_cursor": None}))
    outcome = assay("keys", "revoke", "nobody")
    assert outcome.code == 2
    assert "there is no key 'nobody'; `assay keys list` lists them" in outcome.err


def test_whoami_says_the_role(assay: Any, server: Any, answer: Any) -> None:
    me = {
        "client": "ci",
        "role": "editor",
        "key_id": KEY["id"],
        "key_prefix": KEY["prefix"],
        "expires_at": None,
    }
    server.on("GET", "/v1/access/me", answer(me))
    lines = [line.split() for line in assay("whoami").out.splitlines()]
    assert ["client", "ci"] in lines
    assert ["role", "editor"] in lines


@pytest.mark.parametrize(
    ("status", "detail", "said"),
    [
        (
            401,
            "the key assay_k7m2x9qd (ci) expired at 2026-01-01",
            "the API key is not accepted: the key assay_k7m2x9qd",
        ),
        (
            403,
            "this needs the role admin; the key 'ci' is editor",
            "the API key may not do this: this needs the role admin",
        ),
    ],
)
def test_why_a_key_is_refused_is_said(
    assay: Any, server: Any, answer: Any, status: int, detail: str, said: str
) -> None:
    server.on(
        "GET", "/v1/access/keys", answer({"title": "t", "status": status, "detail": detail}, status=status)
    )
    outcome = assay("keys", "list")
    assert outcome.code == 2
    assert said in outcome.err

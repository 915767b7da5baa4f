"""Every route of every service through the gateway, by every kind of caller: who is refused, and only they.

The routes come from the OpenAPI documents that the running services serve: a new route is tried without a
line here.
"""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from conftest import LocalPlatform

from assay_allinone.services import SERVICES
from assay_chassis.guard import ROLE_FIELD
from assay_chassis.identity import IDENTITY_HEADER, Role, SignedIdentity

pytestmark = pytest.mark.xdist_group("platform")

LIFETIME_S = 3
PERMITTED = {200, 201, 204, 404, 409, 422}
KEEPS_NOTHING = {
    "/v1/evaluations/plan",
    "/v1/methods/preview",
    "/v1/methods/no_such_thing/preview",
    "/v1/plan/power",
}
"""Where a POST only computes."""
METHODS = ("get", "put", "post", "delete", "patch")


@dataclass(frozen=True, slots=True)
class Route:
    """An operation of an OpenAPI document, with values for its path that name nothing there is."""

    method: str
    path: str
    role: Role

    def ask(self, http: httpx.Client) -> httpx.Response:
        """Ask with a body that no route can read, so that nobody who may ask changes anything."""
        body = {"content": b"{", "headers": {"content-type": "application/json"}}
        return http.request(self.method, self.path, **({} if self.method == "get" else body))


@dataclass(frozen=True, slots=True)
class Access:
    """A platform's gateway, its routes, and a key of each kind."""

    platform: LocalPlatform
    url: str
    routes: list[Route]
    keys: dict[str, str | None]

    def http(self, caller: str) -> httpx.Client:
        key = self.keys[caller]
        headers = {} if key is None else {"x-api-key": key}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60, trust_env=False)


def routes_of(http: httpx.Client) -> list[Route]:
    routes = []
    for service in SERVICES:
        document = http.get(f"/openapi/{service}.json").json()
        for path, operations in document["paths"].items():
            for method in METHODS:
                if operation := operations.get(method):
                    plain = re.sub(r"\{[^}]+\}", "no_such_thing", path)
                    routes.append(Route(method, plain, Role(operation[ROLE_FIELD])))
    return routes


@pytest.fixture(scope="module")
def access(local_platform: LocalPlatform) -> Iterator[Access]:
    found = json.loads((local_platform.home / "run" / "gateway.json").read_text())
    first = Path(found["api_key_file"]).read_text().strip()
    with httpx.Client(
        base_url=found["url"], headers={"x-api-key": first}, timeout=60, trust_env=False
    ) as http:

        def create(name: str, **fields: Any) -> dict[str, Any]:
            answer = http.post("/v1/access/keys", json={"name": f"role-test-{name}", **fields})
            assert answer.status_code == 201, answer.text
            created: dict[str, Any] = answer.json()
            return created

        keys = {role.value: create(role, role=role)["secret"] for role in Role}
        ends = datetime.now(UTC) + timedelta(seconds=LIFETIME_S)
        expired = create("expired", role="admin", expires_at=ends.isoformat())
        revoked = create("revoked", role="admin")
        assert http.get("/v1/access/me", headers={"x-api-key": revoked["secret"]}).status_code == 200
        assert http.delete(f"/v1/access/keys/{revoked['id']}").status_code == 204
        time.sleep(max(0.0, (ends - datetime.now(UTC)).total_seconds()) + 0.1)
        yield Access(
            platform=local_platform,
            url=found["url"],
            routes=routes_of(http),
            keys={
                **keys,
                "settings": first,
                "none": None,
                "unknown": "assay_22222222_" + "x" * 43,
                "expired": expired["secret"],
                "revoked": revoked["secret"],
            },
        )


def test_viewers_read_and_try_out_editors_change_and_admins_have_the_keys(access: Access) -> None:
    for route in access.routes:
        if route.path.startswith("/v1/access/keys"):
            expected = Role.ADMIN
        elif route.method == "get" or route.path in KEEPS_NOTHING:
            expected = Role.VIEWER
        else:
            expected = Role.EDITOR
        assert route.role is expected, route


@pytest.mark.parametrize("caller", ["viewer", "editor", "admin", "settings"])
def test_a_role_meets_a_refusal_exactly_where_the_route_needs_more(access: Access, caller: str) -> None:
    role = Role.ADMIN if caller == "settings" else Role(caller)
    wrong = []
    with access.http(caller) as http:
        for route in access.routes:
            answer = route.ask(http)
            expected = PERMITTED if role.allows(route.role) else {403}
            if answer.status_code not in expected:
                wrong.append((route, answer.status_code, answer.text[:200]))
            if answer.status_code == 403:
                problem = answer.json()
                assert problem["type"] == "urn:assay:problem:forbidden"
                assert f"needs the role {route.role}" in problem["detail"]
                assert f"is {caller}:" in problem["detail"]
    assert not wrong
    assert {route.role for route in access.routes} == set(Role), "a role is needed by no route"


@pytest.mark.parametrize(
    ("caller", "kind", "words"),
    [
        ("none", "unauthorized", "send your API key in the X-API-Key header"),
        ("unknown", "unauthorized", "send your API key in the X-API-Key header"),
        ("expired", "key-ended", "(role-test-expired) expired at 20"),
        ("revoked", "key-ended", "(role-test-revoked) was revoked at 20"),
    ],
)
def test_without_a_valid_key_no_route_answers(access: Access, caller: str, kind: str, words: str) -> None:
    with access.http(caller) as http:
        for route in access.routes:
            answer = route.ask(http)
            assert answer.status_code == 401, (route, answer.text)
            problem = answer.json()
            assert problem["type"] == f"urn:assay:problem:{kind}"
            assert words in problem["detail"]
            assert problem["instance"] == route.path
            assert answer.headers["www-authenticate"] == "Bearer"


def test_nobody_gets_a_higher_role_by_claiming_it(access: Access) -> None:
    forged = jwt.encode(
        {"iss": "access-svc", "sub": "root", "role": "admin", "iat": 0, "exp": 2**33}, "k" * 32
    )
    claims = {IDENTITY_HEADER: forged, "x-assay-client": "root", "x-assay-role": "admin"}
    with access.http("viewer") as http:
        me = http.get("/v1/access/me", headers=claims).json()
        assert (me["client"], me["role"]) == ("role-test-viewer", "viewer")
        assert http.get("/v1/access/keys", headers=claims).status_code == 403
    with access.http("none") as http:
        assert http.get("/v1/access/me", headers=claims).status_code == 401


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_believes_the_platforms_signature_alone(access: Access, service: str) -> None:
    ports = json.loads((access.platform.home / "run" / "ports.json").read_text())
    internal_key = (access.platform.home / "run" / "internal-key").read_text().strip()
    document = httpx.get(f"{access.url}/openapi/{service}.json", trust_env=False).json()
    path = next(path for path, methods in document["paths"].items() if "get" in methods and "{" not in path)
    first = access.keys["settings"]
    assert first is not None
    with httpx.Client(base_url=f"http://127.0.0.1:{ports[service]}", trust_env=False, timeout=60) as http:
        assert http.get(path).status_code == 401
        assert http.get(path, headers={"x-api-key": first}).status_code == 401
        stranger = SignedIdentity(internal_key="k" * 32, client="root", role=Role.ADMIN)
        assert http.get(path, auth=stranger).status_code == 401
        ours = SignedIdentity(internal_key=internal_key, client="test", role=Role.ADMIN)
        assert http.get(path, auth=ours).status_code in {200, 422}

"""A small hub: the HTTP API that ``huggingface_hub`` and ``datasets`` speak, for repositories in memory.

What it answers follows the public hub: status codes, ``X-Error-Code``, ``X-Repo-Commit``, ``ETag``, ranges,
large files behind a redirect to a content host, 429 with ``Retry-After``. The client libraries are
unmodified; they find it through ``HF_ENDPOINT``. A test changes the repositories and the faults while the
server runs.
"""

import asyncio
import hashlib
import json
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, quote, unquote

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

LARGE_FILE_BYTES = 1 << 16
CHUNK_BYTES = 1 << 14

_RESOLVE = re.compile(
    r"/(?P<kind>datasets/)?(?P<repo>[^/]+(?:/[^/]+)?)/resolve/(?P<revision>[^/]+)/(?P<path>.+)"
)
_API = re.compile(
    r"/api/(?P<kind>datasets/|models/)(?P<repo>[^/]+(?:/[^/]+)??)"
    r"(?:/(?P<verb>revision|tree|paths-info|refs|auth-check)(?:/(?P<revision>[^/]+)(?:/(?P<path>.*))?)?)?"
)


@dataclass
class HubRepository:
    """One repository with its history.

    Attributes:
        repo_id: ``owner/name``.
        kind: ``dataset`` or ``model``; the two are asked for by different paths.
        gated: whether files need a token in ``readers``; the listing is public, as on the public hub.
        private: whether everything needs a token in ``readers``.
        readers: tokens that may read it.
    """

    repo_id: str
    kind: str = "dataset"
    gated: bool = False
    private: bool = False
    readers: set[str] = field(default_factory=set)
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def commit(self, files: Mapping[str, bytes | str], *, branch: str = "main") -> str:
        """Make a commit that holds exactly ``files`` and move the branch to it; its hash."""
        content = {
            path: data.encode() if isinstance(data, str) else data for path, data in sorted(files.items())
        }
        digest = hashlib.sha1(self.repo_id.encode())
        digest.update(self.branches.get(branch, "").encode())
        for path, data in content.items():
            digest.update(path.encode() + b"\0" + data)
        commit = digest.hexdigest()
        self.commits[commit] = content
        self.branches[branch] = commit
        return commit

    def resolve(self, revision: str) -> str | None:
        """Commit of a branch, or the commit itself."""
        return revision if revision in self.commits else self.branches.get(revision)


@dataclass
class Faults:
    """What goes wrong, until the test clears it.

    Attributes:
        rate_limited: requests still to be answered 429, or ``None`` for all of them.
        retry_after_s: value of their ``Retry-After``.
        failing: whether every request is answered 503.
        chunk_delay_s: pause before each piece of a file; makes a download slow.
        before: called with method and path before a request is answered, in the server's thread.
    """

    rate_limited: int | None = 0
    retry_after_s: int = 1
    failing: bool = False
    chunk_delay_s: float = 0.0
    before: Callable[[str, str], None] | None = None

    def take_rate_limit(self) -> bool:
        """Whether this request is refused."""
        if self.rate_limited is None:
            return True
        if self.rate_limited > 0:
            self.rate_limited -= 1
            return True
        return False


@dataclass(frozen=True)
class SeenRequest:
    """One request as the server got it."""

    method: str
    path: str
    range: str | None
    token: str | None
    status: int


class Hub:
    """The repositories, the faults, and what was asked for."""

    def __init__(self) -> None:
        self.url = ""
        self.content_url = ""
        self.repositories: dict[str, HubRepository] = {}
        self.moved: dict[str, str] = {}
        self.tokens: set[str] = set()
        self.faults = Faults()
        self.seen: list[SeenRequest] = []

    def add(self, repo_id: str, files: Mapping[str, bytes | str], **settings: Any) -> HubRepository:
        """Make a repository with one commit on ``main``."""
        repository = HubRepository(repo_id, **settings)
        repository.commit(files)
        self.repositories[repo_id] = repository
        return repository

    def allow(self, token: str, *repo_ids: str) -> None:
        """Make a valid token, which may read these gated or private repositories."""
        self.tokens.add(token)
        for repo_id in repo_ids:
            self.repositories[repo_id].readers.add(token)

    async def answer(self, request: Request) -> Response:
        """Any request."""
        path = request.scope["raw_path"].split(b"?")[0].decode()
        token = request.headers.get("authorization", "").removeprefix("Bearer ") or None
        response = await self._answer(request, path, token)
        self.seen.append(
            SeenRequest(request.method, path, request.headers.get("range"), token, response.status_code)
        )
        return response

    async def _answer(self, request: Request, path: str, token: str | None) -> Response:
        if self.faults.before is not None:
            self.faults.before(request.method, path)
        if self.faults.failing:
            return Response(status_code=503)
        if self.faults.take_rate_limit():
            return Response(status_code=429, headers={"Retry-After": str(self.faults.retry_after_s)})
        if token is not None and token not in self.tokens:
            return refusal(401, "", "Invalid credentials in Authorization header")
        if path.startswith("/content/"):
            return self._content_host(request, path)
        if match := _RESOLVE.fullmatch(path):
            return self._resolve(request, token, match)
        if match := _API.fullmatch(path):
            return await self._api(request, token, match)
        return refusal(404, "", "Not Found")

    def _find(self, kind: str | None, repo_id: str, token: str | None) -> HubRepository | Response:
        repository = self.repositories.get(repo_id)
        if repository is not None and repository.kind != ("dataset" if kind == "datasets/" else "model"):
            repository = None
        if repository is None or (repository.private and token not in repository.readers):
            if token is None:
                return refusal(401, "", "Invalid username or password.")
            return refusal(404, "RepoNotFound", "Repository not found")
        return repository

    async def _api(self, request: Request, token: str | None, match: re.Match[str]) -> Response:
        repo_id = unquote(match["repo"])
        if repo_id in self.moved:
            kind = match["kind"]
            target = str(request.url).replace(f"/api/{kind}{repo_id}", f"/api/{kind}{self.moved[repo_id]}", 1)
            return Response(status_code=307, headers={"Location": target})
        repository = self._find(match["kind"], repo_id, token)
        if isinstance(repository, Response):
            return repository
        if match["verb"] == "auth-check":
            return self._refuse_gated(repository, token) or JSONResponse({})
        revision = unquote(match["revision"] or "main")
        commit = repository.resolve(revision)
        if commit is None:
            return refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        files = repository.commits[commit]
        match match["verb"]:
            case None | "revision":
                return JSONResponse(describe(repository, commit, files))
            case "tree":
                prefix = unquote(match["path"] or "")
                recursive = request.query_params.get("recursive", "false").lower() in ("true", "1")
                entries = listing(files, prefix=prefix, recursive=recursive)
                if not entries and prefix:
                    return refusal(404, "EntryNotFound", f"{prefix} does not exist on {revision!r}")
                return JSONResponse(entries)
            case "paths-info":
                wanted = await paths_of(request)
                known = [*listing(files, prefix="", recursive=True)]
                return JSONResponse([entry for entry in known if entry["path"] in wanted])
        branches = [
            {"name": name, "ref": f"refs/heads/{name}", "targetCommit": target}
            for name, target in repository.branches.items()
        ]
        return JSONResponse({"branches": branches, "converts": [], "tags": [], "pullRequests": []})

    def _refuse_gated(self, repository: HubRepository, token: str | None) -> Response | None:
        if not repository.gated or token in repository.readers:
            return None
        message = f"Access to {repository.kind} {repository.repo_id} is restricted."
        return refusal(401 if token is None else 403, "GatedRepo", message)

    def _resolve(self, request: Request, token: str | None, match: re.Match[str]) -> Response:
        repo_id = unquote(match["repo"])
        if repo_id in self.moved:
            target = str(request.url).replace(f"/{repo_id}/", f"/{self.moved[repo_id]}/", 1)
            return Response(status_code=307, headers={"Location": target})
        repository = self._find(match["kind"], repo_id, token)
        if isinstance(repository, Response):
            return repository
        if refused := self._refuse_gated(repository, token):
            return refused
        revision, path = unquote(match["revision"]), unquote(match["path"])
        commit = repository.resolve(revision)
        if commit is None:
            return refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        data = repository.commits[commit].get(path)
        if data is None:
            refused = refusal(404, "EntryNotFound", "Entry not found")
            refused.headers["X-Repo-Commit"] = commit
            return refused
        headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if len(data) >= LARGE_FILE_BYTES:
            digest = hashlib.sha256(data).hexdigest()
            location = f"{self.content_url}/content/{quote(repo_id, safe='')}/{commit}/{quote(path, safe='')}"
            linked = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(data)), "Location": location}
            return Response(status_code=302, headers={**headers, **linked})
        return self._send(request, data, {**headers, "ETag": f'"{git_hash(data)}"'})

    def _content_host(self, request: Request, path: str) -> Response:
        repo_id, commit, name = (unquote(part) for part in path.removeprefix("/content/").split("/"))
        data = self.repositories[repo_id].commits[commit][name]
        digest = hashlib.sha256(data).hexdigest()
        return self._send(request, data, {"ETag": f'"{digest}"', "Accept-Ranges": "bytes"})

    def _send(self, request: Request, data: bytes, headers: dict[str, str]) -> Response:
        total, status = len(data), 200
        if wanted := re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", "")):
            first, last = int(wanted[1]), int(wanted[2] or total - 1)
            if first >= total:
                return Response(status_code=416, headers={"Content-Range": f"bytes */{total}"})
            last = min(last, total - 1)
            headers = {**headers, "Content-Range": f"bytes {first}-{last}/{total}"}
            data, status = data[first : last + 1], 206
        headers = {**headers, "Content-Length": str(len(data))}
        if request.method == "HEAD":
            return Response(status_code=status, headers=headers)
        return StreamingResponse(self._pieces(data), status_code=status, headers=headers)

    async def _pieces(self, data: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(data), CHUNK_BYTES):
            await asyncio.sleep(self.faults.chunk_delay_s)
            yield data[start : start + CHUNK_BYTES]


def refusal(status: int, code: str, message: str) -> Response:
    """An error as the public hub words it."""
    headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
    return JSONResponse({"error": message}, status_code=status, headers=headers)


async def paths_of(request: Request) -> list[str]:
    """Paths that a ``paths-info`` request asks about."""
    if request.headers.get("content-type", "").startswith("application/json"):
        return list(json.loads(await request.body())["paths"])
    return parse_qs((await request.body()).decode()).get("paths", [])


def git_hash(data: bytes) -> str:
    """Name of a blob in git."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def describe(repository: HubRepository, commit: str, files: Mapping[str, bytes]) -> dict[str, object]:
    """The repository's public description at a commit."""
    return {
        "_id": hashlib.md5(repository.repo_id.encode()).hexdigest()[:24],
        "id": repository.repo_id,
        "author": repository.repo_id.split("/")[0],
        "sha": commit,
        "private": repository.private,
        "gated": "manual" if repository.gated else False,
        "disabled": False,
        "tags": [],
        "downloads": 0,
        "likes": 0,
        "siblings": [{"rfilename": path, "size": len(data)} for path, data in files.items()],
    }


def listing(files: Mapping[str, bytes], *, prefix: str, recursive: bool) -> list[dict[str, object]]:
    """Files and folders below ``prefix``, as the tree endpoint gives them."""
    start = f"{prefix.rstrip('/')}/" if prefix else ""
    entries: dict[str, dict[str, object]] = {}
    for path, data in files.items():
        if not path.startswith(start):
            continue
        parts = path[len(start) :].split("/")
        for depth in range(1, len(parts) if recursive else min(len(parts), 2)):
            folder = start + "/".join(parts[:depth])
            entries[folder] = {
                "type": "directory",
                "oid": git_hash(folder.encode()),
                "size": 0,
                "path": folder,
            }
        if recursive or len(parts) == 1:
            entry: dict[str, object] = {
                "type": "file",
                "oid": git_hash(data),
                "size": len(data),
                "path": path,
            }
            if len(data) >= LARGE_FILE_BYTES:
                digest = hashlib.sha256(data).hexdigest()
                entry["lfs"] = {"oid": digest, "size": len(data), "pointerSize": 130}
            entries[path] = entry
    return [entries[path] for path in sorted(entries)]


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A hub on a free port of 127.0.0.1, in a thread of its own, while the block runs."""
    hub = Hub()
    app = FastAPI(openapi_url=None)
    app.add_api_route("/{path:path}", hub.answer, methods=["GET", "HEAD", "POST"], response_model=None)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
        if not thread.is_alive():
            raise RuntimeError("the hub did not start")
    port = server.servers[0].sockets[0].getsockname()[1]
    hub.url = f"http://127.0.0.1:{port}"
    # Another host by its name: clients follow redirects inside the hub's own host at once.
    hub.content_url = f"http://localhost:{port}"
    try:
        yield hub
    finally:
        server.should_exit = True
        server.force_exit = True
        thread.join(10)

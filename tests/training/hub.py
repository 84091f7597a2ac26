"""A small server that speaks the Hub's protocol on loopback: accounts, repos, uploads, commits and downloads.

Written for these tests, from what huggingface_hub asks. It keeps repos in memory, takes one token, and fails when told to.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_loopback"
USER = "tester"


@dataclass
class Repo:
    """Files of the newest commit, and how often there was one."""

    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: int = 0

    @property
    def sha(self) -> str:
        return f"{self.commits:040x}"


class Hub:
    """What the server holds. `faults`: path part -> statuses that the next requests to such a path get."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.large: dict[str, bytes] = {}
        self.faults: dict[str, list[int]] = {}
        self.url = ""


@contextmanager
def serving() -> Iterator[Hub]:
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._route("GET")

    def do_HEAD(self) -> None:
        self._route("HEAD")

    def do_POST(self) -> None:
        self._route("POST")

    def do_PUT(self) -> None:
        self._route("PUT")

    def log_message(self, *args: Any) -> None:
        pass

    def _route(self, method: str) -> None:
        path = unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        for part, statuses in self.hub.faults.items():
            if part in path and statuses:
                return self._answer(statuses.pop(0), {"error": "told to fail"})
        for verb, pattern, answer in _ROUTES:
            found = re.fullmatch(pattern, path)
            if found and method in verb:
                return answer(self, body, *found.groups())
        return self._answer(404, {"error": f"no route for {method} {path}"})

    def _answer(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    @property
    def _known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _refused(self) -> None:
        self._answer(401, {"error": "Invalid username or password."})

    # Answers

    def _whoami(self, body: bytes) -> None:
        self._answer(200, {"type": "user", "name": USER, "orgs": []}) if self._known else self._refused()

    def _create(self, body: bytes) -> None:
        if not self._known:
            return self._refused()
        asked = json.loads(body)
        name = f"{asked.get('organization') or USER}/{asked['name']}"
        there = name in self.hub.repos
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        self.hub.repos.setdefault(name, Repo(private=private))
        return self._answer(409 if there else 200, {"url": f"{self.hub.url}/{name}", "name": name, "id": name})

    def _preupload(self, body: bytes, name: str) -> None:
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith((".safetensors", ".png")) else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(body)["files"]
        ]
        self._answer(200, {"files": files}) if self._known else self._refused()

    def _batch(self, body: bytes, name: str) -> None:
        objects = [
            {**asked, "actions": {"upload": {"href": f"{self.hub.url}/large/{asked['oid']}"}}}
            for asked in json.loads(body)["objects"]
        ]
        self._answer(200, {"transfer": "basic", "objects": objects})

    def _large(self, body: bytes, oid: str) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            return self._answer(400, {"error": "the content is not what its name says"})
        self.hub.large[oid] = body
        return self._answer(200, b"")

    def _commit(self, body: bytes, name: str) -> None:
        if not self._known:
            return self._refused()
        repo = self.hub.repos[name]
        for line in filter(None, body.split(b"\n")):
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "file":
                repo.files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                repo.files[value["path"]] = self.hub.large[value["oid"]]
            elif operation["key"] == "deletedFile":
                del repo.files[value["path"]]
        repo.commits += 1
        url = f"{self.hub.url}/{name}/commit/{repo.sha}"
        return self._answer(200, {"success": True, "commitOid": repo.sha, "commitUrl": url, "hookOutput": ""})

    def _repo(self, name: str) -> Repo | None:
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and not self._known):
            self._answer(
                404 if self._known else 401, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"}
            )
            return None
        return repo

    def _info(self, body: bytes, name: str) -> None:
        if repo := self._repo(name):
            files = [{"rfilename": path, "size": len(data)} for path, data in repo.files.items()]
            self._answer(200, {"id": name, "sha": repo.sha, "private": repo.private, "siblings": files, "tags": []})

    def _tree(self, body: bytes, name: str, folder: str | None) -> None:
        if repo := self._repo(name):
            found = [
                {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for path, data in repo.files.items()
                if path.startswith(folder or "")
            ]
            if folder and not found:
                return self._answer(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
            return self._answer(200, found)
        return None

    def _file(self, body: bytes, name: str, path: str) -> None:
        repo = self._repo(name)
        if repo is None:
            return None
        if path not in repo.files:
            return self._answer(
                404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": repo.sha}
            )
        data = repo.files[path]
        headers = {"X-Repo-Commit": repo.sha, "ETag": f'"{hashlib.sha256(data).hexdigest()}"'}
        return self._answer(200, data, headers)

    def _valid(self, body: bytes) -> None:
        self._answer(200, {"errors": [], "warnings": []})


_NAME, _REV = r"([\w.-]+/[\w.-]+)", r"[\w.-]+"
_ROUTES = [
    (("GET",), "/api/whoami-v2", _Handler._whoami),
    (("POST",), "/api/repos/create", _Handler._create),
    (("POST",), "/api/validate-yaml", _Handler._valid),
    (("POST",), f"/api/models/{_NAME}/preupload/{_REV}", _Handler._preupload),
    (("POST",), f"/api/models/{_NAME}/commit/{_REV}", _Handler._commit),
    (("POST",), rf"/{_NAME}\.git/info/lfs/objects/batch", _Handler._batch),
    (("PUT",), r"/large/(\w+)", _Handler._large),
    (("GET",), rf"/api/models/{_NAME}/tree/{_REV}(?:/(.+))?", _Handler._tree),
    (("GET",), rf"/api/models/{_NAME}(?:/revision/{_REV})?", _Handler._info),
    (("GET", "HEAD"), rf"/{_NAME}/resolve/{_REV}/(.+)", _Handler._file),
]

"""As much of LangSmith's API as `langsmith.evaluate` asks for, on loopback: datasets, examples, sessions, runs, feedback."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

NOW = "2026-01-01T00:00:00Z"
INFO = {"version": "0.10.0", "batch_ingest_config": {"use_multipart_endpoint": False, "size_limit": 100,
        "size_limit_bytes": 20_000_000, "scale_up_nthreads_limit": 1, "scale_up_qsize_trigger": 1000}}  # fmt: skip


class Server(ThreadingHTTPServer):
    """What it was sent, by kind."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.datasets: list[dict] = []
        self.examples: list[dict] = []
        self.sessions: list[dict] = []
        self.feedback: list[dict] = []
        self.runs: list[dict] = []
        self.keys: set[str] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> Any:
        if path == "/info":
            return INFO
        if path == "/datasets":
            if method == "POST":
                self.datasets.append({**body, "id": str(uuid.uuid4()), "created_at": NOW, "modified_at": NOW})
                return self.datasets[-1]
            return [dataset for dataset in self.datasets if dataset["name"] == query["name"][0]]
        if path.startswith("/examples"):
            if method == "POST":
                rows = [{**row, "modified_at": NOW, "runs": []} for row in body]
                self.examples += rows
                return rows
            return self.examples if query.get("offset", ["0"]) == ["0"] else []
        if path == "/sessions" and method == "POST":
            self.sessions.append({**body, "tenant_id": str(uuid.uuid4()), "start_time": NOW})
            return self.sessions[-1]
        if path == "/sessions":
            return self.sessions or [
                {"id": str(uuid.uuid4()), "tenant_id": str(uuid.uuid4()), "name": "default", "start_time": NOW}
            ]
        if path.startswith("/sessions/"):
            return next(session for session in self.sessions if session["id"] == path.rpartition("/")[2])
        if path == "/feedback":
            self.feedback.append(body)
        if path == "/runs/batch":
            self.runs += body["post"]
        return {}


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        address = urlsplit(self.path)
        self.server.keys.add(self.headers.get("x-api-key", ""))
        said = self.server.answer(
            self.command, address.path, parse_qs(address.query), json.loads(body) if body else None
        )
        content = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PATCH = _answer

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()

"""A stand-in for the W&B server on localhost: takes runs as wandb's client sends them, or fails in a chosen way.

What it knows of the protocol is what wandb 0.31 asks for: GraphQL queries at /graphql, history and summary as posts to
/files/ENTITY/PROJECT/RUN/file_stream, media files by PUT. Deleted ids cannot be used again, as on the real server.
"""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ENTITY = "tester"


@dataclass
class StoredRun:
    """A run as the server holds it."""

    run_id: str
    project: str = ""
    name: str = ""
    group: str = ""
    job_type: str = ""
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    state: str = "running"
    num_starts: int = 0  # how often a client opened it


class WandbServer:
    """The server in a thread; use it as a context.

    Args:
        failure: None, or for what `failing` names: "500", "401", "hang".

    Attributes:
        failing: paths that fail: "graphql", "file_stream".
        lines_left: history lines that are still taken before every post to a file stream fails (None: all are).
    """

    def __init__(self, failure: str | None = None, failing: tuple[str, ...] = ("graphql", "file_stream")) -> None:
        self.failure, self.failing = failure, failing
        self.lines_left: int | None = None
        self.runs: dict[str, StoredRun] = {}
        self.deleted: set[str] = set()
        self.files: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.closing = threading.Event()
        self.lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"owner": self})
        self.http = _QuietServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def __enter__(self) -> WandbServer:
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *details: object) -> None:
        self.closing.set()
        self.http.shutdown()
        self.http.server_close()

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """Status and JSON content."""
        with self.lock:
            if path.startswith("/graphql"):
                return self._graphql(json.loads(body))
            if path.endswith("/file_stream"):
                return self._file_stream(path.split("/")[-2], json.loads(body))
            if method == "PUT":
                self.files[path] = body
            return 200, {}

    def _graphql(self, request: dict[str, Any]) -> tuple[int, Any]:
        query, variables = request["query"], request.get("variables") or {}
        name = query.replace("#graphql", "").split("(")[0].split("{")[0].split()[-1]
        self.requests.append(name)
        answers: dict[str, Callable[[dict[str, Any]], tuple[int, Any]]] = {
            "UpsertBucket": self._upsert,
            "RunResumeStatus": self._resume_status,
            "CreateRunFiles": self._create_files,
            "Runs": self._list,
            "DeleteRun": self._delete,
            "CreateArtifact": self._create_artifact,
            "ArtifactType": lambda _: (200, {"data": {"project": {"artifact": None}}}),
        }
        if "viewer" in query:
            viewer = {"id": "1", "entity": ENTITY, "username": ENTITY, "flags": "{}", "teams": {"edges": []}}
            return 200, {"data": {"viewer": viewer | {"email": "", "name": ENTITY, "admin": False}}}
        return answers[name](variables) if name in answers else (200, {"data": {}})

    def _upsert(self, sent: dict[str, Any]) -> tuple[int, Any]:
        run_id = sent["name"]
        if run_id in self.deleted:
            message = f"run {ENTITY}/{run_id} was previously created and deleted; try a new run name"
            return 409, {"errors": [{"message": message}], "data": None}
        inserted = run_id not in self.runs
        run = self.runs.setdefault(run_id, StoredRun(run_id))
        if sent["id"] is None:
            run.num_starts += 1
            run.state = "running"
        run.project = sent.get("project") or run.project
        run.name, run.group = sent.get("displayName") or run.name, sent.get("groupName") or run.group
        run.job_type = sent.get("jobType") or run.job_type
        run.tags = run.tags if sent.get("tags") is None else sent["tags"]
        if sent.get("config"):
            run.config = {key: item["value"] for key, item in json.loads(sent["config"]).items()}
        return 200, {"data": {"upsertBucket": {"bucket": self._bucket(run), "inserted": inserted}}}

    def _bucket(self, run: StoredRun) -> dict[str, Any]:
        entity = {"id": "2", "name": ENTITY}
        project = {"id": "3", "name": run.project, "entity": entity}
        config = json.dumps({key: {"value": value} for key, value in run.config.items()})
        bucket = {"id": f"id-{run.run_id}", "name": run.run_id, "displayName": run.name, "config": config}
        return bucket | {"sweepName": None, "description": None, "project": project, "historyLineCount": None}

    def _resume_status(self, sent: dict[str, Any]) -> tuple[int, Any]:
        run = self.runs.get(sent["name"])
        bucket = None
        if run is not None:
            tail = [json.dumps(row) for row in run.history[-1:]]
            counts = {"historyLineCount": len(run.history), "eventsLineCount": 0, "logLineCount": 0}
            tails = {"historyTail": json.dumps(tail), "eventsTail": "[]", "summaryMetrics": json.dumps(run.summary)}
            state = {"tags": run.tags, "notes": None, "wandbConfig": json.dumps({"t": 1})}
            bucket = self._bucket(run) | counts | tails | state
        model = {"id": "3", "name": sent["project"], "entity": {"id": "2", "name": ENTITY}, "bucket": bucket}
        return 200, {"data": {"model": model}}

    def _create_files(self, sent: dict[str, Any]) -> tuple[int, Any]:
        files = [{"name": name, "uploadUrl": f"{self.url}/upload/{sent['run']}/{name}"} for name in sent["files"]]
        return 200, {"data": {"createRunFiles": {"runID": sent["run"], "uploadHeaders": [], "files": files}}}

    def _list(self, sent: dict[str, Any]) -> tuple[int, Any]:
        group = json.loads(sent["filters"]).get("group")
        found = [run for run in self.runs.values() if run.group == group and run.project == sent["project"]]
        if not any(run.project == sent["project"] for run in self.runs.values()):
            return 200, {"data": {"project": None}}
        nodes = [self._node(run) for run in found]
        runs = {
            "edges": [{"node": node, "cursor": str(n)} for n, node in enumerate(nodes)],
            "pageInfo": {"endCursor": None, "hasNextPage": False},
        }
        project = {"internalId": "3", "runCount": len(nodes), "readOnly": False, "runs": runs}
        return 200, {"data": {"project": project}}

    def _node(self, run: StoredRun) -> dict[str, Any]:
        about = {"projectId": "3", "tags": run.tags, "state": run.state, "group": run.group, "jobType": run.job_type}
        metrics = {"summaryMetrics": json.dumps(run.summary), "systemMetrics": "{}", "historyKeys": None}
        times = {"createdAt": "2026-01-01T00:00:00", "heartbeatAt": "2026-01-01T00:00:00"}
        others = {"commit": None, "readOnly": False, "notes": None, "user": {"name": ENTITY, "username": ENTITY}}
        return self._bucket(run) | about | metrics | times | others

    def _create_artifact(self, sent: dict[str, Any]) -> tuple[int, Any]:
        """A table's artifact: said to be there already, so that nothing of it is sent (its file comes by PUT)."""
        sequence = {"id": "5", "latestArtifact": {"id": "4", "versionIndex": 0}}
        artifact = {"id": "4", "state": "COMMITTED", "artifactSequence": sequence}
        return 200, {"data": {"createArtifact": {"artifact": artifact}}}

    def _delete(self, sent: dict[str, Any]) -> tuple[int, Any]:
        run_id = sent["id"].removeprefix("id-")
        del self.runs[run_id]
        self.deleted.add(run_id)
        return 200, {"data": {"deleteRun": {"clientMutationId": None}}}

    def _file_stream(self, run_id: str, sent: dict[str, Any]) -> tuple[int, Any]:
        run, files = self.runs[run_id], sent.get("files") or {}
        history = files.get("wandb-history.jsonl", {"offset": 0, "content": []})
        if self.lines_left is not None and (history["content"] or self.lines_left == 0):
            kept = history["content"][: self.lines_left]
            self.lines_left -= len(kept)
            run.history[history["offset"] :] = [json.loads(line) for line in kept]
            return 400, {"error": "no more is taken"}
        if "wandb-history.jsonl" in files:
            run.history[history["offset"] :] = [json.loads(line) for line in history["content"]]
        if "wandb-summary.json" in files:
            run.summary = json.loads(files["wandb-summary.json"]["content"][-1])
        if sent.get("complete"):
            run.state = "finished" if sent.get("exitcode") == 0 else "failed"
        return 200, {}


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    owner: WandbServer
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        status, content = 200, {}
        if self.owner.failure and any(part in self.path for part in self.owner.failing):
            if self.owner.failure == "hang":
                self.owner.closing.wait(120)
                self.close_connection = True
                return
            status, content = int(self.owner.failure), {"errors": [{"message": "out of order"}]}
        else:
            status, content = self.owner.answer(self.command, self.path, body)
        answer = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_PUT = _serve

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""

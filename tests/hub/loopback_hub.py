"""A Hub on the loopback interface: the endpoints that publishing and loading use, and the failures that they meet."""

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_loopbacktoken"
KINDS = "models|datasets|spaces"


@dataclass
class Repository:
    """Commits of `main`, oldest first: (sha, {path: content}); `branches` holds those of others, `pulls` requests."""

    private: bool = False
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=lambda: [("0" * 40, {})])
    branches: dict[str, list[tuple[str, dict[str, bytes]]]] = field(default_factory=dict)
    pulls: list[dict[str, bytes]] = field(default_factory=list)
    titles: list[str] = field(default_factory=list)

    @property
    def head(self) -> str:
        return self.commits[-1][0]

    def branch(self, name: str) -> list[tuple[str, dict[str, bytes]]] | None:
        """Return the commits of a branch."""
        return self.commits if name == "main" else self.branches.get(name)

    def files(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Return commit and files of a revision."""
        if (commits := self.branch(revision)) is not None:
            return commits[-1]
        known = [*self.commits, *(commit for commits in self.branches.values() for commit in commits)]
        return next((commit for commit in known if commit[0] == revision), None)

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        """Add a commit with these files and return its sha."""
        commits = self.branch(branch)
        text = json.dumps([[path, hashlib.sha1(content).hexdigest()] for path, content in sorted(files.items())])
        sha = hashlib.sha1(f"{commits[-1][0]}{text}".encode()).hexdigest()
        commits.append((sha, files))
        return sha


class LoopbackHub:
    """The server: `repositories` by `models/org/name`, `requests` as `METHOD path`, and what is to fail.

    `fails` maps a part of a path to `500`, `403`, `cut` (the connection closes in the middle of the request) or `lost`
    (it closes after the request was carried out, before its answer).
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.requests: list[str] = []
        self.fails: dict[str, str] = {}
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"hub": self}))

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def environment(self, **changes: str) -> dict[str, str]:
        """Return the environment of a program that uses this Hub."""
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_TOKEN": TOKEN,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        } | changes

    @contextmanager
    def running(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        try:
            yield self
        finally:
            self.server.shutdown()
            self.server.server_close()


class Handler(BaseHTTPRequestHandler):
    """One request; the routes are those of the Hub."""

    hub: LoopbackHub
    protocol_version = "HTTP/1.1"
    loses_answer = False

    def log_message(self, *arguments) -> None:
        pass

    def do_GET(self) -> None:
        self.answer("GET")

    def do_HEAD(self) -> None:
        self.answer("HEAD")

    def do_POST(self) -> None:
        self.answer("POST")

    def answer(self, method: str) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{method} {path}")
        length = int(self.headers.get("Content-Length") or 0)
        failure = next((kind for part, kind in self.hub.fails.items() if part in path), None)
        if failure == "cut":
            self.rfile.read(min(length, 64))
            self.close_connection = True
            self.connection.close()
            return
        body = self.rfile.read(length)
        self.loses_answer = failure == "lost"
        if failure not in (None, "lost"):
            return self.send(int(failure), {"error": f"made to fail; token {self.headers.get('Authorization')}"})
        if self.headers.get("Authorization") not in (None, f"Bearer {TOKEN}"):
            return self.send(401, {"error": "Invalid credentials"})
        routes = (
            ("POST", r"/api/repos/create", self.create),
            ("POST", r"/api/validate-yaml", self.validate),
            ("GET", r"/api/whoami-v2", self.whoami),
            ("POST", rf"/api/({KINDS})/([^/]+/[^/]+)/preupload/(.+)", self.preupload),
            ("POST", rf"/api/({KINDS})/([^/]+/[^/]+)/commit/(.+)", self.commit),
            ("POST", rf"/api/({KINDS})/([^/]+/[^/]+)/branch/(.+)", self.create_branch),
            ("GET", rf"/api/({KINDS})/([^/]+/[^/]+)/tree/([^/]+)(?:/.*)?", self.tree),
            ("GET", rf"/api/({KINDS})/([^/]+/[^/]+)(?:/revision/([^/]+))?", self.info),
            ("GET|HEAD", r"/(?:(datasets|spaces)/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.resolve),
        )
        for verbs, pattern, action in routes:
            match = re.fullmatch(pattern, path)
            if match and method in verbs.split("|"):
                return action(body, *match.groups())
        return self.send(404, {"error": "no such route"}, **{"X-Error-Code": "EntryNotFound"})

    def send(self, status: int, content: object, **headers: str) -> None:
        if self.loses_answer:
            self.close_connection = True
            self.connection.close()
            return
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def create(self, body: bytes) -> None:
        if self.headers.get("Authorization") is None:
            return self.send(401, {"error": "log in first"})
        wanted = json.loads(body)
        kind = f"{wanted.get('type') or 'model'}s"
        name = f"{kind}/{wanted.get('organization') or 'me'}/{wanted['name']}"
        url = f"{self.hub.endpoint}/{'' if kind == 'models' else kind + '/'}{name.partition('/')[2]}"
        if name in self.hub.repositories:
            return self.send(409, {"error": "You already created this repo", "url": url})
        self.hub.repositories[name] = Repository(
            private=wanted.get("visibility") == "private" or bool(wanted.get("private"))
        )
        return self.send(200, {"url": url, "name": name.partition("/")[2]})

    def validate(self, body: bytes) -> None:
        self.send(200, {"errors": [], "warnings": []})

    def whoami(self, body: bytes) -> None:
        self.send(200, {"name": "me", "type": "user", "orgs": [], "auth": {"accessToken": {"role": "write"}}})

    def repository(self, kind: str, name: str) -> Repository | None:
        """Return a repository that the caller may see; answer 404 without one."""
        found = self.hub.repositories.get(f"{kind}/{name}")
        if found is None or (found.private and self.headers.get("Authorization") is None):
            self.send(404, {"error": "Repository not found"}, **{"X-Error-Code": "RepoNotFound"})
            return None
        return found

    def preupload(self, body: bytes, kind: str, name: str, revision: str) -> None:
        if self.repository(kind, name) is not None:
            files = [{"path": file["path"], "uploadMode": "regular"} for file in json.loads(body)["files"]]
            self.send(200, {"files": [{**file, "shouldIgnore": False, "oid": None} for file in files]})

    def commit(self, body: bytes, kind: str, name: str, revision: str) -> None:
        found = self.repository(kind, name)
        if found is None:
            return
        lines = [json.loads(line) for line in body.decode().splitlines() if line]
        commits = found.branch(revision)
        if commits is None:
            self.send(404, {"error": "Revision not found"}, **{"X-Error-Code": "RevisionNotFound"})
            return
        parent = lines[0]["value"].get("parentCommit")
        found.titles.append(lines[0]["value"]["summary"])
        if parent is not None and parent != commits[-1][0]:
            self.send(412, {"error": "A commit has happened since. Please refresh and try again."})
            return
        files = dict(commits[-1][1])
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            if line["key"] == "deletedFile":
                files.pop(value["path"], None)
        url = f"{self.hub.endpoint}/{name}/commit/"
        if "create_pr=1" in self.path:
            found.pulls.append(files)
            number = len(found.pulls)
            pull = f"{self.hub.endpoint}/{name}/discussions/{number}"
            self.send(
                200, {"commitUrl": url + "1" * 40, "commitOid": "1" * 40, "pullRequestUrl": pull, "success": True}
            )
            return
        sha = found.commit(files, revision)
        self.send(200, {"commitUrl": url + sha, "commitOid": sha, "success": True})

    def create_branch(self, body: bytes, kind: str, name: str, branch: str) -> None:
        found = self.repository(kind, name)
        if found is None:
            return
        if found.branch(branch) is not None:
            return self.send(409, {"error": "Reference already exists"})
        found.branches[branch] = [found.commits[-1]]
        return self.send(200, {})

    def tree(self, body: bytes, kind: str, name: str, revision: str) -> None:
        found = self.repository(kind, name)
        if found is None:
            return
        state = found.files(revision)
        if state is None:
            self.send(404, {"error": "Revision not found"}, **{"X-Error-Code": "RevisionNotFound"})
            return
        entries = [
            {"type": "file", "path": path, "size": len(content), "oid": blob_id(content)}
            for path, content in sorted(state[1].items())
        ]
        self.send(200, entries)

    def info(self, body: bytes, kind: str, name: str, revision: str | None) -> None:
        found = self.repository(kind, name)
        if found is None:
            return
        state = found.files(revision or "main")
        if state is None:
            self.send(404, {"error": "Revision not found"}, **{"X-Error-Code": "RevisionNotFound"})
            return
        sha, files = state
        siblings = [{"rfilename": path} for path in sorted(files)]
        record = {"id": name, "modelId": name, "sha": sha, "siblings": siblings, "private": found.private, "tags": []}
        self.send(200, record)

    def resolve(self, body: bytes, kind: str | None, name: str, revision: str, path: str) -> None:
        found = self.repository(kind or "models", name)
        if found is None:
            return
        state = found.files(revision)
        code = "RevisionNotFound" if state is None else "EntryNotFound"
        if state is None or path not in state[1]:
            self.send(404, {"error": code}, **{"X-Error-Code": code})
            return
        sha, files = state
        headers = {"ETag": f'"{blob_id(files[path])}"', "X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
        self.send(200, files[path], **headers)


def blob_id(content: bytes) -> str:
    """Return git's id of a file's content."""
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()

"""A server that speaks the part of the Hugging Face Hub's protocol that models need: repositories with revisions,
uploads, private and gated repositories. It lives in a thread and keeps everything in memory."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote, urlsplit

TOKEN = "hf_owner"


@dataclass
class Repository:
    """`commits` are (sha, files), oldest first."""

    private: bool = False
    gated: bool = False
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)

    def files(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        if revision == "main":
            return self.commits[-1] if self.commits else ("0" * 40, {})
        return next((commit for commit in self.commits if commit[0] == revision), None)

    def commit(self, changes: dict[str, bytes]) -> str:
        files = {**(self.commits[-1][1] if self.commits else {}), **changes}
        sha = hashlib.sha1(f"{len(self.commits)}".encode()).hexdigest()
        self.commits.append((sha, files))
        return sha


class Hub:
    """The repositories by id."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.address = ""


@contextmanager
def running_hub() -> Iterator[Hub]:
    """Serve an empty hub on a free port."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, content: bytes | object = b"", **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    @property
    def owner(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def repository(self, id: str) -> Repository | None:
        """The repository, or None after an answer that refuses it."""
        found = self.hub.repositories.get(id)
        if found is None or (found.private and not self.owner):
            self.answer(401, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
            return None
        if found.gated and not self.owner:
            self.answer(403, {"error": "Access is restricted"}, X_Error_Code="GatedRepo")
            return None
        return found

    def do_GET(self) -> None:
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        api = parts[:2] == ["api", "models"]
        id = "/".join(parts[2:4] if api else parts[:2])
        rest = parts[4:] if api else parts[2:]
        repository = self.repository(id)
        if repository is None:
            return
        found = repository.files(rest[1] if len(rest) > 1 else "main")
        if found is None:
            self.answer(404, {"error": "Invalid rev id"}, X_Error_Code="RevisionNotFound")
        elif not api:
            self.send_file(*found, "/".join(rest[2:]))
        elif rest[:1] == ["tree"]:
            self.answer(200, [_entry(name, content) for name, content in found[1].items()])
        else:
            siblings = [{"rfilename": name} for name in found[1]]
            self.answer(200, {"id": id, "sha": found[0], "private": repository.private, "siblings": siblings})

    do_HEAD = do_GET

    def send_file(self, sha: str, files: dict[str, bytes], name: str) -> None:
        if name not in files:
            self.answer(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound", X_Repo_Commit=sha)
        else:
            self.answer(200, files[name], ETag=f'"{hashlib.sha1(files[name]).hexdigest()}"', X_Repo_Commit=sha)

    def do_POST(self) -> None:
        content, parts = self.body(), urlsplit(self.path).path.strip("/").split("/")
        if parts == ["api", "validate-yaml"]:
            self.answer(200, {"errors": [], "warnings": []})
        elif not self.owner:
            self.answer(401, {"error": "Invalid username or password."})
        elif parts[:3] == ["api", "repos", "create"]:
            asked = json.loads(content)
            id = "/".join(filter(None, [asked.get("organization"), asked["name"]]))
            new = id not in self.hub.repositories
            self.hub.repositories.setdefault(
                id, Repository(private=bool(asked.get("private")) or asked.get("visibility") == "private")
            )
            self.answer(200 if new else 409, {"url": f"{self.hub.address}/{id}", "name": id})
        elif "preupload" in parts:
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(content)["files"]
            ]
            self.answer(200, {"files": files})
        else:
            id = "/".join(parts[2:4])
            sha = self.hub.repositories[id].commit(_committed(content))
            url = f"{self.hub.address}/{id}/commit/{sha}"
            self.answer(200, {"success": True, "commitUrl": url, "commitOid": sha, "hookOutput": ""})


def _entry(name: str, content: bytes) -> dict[str, object]:
    return {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}


def _committed(lines: bytes) -> dict[str, bytes]:
    """The files of a commit's lines of JSON."""
    rows = [json.loads(line) for line in lines.splitlines() if line]
    files = [row["value"] for row in rows if row["key"] == "file"]
    return {file["path"]: base64.b64decode(file["content"]) for file in files}

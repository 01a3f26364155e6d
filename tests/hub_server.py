"""A hub on loopback: the part of huggingface.co's protocol that the real huggingface_hub client speaks.

Written from the client's source (2.4) and the hub's API pages: repositories are made, files are committed (small ones
in the commit, others over Git LFS's batch API), listed and resolved, with ETag, X-Repo-Commit and X-Linked-* headers;
large files redirect to another address, which must not see the token. Point HF_ENDPOINT at `url`; xet off.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

TOKEN = "hf_thistokenisofnobody0000000000000"
READER = "hf_readsbutdoesnotwrite000000000000"
USER = "somebody"
BINARY = (".onnx", ".safetensors", ".npy", ".arrow", ".parquet", ".jpg", ".png")  # as the hub's own .gitattributes
LICENCES = {"apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0", "other", "unknown"}  # some of those that the hub takes


@dataclass
class Repo:
    """One repository: its files at each commit; `order` tells which came last."""

    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)

    def commit(self, files: dict[str, bytes]) -> str:
        known = sorted((name, hashlib.sha256(content).hexdigest()) for name, content in files.items())
        sha = hashlib.sha1(json.dumps([len(self.order), known]).encode()).hexdigest()
        self.commits[sha] = files
        self.order.append(sha)
        return sha

    def resolve(self, revision: str) -> str | None:
        return self.order[-1] if revision == "main" else (revision if revision in self.commits else None)


@dataclass
class Hub:
    """What the server holds, and every request that it saw (method, path, whether a token came with it)."""

    url: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)  # "models/user/name" → Repo
    objects: dict[str, bytes] = field(default_factory=dict)
    seen: list[tuple[str, str, bool]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def make(self, name: str, *, private: bool = False, kind: str = "models") -> Repo:
        repo = self.repos[f"{kind}/{name}"] = Repo(private)
        repo.commit({".gitattributes": b"*.onnx filter=lfs\n"})
        return repo

    def put(self, name: str, folder: Path, *, kind: str = "models", private: bool = False) -> str:
        """A repository with the files of a folder, as somebody else put them there."""
        repo = self.make(name, private=private, kind=kind)
        return repo.commit(
            {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        )


class Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    # Answers

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def tell(self, value: Any, status: int = 200, **headers: str) -> None:
        named = {key.replace("_", "-"): text for key, text in headers.items()}
        self.answer(status, json.dumps(value).encode(), {"Content-Type": "application/json", **named})

    def refuse(self, status: int, code: str, message: str) -> None:
        self.tell({"error": message}, status, X_Error_Code=code, X_Error_Message=message)

    # Who asks for what

    def body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            whole = b""
            while size := int(self.rfile.readline().strip(), 16):
                whole += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return whole
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def token(self) -> str | None:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None

    def writes(self) -> bool:
        if self.token() == TOKEN:
            return True
        known = self.token() == READER
        self.refuse(403 if known else 401, "", "this token does not write" if known else "Invalid credentials")
        return False

    def find(self, key: str) -> Repo | None:
        repo = self.hub.repos.get(key)
        if repo is None or (repo.private and self.token() not in (TOKEN, READER)):
            self.refuse(404 if self.token() else 401, "RepoNotFound", "Repository not found")
            return None
        return repo

    def route(self) -> None:
        address = urlsplit(self.path)
        parts = [unquote(part) for part in address.path.strip("/").split("/")]
        with self.hub.lock:
            self.hub.seen.append((self.command, address.path, self.token() is not None))
        body = self.body()
        if parts[:1] == ["stored"]:
            return self.stored(parts[1], body)
        if parts[0] == "api":
            return self.api(parts[1:], parse_qs(address.query), body)
        if parts[-4:] == ["info", "lfs", "objects", "batch"]:
            return self.batch(json.loads(body))
        kind, rest = ("datasets", parts[1:]) if parts[0] == "datasets" else ("models", parts)
        if len(rest) > 4 and rest[2] == "resolve":
            return self.resolve(f"{kind}/{rest[0]}/{rest[1]}", rest[3], "/".join(rest[4:]))
        return self.refuse(404, "", f"no such address: {address.path}")

    do_GET = do_POST = do_PUT = do_HEAD = route

    # The API

    def api(self, parts: list[str], query: dict[str, list[str]], body: bytes) -> None:
        if parts == ["repos", "create"]:
            return self.create(json.loads(body))
        if parts == ["validate-yaml"]:
            return self.validate(json.loads(body)["content"])
        if parts == ["whoami-v2"]:
            return self.tell({"type": "user", "name": USER}) if self.writes() else None
        key, rest = "/".join(parts[:3]), parts[3:]
        repo = self.find(key)
        if repo is None:
            return None
        if rest[:1] == ["preupload"]:
            return self.preupload(repo, json.loads(body)) if self.writes() else None
        if rest[:1] == ["commit"]:
            return self.commit(key, repo, body) if self.writes() else None
        revision = rest[1] if len(rest) > 1 else "main"
        sha = repo.resolve(revision)
        if sha is None:
            return self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if rest[:1] in ([], ["revision"]):
            siblings = [{"rfilename": name} for name in repo.commits[sha]]
            name = "/".join(parts[1:3])
            return self.tell({"_id": "0", "id": name, "sha": sha, "private": repo.private, "siblings": siblings})
        if rest[:1] == ["tree"]:
            under = "/".join(rest[2:])
            return self.tell(tree(repo.commits[sha], under, bool(query.get("recursive"))))
        if rest[:1] == ["paths-info"]:
            wanted = json.loads(body)["paths"] if body[:1] == b"{" else parse_qs(body.decode())["paths"]
            return self.tell([described(name, repo.commits[sha][name]) for name in wanted if name in repo.commits[sha]])
        return self.refuse(404, "", "no such address")

    def create(self, asked: dict[str, Any]) -> None:
        if not self.writes():
            return
        owner = asked.get("organization") or USER
        if owner != USER:
            return self.refuse(403, "", f"you may not make a repository in {owner}")
        name = f"{owner}/{asked['name']}"
        url = {"url": f"{self.hub.url}/{name}"}
        if f"models/{name}" in self.hub.repos:
            return self.tell({**url, "error": "You already created this model repo"}, 409)
        self.hub.make(name, private=asked.get("visibility") == "private" or asked.get("private") is True)
        return self.tell(url)

    def validate(self, content: str) -> None:
        front = yaml.safe_load(content.split("---")[1])
        errors = [] if front.get("license") in LICENCES else [{"message": f"no licence {front.get('license')}"}]
        self.tell({"errors": errors, "warnings": []}, 400 if errors else 200)

    def preupload(self, repo: Repo, asked: dict[str, Any]) -> None:
        here = repo.commits[repo.order[-1]]
        told = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(BINARY) else "regular",
                "shouldIgnore": False,
                "oid": oid(file["path"], here[file["path"]]) if file["path"] in here else None,
            }
            for file in asked["files"]
        ]
        self.tell({"files": told})

    def batch(self, asked: dict[str, Any]) -> None:
        if not self.writes():
            return
        told = []
        for item in asked["objects"]:
            action = {"upload": {"href": f"{self.hub.url}/stored/{item['oid']}", "header": {}}}
            told.append({**item, **({} if item["oid"] in self.hub.objects else {"actions": action})})
        self.tell({"transfer": "basic", "objects": told})

    def stored(self, oid: str, body: bytes) -> None:
        if self.command == "PUT":
            assert hashlib.sha256(body).hexdigest() == oid
            self.hub.objects[oid] = body
            return self.answer(200, b"")
        return self.answer(200, self.hub.objects[oid], {"ETag": f'"{oid}"'})

    def commit(self, key: str, repo: Repo, body: bytes) -> None:
        files = dict(repo.commits[repo.order[-1]])
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
            elif item["key"] == "deletedFile":
                del files[value["path"]]
        sha = repo.commit(files)
        name = key.partition("/")[2]
        self.tell({"success": True, "commitOid": sha, "commitUrl": f"{self.hub.url}/{name}/commit/{sha}"})

    def resolve(self, key: str, revision: str, name: str) -> None:
        repo = self.find(key)
        if repo is None:
            return
        sha = repo.resolve(revision)
        if sha is None:
            return self.refuse(404, "RevisionNotFound", "Invalid rev id")
        content = repo.commits[sha].get(name)
        if content is None:
            return self.refuse(404, "EntryNotFound", "Entry not found")
        headers = {"X-Repo-Commit": sha}
        if not name.endswith(BINARY):
            return self.answer(200, content, {**headers, "ETag": f'"{blob(content)}"'})
        oid = hashlib.sha256(content).hexdigest()
        self.hub.objects[oid] = content
        headers |= {"X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(len(content))}
        # Another host name of the same machine: the client must leave its token behind.
        other = self.hub.url.replace("127.0.0.1", "localhost")
        return self.answer(302, b"", {**headers, "Location": f"{other}/stored/{oid}"})


def blob(content: bytes) -> str:
    """git's own name of a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def oid(name: str, content: bytes) -> str:
    """By what the hub knows a file: the sha256 of large ones."""
    return hashlib.sha256(content).hexdigest() if name.endswith(BINARY) else blob(content)


def described(name: str, content: bytes) -> dict[str, Any]:
    told: dict[str, Any] = {"type": "file", "path": name, "size": len(content), "oid": blob(content)}
    if name.endswith(BINARY):
        oid = hashlib.sha256(content).hexdigest()
        told["lfs"] = {"oid": oid, "size": len(content), "pointerSize": 130}
    return told


def tree(files: dict[str, bytes], under: str, recursive: bool) -> list[dict[str, Any]]:
    start = f"{under}/" if under else ""
    inside = {name: content for name, content in sorted(files.items()) if name.startswith(start)}
    folders = {name.rpartition("/")[0] for name in inside if "/" in name[len(start) :]} - {under}
    if not recursive:
        inside = {name: content for name, content in inside.items() if "/" not in name[len(start) :]}
        folders = {start + folder[len(start) :].split("/")[0] for folder in folders}
    told = [{"type": "directory", "path": folder, "size": 0, "oid": "0" * 40} for folder in sorted(folders)]
    return [*told, *(described(name, content) for name, content in inside.items())]


@contextmanager
def hub_server() -> Iterator[Hub]:
    """A hub that listens on a port of its own until the block ends."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

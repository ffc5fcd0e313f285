"""Real repositories to be followed: in the file system, and served over HTTP by git's own program."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HAS_GIT = shutil.which("git") is not None
BACKEND = next(
    (
        one
        for one in ("/usr/lib/git-core/git-http-backend", "/usr/libexec/git-core/git-http-backend")
        if Path(one).exists()
    ),
    None,
)


class Repository:
    """A work tree of somebody who pushes, and the bare repository that they push to."""

    def __init__(self, root: Path) -> None:
        self.work, self.bare = root / "work", root / "shop.git"
        root.mkdir(parents=True, exist_ok=True)
        self._git(root, "init", "--quiet", "--bare", "--initial-branch=main", str(self.bare))
        self._git(root, "init", "--quiet", "--initial-branch=main", str(self.work))
        self.git("remote", "add", "origin", str(self.bare))

    @property
    def url(self) -> str:
        """The address in the file system."""
        return f"file://{self.bare}"

    def git(self, *arguments: str, **variables: str) -> str:
        """What git says in the work tree."""
        return self._git(self.work, *arguments, **variables)

    def commit(
        self,
        files: Mapping[str, str | bytes | None],
        message: str = "change",
        *,
        at: int = 1_700_000_000,
        key: Path | None = None,
    ) -> str:
        """Write files (None: remove them), commit and push; answers the commit's id."""
        for name, content in files.items():
            path = self.work / name
            if content is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        self.git("add", "--all", "--force")
        signing = [] if key is None else ["-c", "gpg.format=ssh", "-c", f"user.signingkey={key}"]
        flags = ["--no-gpg-sign"] if key is None else ["-S"]
        dates = {"GIT_COMMITTER_DATE": f"{at} +0000", "GIT_AUTHOR_DATE": f"{at} +0000"}
        self.git(*signing, "commit", "--quiet", "--allow-empty", *flags, "-m", message, **dates)
        self.push()
        return self.head()

    def head(self) -> str:
        """The id of the work tree's commit."""
        return self.git("rev-parse", "HEAD").strip()

    def push(self) -> None:
        """Have the remote's branch be the work tree's, whatever it was."""
        self.git("push", "--quiet", "--force", "origin", "HEAD:refs/heads/main")

    @staticmethod
    def _git(where: Path, *arguments: str, **variables: str) -> str:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(where),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "Ann",
            "GIT_AUTHOR_EMAIL": "ann@example.org",
            "GIT_COMMITTER_NAME": "Ann",
            "GIT_COMMITTER_EMAIL": "ann@example.org",
            **variables,
        }
        done = subprocess.run(
            ["git", *arguments], cwd=where, env=environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, (arguments, done.stderr)
        return done.stdout


def signing_key(path: Path) -> str:
    """Make a key for signing at a path; answers its public half."""
    making = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)]
    subprocess.run(making, check=True, timeout=60)
    return path.with_suffix(".pub").read_text().strip()


@dataclass
class Server:
    """git over HTTP: what it is to do, and what it was shown."""

    url: str = ""
    token: str | None = None
    redirect: str | None = None
    hangs: bool = False
    endless: bool = False
    authorizations: tuple[str, ...] = ()
    requests: int = 0
    released: threading.Event = field(default_factory=threading.Event)


@contextlib.contextmanager
def served_over_http(root: Path) -> Iterator[Server]:
    """Serve the repositories in a directory by `git http-backend`."""
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"

        def do_GET(self) -> None:
            self._answer(b"")

        def do_POST(self) -> None:
            self._answer(self._body())

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            found = b""
            while size := int(self.rfile.readline(), 16):
                found += self.rfile.read(size)
                self.rfile.readline()
            return found

        def _answer(self, body: bytes) -> None:
            server.requests += 1
            shown = self.headers.get("Authorization")
            if shown is not None:
                server.authorizations = (*server.authorizations, shown)
            if server.hangs:
                server.released.wait(30)
                return
            if server.endless:
                self._go_on_without_end()
                return
            if server.redirect is not None:
                self.send_response(301)
                self.send_header("Location", server.redirect + self.path)
                self.end_headers()
                return
            wanted = (
                None if server.token is None else base64.b64encode(f"git:{server.token}".encode()).decode()
            )
            if wanted is not None and shown != f"Basic {wanted}":
                self.send_response(401)
                self.send_header("WWW-Authenticate", "Basic")
                self.end_headers()
                return
            self._run_backend(body)

        def _go_on_without_end(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/x-git-upload-pack-advertisement")
            self.end_headers()
            self.wfile.write(b"001e# service=git-upload-pack\n0000")
            with contextlib.suppress(OSError):
                while not server.released.is_set():
                    self.wfile.write(b"003d" + b"a" * 40 + b" refs/x/aaaaaaaaaaa\n")

        def _run_backend(self, body: bytes) -> None:
            path, _, query = self.path.partition("?")
            environment = {
                "PATH": os.environ["PATH"],
                "GIT_PROJECT_ROOT": str(root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": "safe.directory",
                "GIT_CONFIG_VALUE_0": "*",
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(len(body)),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "REMOTE_ADDR": "127.0.0.1",
            }
            assert BACKEND is not None
            done = subprocess.run([BACKEND], input=body, env=environment, capture_output=True, timeout=60)
            head, _, rest = done.stdout.partition(b"\r\n\r\n")
            lines = [line.partition(b":") for line in head.split(b"\r\n")]
            status = next((int(value.split()[0]) for name, _, value in lines if name == b"Status"), 200)
            self.send_response(status)
            for name, _, value in lines:
                if name and name != b"Status":
                    self.send_header(name.decode(), value.strip().decode())
            self.end_headers()
            self.wfile.write(rest)

        def log_message(self, format: str, *args: object) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{listening.server_address[1]}"
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        listening.shutdown()
        listening.server_close()

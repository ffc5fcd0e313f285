"""Programs as they are, without a word about any of this: they reach what is listed, and nothing else."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ringfence.scripts import RunResult

from tests.names_world import API, OTHER, NamesWorld
from tests.primitives import PROGRAMS, has, postgresql, requires
from tests.sandbox.names.attempts import network
from tests.waiting import next_line

pytestmark = [pytest.mark.slow, requires("root", "user namespaces", "ip")]


@requires("curl")
def test_curl_reaches_listed_names_by_every_version_of_ip_and_is_refused_others(
    names: NamesWorld, uid: int
) -> None:
    script = """
printf '%s' "$CA" >ca.pem
curl -sS --max-time 30 --cacert ca.pem https://api.test/
curl -sS --max-time 30 -4 http://api.test/
curl -sS --max-time 30 -6 http://api.test/
curl -sS --max-time 30 http://unlisted.test/; echo "$?"
curl -sS --max-time 30 http://api.test:81/; echo "$?"
curl -sS --max-time 30 --resolve unlisted.test:80:10.9.0.2 http://unlisted.test/; echo "$?"
"""
    result = names.run("shell", script, policy=network("api.test:80,443"), uid=uid, env={"CA": names.ca})

    first, by_ipv4, by_ipv6, unlisted, port, resolved = result.stdout.splitlines()
    assert first.endswith(" 443 api.test"), result.stderr
    assert (by_ipv4, by_ipv6) == (f"reached {API} 80 api.test", "reached 2001:db8:9::1 80 api.test")
    # It could not resolve; it could not connect (curl(1), EXIT CODES).
    assert (unlisted, port, resolved) == ("6", "7", "7")


@requires("node")
def test_nodes_fetch_reaches_listed_names_and_no_others(names: NamesWorld, uid: int) -> None:
    script = """
process.env.NODE_TLS_REJECT_UNAUTHORIZED = "0";
async function attempt(url) {
  try {
    return (await (await fetch(url)).text()).trim();
  } catch (error) {
    return error.cause?.code ?? error.cause?.errors?.[0]?.code ?? String(error);
  }
}
export default async function () {
  const urls = ["http://api.test/", "https://api.test:8443/", "http://unlisted.test/", "http://10.9.0.2/"];
  const outcomes = [];
  for (const url of urls) outcomes.push(await attempt(url));
  return outcomes;
}
"""
    result = names.run("esm", script, policy=network("api.test:80,8443"), uid=uid)

    assert isinstance(result.value, list), result.stderr
    plain, secure, unlisted, address = result.value
    assert str(plain).endswith(" 80 api.test")
    assert str(secure).endswith(" 8443 api.test:8443")
    assert unlisted in ("EAI_AGAIN", "ENOTFOUND")
    assert address in ("ECONNREFUSED", "EACCES", "EHOSTUNREACH")


PYTHON = """
import asyncio, http.client, ssl, urllib.request

async def stream(host, port, context):
    reader, writer = await asyncio.wait_for(asyncio.open_connection(host, port, ssl=context), 30)
    writer.write(f"GET / HTTP/1.1\\r\\nHost: {host}\\r\\n\\r\\n".encode())
    head = await reader.readuntil(b"\\r\\n\\r\\n")
    line = await reader.readline()
    writer.close()
    return line.decode().strip()

async def gathered(context):
    wanted = [stream("api.test", 443, context), stream("one.shared.test", 443, context), stream("api.test", 80, None)]
    return await asyncio.gather(*wanted, stream("unlisted.test", 80, None), return_exceptions=True)

def main(ca):
    context = ssl.create_default_context(cadata=ca)
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    first = opener.open("https://api.test/", timeout=30).read().decode().strip()
    kept = http.client.HTTPConnection("api.test", timeout=30)
    again = []
    for _ in range(3):
        kept.request("GET", "/")
        again.append(kept.getresponse().read().decode().strip())
    *reached, refused = asyncio.run(gathered(context))
    return [first, *again, *reached, type(refused).__name__]
"""


def test_pythons_clients_reach_listed_names_and_no_others(names: NamesWorld, uid: int) -> None:
    result = names.run(
        "python", PYTHON, policy=network("api.test:80,443", "one.shared.test:443"), uid=uid, context=names.ca
    )

    assert isinstance(result.value, list), result.stderr
    ends = [str(each).partition(" ")[2].partition(" ")[2] for each in result.value[:-1]]
    assert ends == [
        "443 api.test",
        *["80 api.test"] * 3,
        "443 api.test",
        "443 one.shared.test",
        "80 api.test",
    ]
    assert result.value[-1] == "gaierror"


# Git


@pytest.fixture(scope="module")
def repository(names: NamesWorld) -> Path:
    """A repository that web servers can serve as files."""
    work, bare = names.directory / "work", names.directory / "www/repository.git"
    identity = ["-c", "user.name=tester", "-c", "user.email=tester@example.test"]
    work.mkdir()
    (work / "file").write_text("content\n")
    environment = {"PATH": os.environ["PATH"], "HOME": str(names.directory), "GIT_CONFIG_NOSYSTEM": "1"}
    for command in (
        ["git", "init", "--quiet", str(work)],
        ["git", "-C", str(work), "add", "file"],
        ["git", "-C", str(work), *identity, "commit", "--quiet", "-m", "first"],
        ["git", "clone", "--quiet", "--bare", str(work), str(bare)],
        ["git", "-C", str(bare), "update-server-info"],
    ):
        subprocess.run(command, check=True, env=environment)
    return bare


@requires("git")
def test_git_clones_over_https(names: NamesWorld, uid: int, repository: Path) -> None:
    script = """
printf '%s' "$CA" >ca.pem
export GIT_SSL_CAINFO="$PWD/ca.pem" GIT_TERMINAL_PROMPT=0
git clone --quiet "https://api.test/git/$REPOSITORY" cloned && cat cloned/file
git clone --quiet "https://other.test/git/$REPOSITORY" refused 2>/dev/null || echo refused
"""
    result = names.run(
        "shell",
        script,
        policy=network("api.test:443"),
        uid=uid,
        env={"CA": names.ca, "REPOSITORY": repository.name},
    )

    assert result.stdout == "content\nrefused\n", result.stderr


# In a directory of the world's own, since the server insists on one in /run.
SSHD = """
mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd && exec "$(command -v sshd)" -D -e -f "$1"
"""


@pytest.fixture(scope="module")
def ssh_server(names: NamesWorld, repository: Path) -> Iterator[Path]:
    """A server of that repository on every address, and the directory of its keys."""
    directory = names.directory / "ssh"
    directory.mkdir()
    for name in ("host", "client"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / name], check=True)
    serve = f'command="git -c safe.directory=* upload-pack {repository}",restrict '
    (directory / "authorized").write_text(serve + (directory / "client.pub").read_text())
    (directory / "config").write_text(
        f"Port 22\nHostKey {directory}/host\nAuthorizedKeysFile {directory}/authorized\nStrictModes no\n"
        "UsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\nPidFile none\n"
    )
    command = ["unshare", "--mount", "sh", "-c", SSHD, "sshd", str(directory / "config")]
    with names.start(*command, stderr=subprocess.PIPE, env={"PATH": PROGRAMS}) as server:
        try:
            while "Server listening" not in (line := next_line(server.stderr, "that sshd listens")):
                assert line, "sshd ended"
            yield directory
        finally:
            server.kill()


@requires("git")
@pytest.mark.skipif(
    not has("ssh"), reason="this machine has no OpenSSH server, which nobody is asked to install"
)
def test_git_clones_over_ssh(names: NamesWorld, uid: int, repository: Path, ssh_server: Path) -> None:
    script = """
printf '%s\\n' "$KEY" >key && chmod 600 key
printf 'four.test %s\\n' "$HOST_KEY" >known
export GIT_SSH_COMMAND="ssh -F none -i $PWD/key -o UserKnownHostsFile=$PWD/known -o BatchMode=yes"
git clone --quiet ssh://root@four.test/repository cloned && cat cloned/file
git clone --quiet ssh://root@other.test/repository refused 2>/dev/null || echo refused
"""
    keys = {
        "KEY": (ssh_server / "client").read_text().strip(),
        "HOST_KEY": (ssh_server / "host.pub").read_text().strip(),
    }
    result = names.run("shell", script, policy=network("four.test:22"), uid=uid, env=keys)

    assert result.stdout == "content\nrefused\n", result.stderr


# PostgreSQL

SERVE_POSTGRESQL = """
set -e
mkdir -p /srv/postgresql
chown nobody /srv/postgresql
as_nobody() { setpriv --reuid=nobody --regid=nogroup --clear-groups -- "$@"; }
as_nobody "$PROGRAMS/initdb" -D /srv/postgresql/data -A trust -U tester --no-sync >/dev/null
exec setpriv --reuid=nobody --regid=nogroup --clear-groups -- "$PROGRAMS/postgres" -D /srv/postgresql/data \
  -k /srv/postgresql -c listen_addresses=127.0.0.1 -c fsync=off
"""


@pytest.fixture(scope="module")
def database(names: NamesWorld) -> Iterator[Path]:
    """The programs of a PostgreSQL that listens on the world's loopback, and on a Unix socket."""
    programs = postgresql()
    assert programs is not None
    environment = {"PATH": PROGRAMS, "PROGRAMS": str(programs)}
    with names.start("sh", "-c", SERVE_POSTGRESQL, stderr=subprocess.PIPE, env=environment) as server:
        try:
            while "ready to accept connections" not in (line := next_line(server.stderr, "PostgreSQL")):
                assert line, "PostgreSQL ended"
            yield programs
        finally:
            server.terminate()
            server.communicate()


@contextlib.contextmanager
def _asked(names: NamesWorld, uid: int, programs: Path, entry: str, host: str) -> Iterator[RunResult]:
    script = f"""
{programs}/psql -h {host} -U tester -d postgres -Atc 'select 6 * 7'
{programs}/psql -h 127.0.0.1 -p 5433 -U tester -d postgres -Atc 'select 1' 2>/dev/null || echo refused
"""
    yield names.run("shell", script, policy=network(entry), uid=uid, env={"PGCONNECT_TIMEOUT": "20"})


@pytest.mark.skipif(not has("postgresql"), reason="this machine has no PostgreSQL of its own")
@pytest.mark.parametrize(
    ("entry", "host"),
    [
        ("localhost:5432", "localhost"),
        ("localhost:5432", "127.0.0.1"),
        ("unix:/srv/postgresql/.s.PGSQL.5432", "/srv/postgresql"),
    ],
)
def test_psql_asks_the_machines_own_database(
    names: NamesWorld, uid: int, database: Path, entry: str, host: str
) -> None:
    with _asked(names, uid, database, entry, host) as result:
        assert result.stdout == "42\nrefused\n", (result.stderr, result.sandbox)


# Go

GO = """
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

func main() {
	client := http.Client{Timeout: 30 * time.Second}
	for _, url := range []string{"http://api.test/", "http://six.test/"} {
		response, err := client.Get(url)
		if err != nil {
			fmt.Println(err)
			continue
		}
		body, _ := io.ReadAll(response.Body)
		fmt.Print(string(body))
	}
	_, err := net.LookupHost("unlisted.test")
	fmt.Println(err != nil)
	_, err = net.DialTimeout("tcp", "OTHER:80", 30*time.Second)
	fmt.Println(err)
}
"""


@pytest.fixture(scope="module")
def go_program(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A program that is linked with nothing, and resolves names by itself."""
    directory = tmp_path_factory.mktemp("go")
    (directory / "main.go").write_text(GO.replace("OTHER", OTHER))
    go = shutil.which("go", path=PROGRAMS)
    assert go is not None
    environment = {"PATH": PROGRAMS, "CGO_ENABLED": "0", "HOME": str(directory), "GOFLAGS": "-mod=mod"}
    build = [go, "build", "-ldflags", "-s -w", "-o", "program", "main.go"]
    subprocess.run(build, cwd=directory, check=True, env=environment)
    return (directory / "program").read_bytes()


@pytest.mark.skipif(not has("go"), reason="this machine has no Go, which nobody is asked to install")
def test_a_static_go_program_reaches_listed_names_and_no_others(
    names: NamesWorld, uid: int, go_program: bytes
) -> None:
    policy = network("api.test:80", "six.test:80")
    result = names.run("program", go_program, policy=policy, uid=uid)

    by_name, by_ipv6, is_unlisted, dialled = result.stdout.splitlines()
    assert by_name.endswith(" 80 api.test"), result.stderr
    assert by_ipv6 == "reached 2001:db8:9::1 80 six.test"
    assert is_unlisted == "true"
    assert "refused" in dialled or "denied" in dialled or "no route" in dialled

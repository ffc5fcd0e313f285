"""What scripts try in the network of names, and what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dns.message
import dns.rcode
from ringfence.scripts import RunResult

from tests.names_world import NamesWorld
from tests.sandbox.processes import descendants

BLOCKED = {"EHOSTUNREACH", "EACCES", "ENETUNREACH", "EPERM", "ECONNREFUSED"}
"""What a script is told of what the policy does not allow. Never `timeout`."""

SCRIPT = """
import errno, socket, ssl
from concurrent.futures import ThreadPoolExecutor

def told(error):
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, socket.gaierror):
        return {getattr(socket, name): name for name in dir(socket) if name.startswith("EAI_")}[error.errno]
    return errno.errorcode.get(error.errno, repr(error))

def look(name):
    return sorted({found[4][0] for found in socket.getaddrinfo(name, 80)})

def looks(*names):
    with ThreadPoolExecutor(len(names)) as threads:
        return list(threads.map(lambda name: outcome("look", name), names))

def connect(host, port, patience=20):
    with socket.create_connection((host, port), patience):
        return "connected"

def get(end, host):
    end.sendall(f"GET / HTTP/1.1\\r\\nHost: {host}\\r\\n\\r\\n".encode())
    end.shutdown(socket.SHUT_WR)
    return b"".join(iter(lambda: end.recv(65536), b"")).decode().partition("\\r\\n\\r\\n")[2].strip()

def web(host, port=80, says=None):
    with socket.create_connection((host, port), 20) as end:
        return get(end, says or host)

def tls(host, port, greets):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((host, port), 20) as end:
        with context.wrap_socket(end, server_hostname=greets) as secure:
            secure.sendall(f"GET / HTTP/1.1\\r\\nHost: {greets}\\r\\nConnection: close\\r\\n\\r\\n".encode())
            return secure.recv(65536).decode().partition("\\r\\n\\r\\n")[2].strip()

def udp(host, port, text, patience=20):
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as end:
        end.settimeout(patience)
        end.connect(address)
        end.send(text.encode())
        return end.recv(65536).decode()

def ask(server, port, how, query):
    query = bytes.fromhex(query)
    kind = socket.SOCK_STREAM if how == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, kind) as end:
        end.settimeout(20)
        end.connect((server, port))
        if how == "udp":
            end.send(query)
            return end.recv(65536).hex()
        end.sendall(len(query).to_bytes(2, "big") + query)
        answer = b""
        while len(answer) < 2 or len(answer) < 2 + int.from_bytes(answer[:2], "big"):
            if not (more := end.recv(65536)):
                return "closed"
            answer += more
        return answer[2:].hex()

def outcome(what, *arguments):
    try:
        return globals()[what](*arguments)
    except OSError as error:
        return told(error)

def main(steps):
    return [outcome(*step) for step in steps]
"""

Step = tuple[object, ...]


def network(*allow: str, **more: Any) -> dict[str, Any]:
    """A policy that allows these destinations."""
    return {"network": {"mode": "allowlist", "allow": list(allow), **more}}


def run(names: NamesWorld, uid: int, policy: dict[str, Any], *steps: Step, **more: Any) -> RunResult:
    """The run of a script that tries these steps, whose network was enforced."""
    result = names.run("python", SCRIPT, policy=policy, uid=uid, context=list(steps), **more)
    assert result.exit_code == 0, result
    assert result.sandbox.enforced.network
    assert not result.sandbox.downgrades
    return result


def attempt(names: NamesWorld, uid: int, policy: dict[str, Any], *steps: Step, **more: Any) -> list[Any]:
    """What each step came to."""
    value: list[Any] = run(names, uid, policy, *steps, **more).value
    return value


def query(name: str, kind: str, *, edns: bool = True) -> str:
    """A question, to be sent by a script."""
    return dns.message.make_query(name, kind, use_edns=0 if edns else None).to_wire().hex()


def answer(wire: str) -> tuple[str, list[str]]:
    """The code of an answer, and its records."""
    read = dns.message.from_wire(bytes.fromhex(wire))
    records = [record.to_text() for each in read.answer for record in each]
    return dns.rcode.to_text(read.rcode()), sorted(records)


def egress(result: RunResult) -> dict[str, Any]:
    """The record of what a run tried."""
    record: dict[str, Any] = result.model_dump(mode="json", by_alias=True)["egress"]
    return record


def relays(supervisor: int) -> list[int]:
    """The relays of a supervisor's runs, and of its sandboxes that wait: the forks of what has read their program."""
    return [pid for pid in descendants(supervisor) if _is_relay(pid)]


def _is_relay(pid: int) -> bool:
    try:
        parent = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1].decode()
        lines = [Path(f"/proc/{each}/cmdline").read_bytes() for each in (str(pid), parent)]
    except OSError:
        return False
    return all(b"relay_main" in line for line in lines)

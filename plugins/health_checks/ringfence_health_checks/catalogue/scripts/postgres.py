# A PostgreSQL server lets a user in, and answers a query.
#
# It needs the server in the policy's network.allow. For the password: --secret 'CHECK_PASSWORD={PG_PASSWORD}'.
#
# setting host: the server
# setting port = 5432: its port
# setting user = postgres: the user
# setting database = postgres: the database
# setting password = : the password
# setting query = SELECT 1: what is asked; a number that is answered becomes the metric value
# setting timeout = 10: seconds to wait
import base64
import contextlib
import hashlib
import hmac
import os
import secrets
import socket
import struct
import time


class Failed(Exception):
    pass


def main(context):
    host, port = os.environ["CHECK_HOST"], int(os.environ.get("CHECK_PORT") or 5432)
    timeout = float(os.environ.get("CHECK_TIMEOUT") or 10)
    began = time.monotonic()
    try:
        with (
            socket.create_connection((host, port), timeout=timeout) as connection,
            connection.makefile("rb") as heard,
        ):
            sign_in(connection, heard)
            value = ask(connection, heard, os.environ.get("CHECK_QUERY") or "SELECT 1")
    except (OSError, Failed, ValueError, struct.error) as error:
        return {"status": "unhealthy", "message": f"{host}:{port}: {error}"}
    took = (time.monotonic() - began) * 1000
    metrics = {"time": {"value": round(took, 1), "unit": "ms"}}
    with contextlib.suppress(TypeError, ValueError):
        metrics["value"] = float(value)
    return {"status": "healthy", "message": f"{host}:{port} answered in {took:.0f} ms", "metrics": metrics}


def sign_in(connection, heard):
    """Start a session, with a password in clear, by MD5 or by SCRAM-SHA-256, as the server wants it."""
    user, database = (
        os.environ.get("CHECK_USER") or "postgres",
        os.environ.get("CHECK_DATABASE") or "postgres",
    )
    password = os.environ.get("CHECK_PASSWORD", "")
    start = b"".join(one.encode() + b"\0" for one in ("user", user, "database", database)) + b"\0"
    connection.sendall(struct.pack(">II", 8 + len(start), 196608) + start)
    scram = None
    while True:
        kind, data = message(heard)
        if kind == b"Z":
            return
        if kind != b"R":
            continue
        (code,) = struct.unpack(">I", data[:4])
        if code == 3:
            say(connection, b"p", password.encode() + b"\0")
        elif code == 5:
            inner = hashlib.md5((password + user).encode(), usedforsecurity=False).hexdigest()
            outer = hashlib.md5(inner.encode() + data[4:8], usedforsecurity=False).hexdigest()
            say(connection, b"p", b"md5" + outer.encode() + b"\0")
        elif code == 10:
            scram = "n=,r=" + secrets.token_urlsafe(18)
            first = ("n,," + scram).encode()
            say(connection, b"p", b"SCRAM-SHA-256\0" + struct.pack(">I", len(first)) + first)
        elif code == 11:
            say(connection, b"p", scram_answer(password, scram, data[4:].decode()))
        elif code not in (0, 12):
            raise Failed(f"the server wants a way of signing in that is not known here ({code})")


def scram_answer(password, first, challenge):
    """The client's last message of SCRAM (RFC 5802)."""
    parts = dict(one.split("=", 1) for one in challenge.split(","))
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(parts["s"]), int(parts["i"]))
    key = hmac.digest(salted, b"Client Key", "sha256")
    last = "c=biws,r=" + parts["r"]
    said = f"{first},{challenge},{last}".encode()
    proof = hmac.digest(hashlib.sha256(key).digest(), said, "sha256")
    mixed = bytes(a ^ b for a, b in zip(key, proof, strict=True))
    return f"{last},p={base64.b64encode(mixed).decode()}".encode()


def ask(connection, heard, query):
    """The first column of the first row."""
    say(connection, b"Q", query.encode() + b"\0")
    value = None
    while True:
        kind, data = message(heard)
        if kind == b"Z":
            return value
        if kind == b"D" and value is None and struct.unpack(">H", data[:2])[0]:
            (length,) = struct.unpack(">i", data[2:6])
            value = data[6 : 6 + length].decode() if length >= 0 else None


def say(connection, kind, data):
    connection.sendall(kind + struct.pack(">I", 4 + len(data)) + data)


def message(heard):
    """The next message of the server."""
    head = heard.read(5)
    if len(head) < 5:
        raise Failed("the server has closed the connection")
    data = heard.read(struct.unpack(">I", head[1:])[0] - 4)
    if head[:1] == b"E":
        fields = {one[:1]: one[1:] for one in data.split(b"\0") if one}
        raise Failed(fields.get(b"M", b"an error without a text").decode(errors="replace"))
    return head[:1], data

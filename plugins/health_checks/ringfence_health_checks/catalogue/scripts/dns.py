# A name has addresses, and those that it should have.
#
# A server is asked by UDP, and must be in the policy's network.allow; without one, the sandbox's own resolver is asked.
#
# setting name: the name to look up
# setting server = : the address of the name server to ask
# setting port = 53: its port
# setting expect = : an address that must be among them
# setting timeout = 5: seconds to wait
import os
import secrets
import socket
import struct
import time

REASONS = {2: "the server failed", 3: "there is no such name", 5: "the server refused"}


def main(context):
    name, server = os.environ["CHECK_NAME"], os.environ.get("CHECK_SERVER", "")
    expect, timeout = os.environ.get("CHECK_EXPECT", ""), float(os.environ.get("CHECK_TIMEOUT") or 5)
    began = time.monotonic()
    try:
        if server:
            found = ask(name, server, int(os.environ.get("CHECK_PORT") or 53), timeout)
        else:
            found = sorted({one[4][0] for one in socket.getaddrinfo(name, None)})
    except (OSError, ValueError, IndexError, struct.error) as error:
        return {"status": "unhealthy", "message": f"{name} cannot be looked up: {error}"}
    took = (time.monotonic() - began) * 1000
    metrics = {"time": {"value": round(took, 1), "unit": "ms"}, "addresses": len(found)}
    if not found:
        return {"status": "unhealthy", "message": f"{name} has no address", "metrics": metrics}
    if expect and expect not in found:
        message = f"{name} is {', '.join(found)}, without {expect}"
        return {"status": "unhealthy", "message": message, "metrics": metrics}
    return {"status": "healthy", "message": f"{name} is {', '.join(found)}", "metrics": metrics}


def ask(name, server, port, timeout):
    """The IPv4 addresses of a name, by RFC 1035."""
    number = secrets.token_bytes(2)
    labels = b"".join(bytes([len(one)]) + one for one in name.rstrip(".").encode("idna").split(b"."))
    query = number + struct.pack(">HHHHH", 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", 1, 1)
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as connection:
        connection.settimeout(timeout)
        connection.connect((server, port))
        connection.send(query)
        answer = connection.recv(4096)
    if answer[:2] != number:
        raise ValueError("the answer is to another question")
    flags, _, count = struct.unpack(">HHH", answer[2:8])
    if flags & 15:
        raise ValueError(REASONS.get(flags & 15, f"the server's code is {flags & 15}"))
    place, found = len(query), []
    for _ in range(count):
        place = after_name(answer, place)
        kind, _, _, length = struct.unpack(">HHIH", answer[place : place + 10])
        data = answer[place + 10 : place + 10 + length]
        place += 10 + length
        if kind == 1 and length == 4:
            found.append(socket.inet_ntoa(data))
    return sorted(found)


def after_name(message, place):
    """Where a name ends, which may end with a pointer."""
    while length := message[place]:
        if length >= 192:
            return place + 2
        place += 1 + length
    return place + 1

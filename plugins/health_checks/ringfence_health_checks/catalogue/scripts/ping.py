# A host answers ICMP echo requests.
#
# Few sandboxes may send them: where this one may not, it says unknown. The check tcp works everywhere.
#
# setting host: the host
# setting count = 3: how many requests
# setting warn_ms = 100: from so many milliseconds on it is degraded
# setting timeout = 2: seconds to wait for each answer
import os
import socket
import struct
import time


def main(context):
    host, count = os.environ["CHECK_HOST"], int(os.environ.get("CHECK_COUNT") or 3)
    slow, timeout = float(os.environ.get("CHECK_WARN_MS") or 100), float(os.environ.get("CHECK_TIMEOUT") or 2)
    try:
        connection = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
    except OSError as error:
        return {"status": "unknown", "message": f"no ICMP can be sent from this sandbox: {error}"}
    times = []
    with connection:
        connection.settimeout(timeout)
        try:
            connection.connect((host, 0))
            for number in range(count):
                began = time.monotonic()
                connection.send(echo(number))
                try:
                    connection.recv(1024)
                except TimeoutError:
                    continue
                times.append((time.monotonic() - began) * 1000)
        except OSError as error:
            return {
                "status": "unknown",
                "message": f"no ICMP can be sent to {host} from this sandbox: {error}",
            }
    loss = 100 * (1 - len(times) / count)
    metrics = {"loss": {"value": round(loss, 1), "unit": "%"}}
    if not times:
        return {"status": "unhealthy", "message": f"{host} does not answer", "metrics": metrics}
    mean = sum(times) / len(times)
    metrics["time"] = {"value": round(mean, 2), "unit": "ms", "warn": f"{slow:g}"}
    state = "degraded" if loss or mean >= slow else "healthy"
    return {"status": state, "message": f"{host}: {mean:.1f} ms, {loss:.0f}% lost", "metrics": metrics}


def echo(number):
    """An echo request (RFC 792); the kernel fills in the identifier, and the checksum."""
    return struct.pack(">BBHHH", 8, 0, 0, 0, number) + b"ringfence"

# A TCP port takes connections, and says what it should.
#
# It needs the port in the policy's network.allow.
#
# setting host: the server
# setting port: its port
# setting send = : a line to send first
# setting expect = : a text that must come
# setting timeout = 10: seconds to wait
import os
import socket
import time


def main(context):
    host, port = os.environ["CHECK_HOST"], int(os.environ["CHECK_PORT"])
    send, expect = os.environ.get("CHECK_SEND", ""), os.environ.get("CHECK_EXPECT", "")
    timeout = float(os.environ.get("CHECK_TIMEOUT") or 10)
    began = time.monotonic()
    heard = b""
    try:
        with socket.create_connection((host, port), timeout=timeout) as connection:
            took = (time.monotonic() - began) * 1000
            if send:
                connection.sendall(send.encode() + b"\r\n")
            while expect.encode() not in heard and len(heard) < 65536:
                connection.settimeout(max(0.001, began + timeout - time.monotonic()))
                part = connection.recv(4096)
                if not part:
                    break
                heard += part
    except OSError as error:
        said = f"after {heard[:80]!r}" if heard else ""
        return {"status": "unhealthy", "message": f"{host}:{port}: {error} {said}".rstrip()}
    metrics = {"time": {"value": round(took, 1), "unit": "ms"}}
    if expect.encode() not in heard:
        return {
            "status": "unhealthy",
            "message": f"{host}:{port} said {heard[:80]!r}, without {expect!r}",
            "metrics": metrics,
        }
    return {"status": "healthy", "message": f"{host}:{port} answers in {took:.0f} ms", "metrics": metrics}

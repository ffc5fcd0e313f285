"""The program of a step `http`: one request, one answer. It runs in the sandbox, on the standard library alone."""

import contextlib
import http.client
import json
import os
import ssl
from typing import Any
from urllib.parse import SplitResult, urlsplit


def main(context: dict[str, Any]) -> dict[str, Any]:
    url = urlsplit(context["url"])
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    headers = {"User-Agent": "ringfence", "Accept-Encoding": "identity"}
    headers.update({name: os.environ.get(variable, "") for name, variable in context["headers"].items()})
    body = None if context["body"] is None else context["body"].encode()
    if context["hasJson"]:
        body = json.dumps(context["json"], ensure_ascii=False).encode()
        if not any(name.lower() == "content-type" for name in headers):
            headers["Content-Type"] = "application/json"
    try:
        connection = _connection(context, url)
        try:
            connection.request(context["method"], path, body=body, headers=headers)
            answer = connection.getresponse()
            raw = answer.read(context["most"] + 1)
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, ValueError, UnicodeError) as error:
        return {"error": f"{type(error).__name__}: {error}"}
    cut = len(raw) > context["most"]
    raw = raw[: context["most"]]
    told = {
        "status": answer.status,
        "headers": _headers(answer),
        "body": raw.decode("utf-8", "replace"),
        "bodyTruncated": cut,
        "json": None,
    }
    with contextlib.suppress(ValueError, RecursionError):
        told["json"] = None if cut else json.loads(raw, parse_constant=lambda name: None)
    return told


def _connection(context: dict[str, Any], url: SplitResult) -> http.client.HTTPConnection:
    host = url.hostname or ""
    if url.scheme == "http":
        return http.client.HTTPConnection(host, url.port or 80, timeout=context["timeout"])
    tls = ssl.create_default_context(cadata=context["ca"])
    if not context["verify"]:
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection(host, url.port or 443, timeout=context["timeout"], context=tls)


def _headers(answer: http.client.HTTPResponse) -> dict[str, str]:
    """The headers by name in small letters; those that came several times with commas between them."""
    told: dict[str, str] = {}
    for name, value in answer.getheaders()[:100]:
        name = name.lower()[:200]
        told[name] = f"{told[name]}, {value[:4096]}" if name in told else value[:4096]
    return told

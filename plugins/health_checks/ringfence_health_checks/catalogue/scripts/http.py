# A web server answers with the status and the text that it should.
#
# It needs the server in the policy's network.allow.
#
# setting url: the address to ask
# setting expect = 200: the status that it must answer with
# setting contains = : a text that the answer must contain
# setting warn_ms = 0: from so many milliseconds on it is degraded; 0 for never
# setting timeout = 10: seconds to wait
import os
import time
import urllib.error
import urllib.request

MOST = 1024 * 1024


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args, **kwargs):
        return None


def main(context):
    url, expected = os.environ["CHECK_URL"], int(os.environ.get("CHECK_EXPECT") or "200")
    contains = os.environ.get("CHECK_CONTAINS", "")
    slow, timeout = float(os.environ.get("CHECK_WARN_MS") or 0), float(os.environ.get("CHECK_TIMEOUT") or 10)
    if not url.startswith(("http://", "https://")):
        return {"status": "unknown", "message": f"{url} is no address of a web server"}
    began = time.monotonic()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), NoRedirect())
    try:
        try:
            answer = opener.open(url, timeout=timeout)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            status, body = answer.status, answer.read(MOST)
    except (OSError, ValueError) as error:
        return {"status": "unhealthy", "message": f"no answer from {url}: {getattr(error, 'reason', error)}"}
    took = (time.monotonic() - began) * 1000
    metrics = {
        "time": {"value": round(took, 1), "unit": "ms"},
        "size": {"value": len(body), "unit": "B"},
        "code": status,
    }
    if status != expected:
        return {
            "status": "unhealthy",
            "message": f"{url} answered {status}, not {expected}",
            "metrics": metrics,
        }
    if contains.encode() not in body:
        return {"status": "unhealthy", "message": f"{url} does not contain {contains!r}", "metrics": metrics}
    state = "degraded" if 0 < slow <= took else "healthy"
    return {"status": state, "message": f"{url} answered {status} in {took:.0f} ms", "metrics": metrics}

# Lines of a log do not match a pattern.
#
# It needs the log in the policy's filesystem.hostPaths, and says unknown without it. Where the check keeps state, each
# line is looked at once; otherwise the end of the log is looked at each time.
#
# setting path: the log
# setting pattern: the regular expression
# setting warn = 1: from so many lines on it is degraded
# setting crit = 0: from so many lines on it is unhealthy; 0 for never
# setting last = 65536: how many bytes at the log's end are looked at without state, and at first
import json
import os
import re


def main(context):
    path, pattern = os.environ["CHECK_PATH"], os.environ["CHECK_PATTERN"]
    warn, crit = int(os.environ.get("CHECK_WARN") or 1), int(os.environ.get("CHECK_CRIT") or 0)
    last = int(os.environ.get("CHECK_LAST") or 65536)
    try:
        expression = re.compile(pattern)
    except re.error as error:
        return unknown(f"the pattern cannot be read: {error}")
    state = os.environ.get("RINGFENCE_STATE_DIR")
    kept = os.path.join(state, "position") if state else None
    try:
        with open(path, "rb") as log:
            about = os.fstat(log.fileno())
            place = begin(kept, about, last)
            log.seek(place)
            text = log.read(8 * 1024 * 1024)
    except OSError as error:
        return unknown(f"{path}: {error.strerror} (filesystem.hostPaths grants a path of the host)")
    whole = text[: text.rfind(b"\n") + 1]
    lines = whole.decode(errors="replace").splitlines()
    found = [line for line in lines if expression.search(line)]
    if kept:
        with open(kept, "w") as file:
            json.dump({"inode": about.st_ino, "place": place + len(whole)}, file)
    count = len(found)
    return {
        "status": "unhealthy" if 0 < crit <= count else "degraded" if 0 < warn <= count else "healthy",
        "message": found[-1][:300] if found else f"none of {len(lines)} lines matches",
        "metrics": {"matches": {"value": count, "warn": str(warn), "crit": str(crit)}, "lines": len(lines)},
    }


def begin(kept, about, last):
    """Where to begin: where the last run ended, if it is still that file and has not been shortened."""
    end = max(0, about.st_size - last)
    try:
        with open(kept or "") as file:
            known = json.load(file)
        if known["inode"] != about.st_ino or known["place"] > about.st_size:
            return 0
        return int(known["place"])
    except (OSError, ValueError, KeyError):
        return end


def unknown(message):
    return {"status": "unknown", "message": message}

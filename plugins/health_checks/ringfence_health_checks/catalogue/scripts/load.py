# The host's processors keep up with their work.
#
# It needs filesystem.hostView in the policy, and says unknown without it.
#
# setting warn = 2: from this load of five minutes for each processor on it is degraded
# setting crit = 4: from this load of five minutes for each processor on it is unhealthy
import os
import re


def main(context):
    warn, crit = float(os.environ.get("CHECK_WARN") or 2), float(os.environ.get("CHECK_CRIT") or 4)
    proc = os.environ.get("HOST_PROC")
    if not proc:
        return unknown("the sandbox shows nothing of the host (filesystem.hostView grants that)")
    try:
        with open(f"{proc}/loadavg") as file:
            one, five, fifteen = map(float, file.read().split()[:3])
        with open(f"{proc}/stat") as file:
            cores = len(re.findall(r"^cpu\d+ ", file.read(), re.MULTILINE))
    except (OSError, ValueError) as error:
        return unknown(f"the load cannot be read: {error}")
    if not cores:
        return unknown(f"{proc}/stat tells of no processor")
    each = five / cores
    return {
        "status": "unhealthy" if each >= crit else "degraded" if each >= warn else "healthy",
        "message": f"load {one:g}, {five:g}, {fifteen:g} on {cores} processors",
        "metrics": {
            "load1": one,
            "load5": {"value": five, "warn": f"{warn * cores:g}", "crit": f"{crit * cores:g}"},
            "load15": fifteen,
        },
    }


def unknown(message):
    return {"status": "unknown", "message": message}

# The host has memory left.
#
# It needs filesystem.hostView in the policy, and says unknown without it.
#
# setting warn = 85: from so many percent used on it is degraded
# setting crit = 95: from so many percent used on it is unhealthy
import os


def main(context):
    warn, crit = float(os.environ.get("CHECK_WARN") or 85), float(os.environ.get("CHECK_CRIT") or 95)
    proc = os.environ.get("HOST_PROC")
    if not proc:
        return unknown("the sandbox shows nothing of the host (filesystem.hostView grants that)")
    try:
        with open(f"{proc}/meminfo") as lines:
            numbers = {
                name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)
            }
        total, available = numbers["MemTotal"], numbers["MemAvailable"]
    except (OSError, ValueError, KeyError, IndexError) as error:
        return unknown(f"{proc}/meminfo cannot be read: {error}")
    used = 100 * (1 - available / total)
    return {
        "status": "unhealthy" if used >= crit else "degraded" if used >= warn else "healthy",
        "message": f"{used:.1f}% of {total / 2**20:.1f} GiB are used",
        "metrics": {
            "used": {"value": round(used, 2), "unit": "%", "warn": f"{warn:g}", "crit": f"{crit:g}"},
            "available": {"value": available, "unit": "KB", "min": 0, "max": total},
            "swap_free": {"value": numbers.get("SwapFree", 0), "unit": "KB"},
        },
    }


def unknown(message):
    return {"status": "unknown", "message": message}

# A file system of the host has room left.
#
# It needs filesystem.hostView: [disks] in the policy, and says unknown without it.
#
# setting path = /: where the file system is mounted
# setting warn = 80: from so many percent used on it is degraded
# setting crit = 90: from so many percent used on it is unhealthy
import os


def main(context):
    path = os.environ.get("CHECK_PATH") or "/"
    warn, crit = float(os.environ.get("CHECK_WARN") or 80), float(os.environ.get("CHECK_CRIT") or 90)
    proc = os.environ.get("HOST_PROC")
    if not proc or not os.path.exists("/etc/mtab"):
        return unknown(
            "the sandbox shows no file system of the host (filesystem.hostView: [disks] grants that)"
        )
    try:
        with open(f"{proc}/mounts") as mounts:
            mounted = {line.split(" ")[1].encode().decode("unicode_escape") for line in mounts}
        if path not in mounted:
            return unknown(f"no file system of the host is mounted on {path}, or it is not shown")
        found = os.statvfs(path)
    except OSError as error:
        return unknown(f"{path}: {error}")
    if found.f_blocks == 0:
        return unknown(f"the file system on {path} has no numbers here")
    used = found.f_blocks - found.f_bfree
    percent = 100 * used / (used + found.f_bavail)
    inodes = 100 * (1 - found.f_ffree / found.f_files) if found.f_files else 0.0
    worst = max(percent, inodes)
    return {
        "status": "unhealthy" if worst >= crit else "degraded" if worst >= warn else "healthy",
        "message": f"{path} is {percent:.1f}% full, {found.f_bavail * found.f_frsize / 2**30:.1f} GiB are free",
        "metrics": {
            "used": {"value": round(percent, 2), "unit": "%", "warn": f"{warn:g}", "crit": f"{crit:g}"},
            "inodes": {"value": round(inodes, 2), "unit": "%", "warn": f"{warn:g}", "crit": f"{crit:g}"},
            "free": {"value": found.f_bavail * found.f_frsize, "unit": "B"},
        },
    }


def unknown(message):
    return {"status": "unknown", "message": message}

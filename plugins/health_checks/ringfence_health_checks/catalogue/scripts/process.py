# As many processes of a name run on the host as should.
#
# It needs filesystem.hostView: [processes] in the policy, and says unknown without it.
#
# setting name: what the program is called, as ps -o comm shows it
# setting least = 1: with fewer it is unhealthy
# setting most = 0: with more it is degraded; 0 for any number
import os


def main(context):
    name = os.environ["CHECK_NAME"]
    least, most = int(os.environ.get("CHECK_LEAST") or 1), int(os.environ.get("CHECK_MOST") or 0)
    proc = os.environ.get("HOST_PROC")
    # In a sandbox that shows only its own processes, the first one's directory is covered.
    if not proc or comm(f"{proc}/1") is None:
        return unknown(
            "the sandbox shows no process of the host (filesystem.hostView: [processes] grants that)"
        )
    try:
        found = [pid for pid in os.listdir(proc) if pid.isdecimal() and comm(f"{proc}/{pid}") == name[:15]]
    except OSError as error:
        return unknown(f"{proc} cannot be read: {error}")
    bounds = f"{least}:{most}" if most else f"{least}:"
    return {
        "status": "unhealthy" if len(found) < least else "degraded" if 0 < most < len(found) else "healthy",
        "message": f"{len(found)} processes of {name}",
        "metrics": {"processes": {"value": len(found), "crit": bounds}},
    }


def comm(directory):
    """What a process's program is called; None if there is none."""
    try:
        with open(f"{directory}/comm") as file:
            return file.read().rstrip("\n")
    except OSError:
        return None


def unknown(message):
    return {"status": "unknown", "message": message}

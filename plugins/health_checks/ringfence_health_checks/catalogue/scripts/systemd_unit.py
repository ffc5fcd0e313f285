# A service of the host's systemd runs: it has processes.
#
# It needs filesystem.hostView: [processes] in the policy, and says unknown without it. It goes by the control groups of
# processes, since systemd itself cannot be asked from a sandbox; so it is for units that keep running.
#
# setting unit: the unit, such as nginx.service
import os


def main(context):
    unit = os.environ["CHECK_UNIT"]
    if "." not in unit:
        unit += ".service"
    proc = os.environ.get("HOST_PROC")
    first = groups(f"{proc}/1") if proc else None
    # In a sandbox that shows only its own processes, the first one's directory is covered.
    if not first:
        return unknown(
            "the sandbox shows no process of the host (filesystem.hostView: [processes] grants that)"
        )
    if comm(f"{proc}/1") != "systemd":
        return unknown(f"the host's first process is {comm(f'{proc}/1')}, not systemd")
    try:
        pids = [pid for pid in os.listdir(proc) if pid.isdecimal()]
    except OSError as error:
        return unknown(f"{proc} cannot be read: {error}")
    found = [pid for pid in pids if any(unit in line.split("/") for line in groups(f"{proc}/{pid}") or ())]
    return {
        "status": "healthy" if found else "unhealthy",
        "message": f"{unit} has {len(found)} processes" if found else f"{unit} does not run",
        "metrics": {"processes": {"value": len(found), "crit": "1:"}},
    }


def groups(directory):
    """The control groups of a process, a line for each hierarchy; None if there is no such process."""
    try:
        with open(f"{directory}/cgroup") as file:
            return [line.rstrip("\n").split(":", 2)[-1] for line in file]
    except OSError:
        return None


def comm(directory):
    try:
        with open(f"{directory}/comm") as file:
            return file.read().rstrip("\n")
    except OSError:
        return None


def unknown(message):
    return {"status": "unknown", "message": message}

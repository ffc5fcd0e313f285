"""Settings that are read where they are used, with a host or without: by sandboxes, runners, agents and commands.

The sandbox stands on nothing of the host, and the agent is to start quickly, so no model reads these.
"""

from __future__ import annotations

from ringfence.settings.catalog import Setting

EVERYWHERE = (
    Setting("RINGFENCE_CONFIG", "commands", "the settings file", "ringfence.toml in the data directory"),
    Setting("RINGFENCE_URL", "commands", "the host that commands talk to", "the one of the data directory"),
    Setting(
        "RINGFENCE_TOKEN",
        "commands",
        "the token that commands sign in with",
        "the administrator's, on the host's machine",
        secret=True,
    ),
    Setting(
        "RINGFENCE_CA_FILE",
        "commands",
        "a file of certificates (PEM) to trust beside the system's, for agents and commands",
    ),
    Setting("RINGFENCE_LOG_LEVEL", "commands", "debug, info, warning or error", "info"),
    Setting("RINGFENCE_DEBUG", "commands", "1 shows the tracebacks of unexpected errors", "0"),
    Setting(
        "RINGFENCE_AGENT_URL", "agent", "the addresses of the host's instances, with spaces between them"
    ),
    Setting(
        "RINGFENCE_AGENT_STATE_DIR", "agent", "where results wait for the host", "beside the token's file"
    ),
    Setting("RINGFENCE_HEARTBEAT_SECONDS", "agent", "the pause between two heartbeats, in seconds", "15"),
    Setting(
        "RINGFENCE_PYTHON", "scripts", "the interpreter of Python scripts", "the first that a run can reach"
    ),
    Setting("RINGFENCE_NODE", "scripts", "the interpreter of ESM scripts", "the first that a run can reach"),
    Setting("RINGFENCE_MAX_CONCURRENT_RUNS", "scripts", "how many scripts run at once", "4 per processor"),
    Setting("RINGFENCE_WARM_SANDBOXES", "scripts", "how many sandboxes wait ready", "4"),
    Setting("RINGFENCE_SCRIPT_PACKAGES", "scripts", "a directory of packages that scripts may import"),
    Setting("RINGFENCE_WRAPPER", "sandbox", "what makes the sandboxes: bubblewrap or nsjail", "bubblewrap"),
    Setting("RINGFENCE_NSJAIL", "sandbox", "the path of an nsjail that is not on the path"),
    Setting("RINGFENCE_MACVLAN", "sandbox", "addresses on a network of the machine that runs may have"),
    Setting(
        "RINGFENCE_UIDS",
        "sandbox",
        "the uids that runs of a root supervisor have: FIRST-LAST or FIRST:COUNT",
        "2000000000-2000065535",
    ),
    Setting("RINGFENCE_CGROUP", "sandbox", "a cgroup v2 subtree for limits that the kernel keeps"),
)

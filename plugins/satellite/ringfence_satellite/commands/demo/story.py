"""What happens in the demo, step by step, each with what must be seen for it to be true."""

from __future__ import annotations

import datetime as dt
import json
import textwrap
import time
from typing import Any

from rich.text import Text
from ringfence.cli import ApiError, output, report
from ringfence_script_packages.addresses import POLICY

from ringfence_satellite.commands.demo.narration import Narration, Step, check
from ringfence_satellite.commands.demo.stage import Satellite, Service, Stage

TOKENS = "/api/host/tokens"
MiB = 1024 * 1024
SMALL_MEMORY = 64 * MiB
WANTED_MEMORY = 200 * MiB

VISIT = """
import json, socket
try:
    with socket.create_connection(({address!r}, {port}), timeout=3) as service:
        print(json.dumps({{"connected": True, "heard": service.recv(64).decode()}}))
except OSError as error:
    print(json.dumps({{"connected": False, "error": str(error) or type(error).__name__}}))
"""

FILL = f"""
import json
print(json.dumps({{"filled": len(bytes({WANTED_MEMORY}).replace(b"\\0", b"x"))}}))
"""

LOOK = """
import json, os
def can(path):
    try:
        open(path).close()
    except OSError:
        return False
    return True
print(json.dumps({"uid": os.getuid(), "readsShadow": can("/etc/shadow"), "processes": len(
    [name for name in os.listdir("/proc") if name.isdigit()])}))
"""


def tell(stage: Stage, narration: Narration) -> None:
    """Play the whole story. Raises `StepFailed` at the first step that does not do what it says."""
    with narration.step("A host starts, with a database of its own") as step:
        url = stage.start_host()
        step.fact("url", url)
        service = stage.open_service()
        none = "this machine has no address but loopback, so the steps that need one are left out"
        step.fact("a service to reach", none if service is None else f"{service.address}:{service.port}")

    with narration.step("Two satellites connect, each a process of its own") as step:
        relay = stage.relay()
        north = stage.start_satellite("north")
        south = stage.start_satellite("south", through=relay)
        for satellite in (north, south):
            state = stage.until_applied(satellite, 0)
            step.fact(satellite.name, state.get("enforced"), shown=_state_text(state))

    with narration.step(
        "Under the shipped default a script on north looks around, and reaches nothing"
    ) as step:
        seen = _run(stage, step, north, "a look around", LOOK)
        check(not seen["readsShadow"], "the script could read /etc/shadow")
        check(seen["uid"] != 0, "the script ran as root")
        if service is not None:
            _visit_is_cut_off(stage, step, north, service)
        filled = _run(stage, step, north, f"filling {WANTED_MEMORY // MiB} MiB of memory", FILL)
        check(filled["filled"] == WANTED_MEMORY, "the script could not have memory within its limit")

    if service is not None:
        _allow_the_service(stage, narration, service, (north, south))

    with narration.step("The admin cuts the network off, and memory down to 64 MiB") as step:
        change = {"network": {"mode": "deny", "allow": []}, "resources": {"memoryBytes": SMALL_MEMORY}}
        revision = _change(stage, step, change, "an incident: close everything", (north, south))

    with narration.step("The same scripts are cut off, on both satellites") as step:
        for satellite in (north, south):
            if service is not None:
                _visit_is_cut_off(stage, step, satellite, service)
            result = stage.run(satellite, "python", FILL)
            _show_run(step, satellite, "filling memory", result)
            check(result["exitCode"] != 0, f"the script had its memory on {satellite.name} all the same")
            check(not report.refused(result), f"{satellite.name} refused the run")

    with narration.step("Somebody without the access rule tries to open it again, and is refused") as step:
        _refused_change(stage, step, revision)

    with narration.step("South is cut off, misses a change, comes back, and has it") as step:
        relay.cut()
        revision = _change(stage, step, {"resources": {"cpuSeconds": 5}}, "while south is away", (north,))
        state = stage.state(south)
        check(
            state.get("appliedRevision") == revision - 1, f"south has revision {state.get('appliedRevision')}"
        )
        step.fact("south meanwhile", f"{state['status']}, still at revision {revision - 1}")
        relay.mend()
        mended = time.monotonic()
        stage.until_applied(south, revision)
        step.fact(
            "south again",
            f"revision {revision}, {time.monotonic() - mended:.1f} s after the network was mended",
        )

    with narration.step("The history tells who changed what, and why") as step:
        _history(stage, step, revision)


def _allow_the_service(
    stage: Stage, narration: Narration, service: Service, satellites: tuple[Satellite, ...]
) -> None:
    entry = f"{service.address}:{service.port}"
    with narration.step(f"The admin allows one address, {entry}") as step:
        change = {"network": {"mode": "allowlist", "allow": [entry]}}
        revision = _change(stage, step, change, "scripts may greet the service", satellites)

    elsewhere = stage.open_service()
    states = {satellite.name: stage.until_applied(satellite, revision) for satellite in satellites}
    plumbed = not any(_network_downgrades(state) for state in states.values())
    title = (
        "The same script is let through to it, and to no other port, on both satellites"
        if plumbed
        else "This machine cannot filter an allowlist, so the run is refused, and says so"
    )
    with narration.step(title) as step:
        for satellite in satellites:
            before = service.visitors
            result = stage.run(satellite, "python", VISIT.format(address=service.address, port=service.port))
            _show_run(step, satellite, f"a connection to {entry}", result)
            if _network_downgrades(states[satellite.name]):
                check(report.refused(result), "a policy that cannot be enforced was not refused")
                check(service.visitors == before, "a refused script reached the service")
                continue
            answer = _answer(result)
            check(answer.get("connected") is True, f"the script was not let through: {answer.get('error')}")
            check(answer.get("heard") == Service.GREETING, "the script heard something else")
            check(
                bool(result["sandbox"]["enforced"]["network"]),
                "the network was let through, but not filtered",
            )
            if elsewhere is not None:
                _visit_is_cut_off(stage, step, satellite, elsewhere)


def _visit_is_cut_off(stage: Stage, step: Step, satellite: Satellite, service: Service) -> None:
    before = service.visitors
    script = VISIT.format(address=service.address, port=service.port)
    answer = _run(stage, step, satellite, f"a connection to {service.address}:{service.port}", script)
    check(answer["connected"] is False, f"the script on {satellite.name} reached the service")
    check(service.visitors == before, "the service was reached")


def _run(stage: Stage, step: Step, satellite: Satellite, what: str, script: str) -> dict[str, Any]:
    """Run a script that must end well, with its network and files enforced; what it printed."""
    result = stage.run(satellite, "python", script)
    answer = {} if report.refused(result) else _answer(result)
    _show_run(step, satellite, what, result, answer)
    reasons = "; ".join(f"{one['layer']}: {one['reason']}" for one in result["sandbox"]["downgrades"])
    check(
        not report.refused(result),
        f"{satellite.name} cannot enforce the policy, and refused the run: {reasons}",
    )
    check(result["exitCode"] == 0, f"the script failed: {textwrap.shorten(result['stderr'], 300)}")
    for layer in ("filesystem", "network", "privilege", "resources"):
        check(bool(result["sandbox"]["enforced"].get(layer)), f"{layer} was not enforced")
    return answer


def _answer(result: dict[str, Any]) -> dict[str, Any]:
    try:
        answer = json.loads(result["stdout"])
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _show_run(
    step: Step, satellite: Satellite, what: str, result: dict[str, Any], answer: dict[str, Any] | None = None
) -> None:
    answer = _answer(result) if answer is None else answer
    text = report.summary(result)
    if answer:
        text.append("  " + ", ".join(f"{key} {value}" for key, value in answer.items()), style="default")
    text.append("\n      ").append_text(report.enforcement(result["sandbox"]))
    for downgrade in result["sandbox"]["downgrades"]:
        text.append(
            f"\n      {output.line(downgrade['layer'])}: {output.line(downgrade['reason'])}",
            style=output.WARN,
        )
    seen = {"answer": answer, "exitCode": result["exitCode"], "sandbox": result["sandbox"]}
    step.fact(f"{what}, on {satellite.name}", seen, shown=text)


def _change(
    stage: Stage, step: Step, change: dict[str, Any], reason: str, satellites: tuple[Satellite, ...]
) -> int:
    """Change the policy, and see each satellite acknowledge it; the new revision."""
    current = stage.host.request("GET", POLICY)["revision"]
    made = stage.host.request(
        "PATCH", POLICY, body={"policy": change, "reason": reason}, headers={"if-match": f'"{current}"'}
    )
    revision = int(made["revision"])
    check(revision == current + 1, f"the revision after {current} is {revision}")
    step.fact("revision", revision)
    for satellite in satellites:
        state = stage.until_applied(satellite, revision)
        took = _milliseconds(made["updatedAt"], state["appliedAt"])
        step.fact(f"{satellite.name} acknowledged after", f"{took:.1f} ms")
    return revision


def _refused_change(stage: Stage, step: Step, revision: int) -> None:
    weak = stage.host.request("POST", TOKENS, body={"name": "visitor", "rules": ["host.plugin.read"]})
    with stage.client(weak["token"]) as visitor:
        try:
            visitor.request(
                "PATCH",
                POLICY,
                body={"policy": {"network": {"mode": "unrestricted"}}},
                headers={"if-match": f'"{revision}"'},
            )
        except ApiError as error:
            check(error.status == 403, f"the host answered {error.status}: {error}")
            step.fact("answer", f"{error.status} {error.message}")
        else:
            check(False, "the change went through")
    now = stage.host.request("GET", POLICY)["revision"]
    check(now == revision, f"the revision is {now}")
    step.fact("still at revision", now)


def _history(stage: Stage, step: Step, revision: int) -> None:
    revisions = stage.host.request("GET", f"{POLICY}/history")["revisions"]
    numbers = [entry["revision"] for entry in revisions]
    check(numbers == list(range(revision, 0, -1)), f"the history holds {numbers}")
    check(all(entry["actor"] for entry in revisions), "a revision has no author")
    for entry in revisions:
        changed = ", ".join(str(change["path"]) for change in entry["changes"])
        step.fact(f"revision {entry['revision']}", f"{entry['actor']}: {entry['reason']} ({changed})")


def _state_text(state: dict[str, Any]) -> Text:
    text = Text(f"online at revision {state['appliedRevision']}  ")
    return text.append_text(report.enforcement({"enforced": state.get("enforced") or {}}))


def _network_downgrades(state: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in state.get("downgrades") or () if one.get("layer") == "network"]


def _milliseconds(start: str, end: str) -> float:
    return (dt.datetime.fromisoformat(end) - dt.datetime.fromisoformat(start)).total_seconds() * 1000

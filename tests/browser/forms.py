"""Every form that pages have: where it stands, what is entered, right and wrong, and what the page says then.

A form is known by the path of its action. The rows are sent one after the other: later ones are about what earlier ones
have made. A value that begins with a brace stands for what an earlier row has kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

ON, OFF = "\0on", "\0off"
"""A tick that is to be set, and one that is to be taken away."""
GONE = "00000000-0000-4000-8000-000000000000"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One form."""

    on: str
    """The page that it stands on."""
    says: str
    """What the page says when it was right."""
    of: Mapping[str, str] = field(default_factory=dict)
    """What stands for the names in the action's path."""
    right: Mapping[str, str] = field(default_factory=dict)
    wrong: Mapping[str, str] | None = None
    """Fields that are refused, with `told` beside them."""
    gone: Mapping[str, str] | None = None
    """Of a form without fields: what stands for the names in its path where what it is about is gone."""
    told: str = ""
    never_wrong: str = ""
    """Why there is nothing that could be wrong with it."""
    button: str | None = None
    """The words on the button, of several."""
    keep: Mapping[str, str] = field(default_factory=dict)
    """Names, and the expressions that find in the address, in the page or in `on` what they are kept for."""


NOTHING_ENTERED = "nothing is entered, and it is about the host itself"
ELSEWHERE = {
    "/policy/merge": "tests/browser/test_policy_together.py",
    "/gitops/released/back": "tests/gitops/test_keeping.py",
    "/gitops/released/release": "tests/gitops/test_keeping.py",
    "/this-host/stop": "tests/pages/own/test_this_host.py",
    "/written": "tests/browser/test_words.py",
}
"""Forms that need a test of their own."""

_SATELLITE = {"id": "{satellite}"}
_RUN = {"id": "{satellite}", "run": "{run}"}
_CHECK = {"id": "{check}"}
_AUTOMATION = {"name": "greet"}
_CHANNEL = {"name": "forms"}
_TEXT = "name: greet\ntriggers:\n  - webhook: {}\nsteps:\n  - id: hello\n    run_shell:\n      script: echo hello\n"
_SLOW = "name: wait\nsteps:\n  - id: wait\n    run_shell:\n      script: sleep 600\n"

FORMS: dict[str, list[Row]] = {
    "/tokens": [
        Row(
            on="/tokens/new",
            right={"name": "of-forms", "rule:host.plugin.read": ON, "rule:host.job.read": ON},
            says="The token of-forms is created.",
            wrong={"name": "of-forms"},
            told="Choose at least one access rule",
            keep={"token": 'href="/tokens/([0-9a-f-]{36})"'},
        )
    ],
    "/tokens/{id}/narrow": [
        Row(
            on="/tokens/{token}",
            of={"id": "{token}"},
            right={"rule:host.job.read": OFF},
            says="The token is saved.",
            wrong={"rule:host.job.read": OFF, "rule:host.plugin.read": OFF},
            told="A token needs at least one rule",
        )
    ],
    "/tokens/{id}/revoke": [
        Row(
            on="/tokens/{token}",
            of={"id": "{token}"},
            says="The token is revoked.",
            gone={"id": GONE},
            told="no live API token",
        )
    ],
    "/sessions/{id}/end": [
        Row(
            on="/sessions",
            of={"id": "{session}"},
            says="The session has ended.",
            gone={"id": GONE},
            told="there is no session",
        )
    ],
    "/events/failed/replay": [
        Row(
            on="/events/failed",
            right={"all": "yes"},
            says="tried again by the instance",
            wrong={"all": "", "id": "999999"},
            told="999999",
        )
    ],
    "/jobs/{id}/retry": [
        Row(
            on="/jobs/{failed_job}",
            of={"id": "{failed_job}"},
            says="The job is queued again.",
            gone={"id": GONE},
            told="no job",
        )
    ],
    "/jobs/{id}/cancel": [
        Row(
            on="/jobs/{waiting_job}",
            of={"id": "{waiting_job}"},
            says="The job is cancelled",
            gone={"id": GONE},
            told="no job",
        )
    ],
    "/this-host/again": [Row(on="/this-host", says="tried", never_wrong=NOTHING_ENTERED)],
    "/secrets": [
        Row(
            on="/secrets",
            right={"name": "OF_FORMS", "value": "hunter2-hunter2"},
            says="OF_FORMS is set.",
            wrong={"name": "no name", "value": "hunter2-hunter2"},
            told="not a valid name",
        )
    ],
    "/secrets/{name}/set": [
        Row(
            on="/secrets/OF_FORMS",
            of={"name": "OF_FORMS"},
            right={"lines": "one line\nand another"},
            says="OF_FORMS has a new value.",
            wrong={"value": "short"},
            told="6 ",
        )
    ],
    "/secrets/{name}/delete": [
        Row(
            on="/secrets/OF_FORMS",
            of={"name": "OF_FORMS"},
            says="OF_FORMS is deleted.",
            gone={"name": "NOT_THERE"},
            told="no secret NOT_THERE",
        )
    ],
    "/secrets/reseal": [Row(on="/secrets", says="encrypted again", never_wrong=NOTHING_ENTERED)],
    "/satellites": [
        Row(
            on="/satellites/new",
            right={"name": "of-forms", "region": "eu", "labels": "role=web"},
            says="Copy its token now",
            wrong={"name": "of-forms", "region": "eu", "offline": "soon"},
            told="number",
            keep={"satellite": 'href="/satellites/([0-9a-f-]{36})"'},
        )
    ],
    "/satellites/{id}": [
        Row(
            on="/satellites/{satellite}",
            of=_SATELLITE,
            right={"region": "us"},
            says="of-forms is changed.",
            wrong={"offline": "soon"},
            told="number",
        )
    ],
    "/satellites/{id}/rotate": [
        Row(
            on="/satellites/{satellite}",
            of=_SATELLITE,
            says="Copy its token now",
            gone={"id": GONE},
            told="there is no satellite",
        )
    ],
    "/satellites/{id}/runs": [
        Row(
            on="/satellites/{satellite}/run",
            of=_SATELLITE,
            right={"script": "echo hello"},
            says="waiting for the satellite",
            wrong={"script": "echo hello", "timeout": "soon"},
            told="Enter a number of seconds.",
            keep={"run": "/runs/([0-9a-f-]{36})"},
        )
    ],
    "/satellites/{id}/runs/{run}/cancel": [
        Row(
            on="/satellites/{satellite}/runs/{run}",
            of=_RUN,
            says="cancelled",
            gone={"id": "{satellite}", "run": GONE},
            told="there is no run",
        )
    ],
    "/satellites/{id}/silence": [
        Row(
            on="/satellites/{satellite}/silence",
            of=_SATELLITE,
            right={"reason": "of forms"},
            says="are silenced",
            wrong={"reason": " "},
            told="reason",
            keep={"satellite_silence": "/silences/([0-9a-f-]{36})/end"},
        )
    ],
    "/satellites/{id}/silences/{silence}/end": [
        Row(
            on="/satellites/{satellite}/silence",
            of={"id": "{satellite}", "silence": "{satellite_silence}"},
            says="The silence is ended.",
            gone={"id": "{satellite}", "silence": GONE},
            told="silence",
        )
    ],
    "/satellites/{id}/delete": [
        Row(
            on="/satellites/{satellite}",
            of=_SATELLITE,
            says="The satellite is deleted",
            gone={"id": GONE},
            told="there is no satellite",
        )
    ],
    "/checks/new": [
        Row(
            on="/checks/new",
            right={
                "name": "of forms",
                "system": "web",
                "kind": "shell",
                "script": "echo fine",
                "intervalSeconds": "",
                "cron": "0 0 1 1 *",
            },
            says="of forms",
            wrong={"name": "of forms", "system": "web", "script": "echo fine", "timeoutSeconds": "long"},
            told="number",
            button="Create",
            keep={"check": "/checks/([0-9a-f-]{36})"},
        )
    ],
    "/checks/{id}/edit": [
        Row(
            on="/checks/{check}/edit",
            of=_CHECK,
            right={"system": "billing"},
            says="billing",
            wrong={"assertions": "latencyMs is fine"},
            told="latencyMs is fine",
            button="Save",
        )
    ],
    "/checks/{id}/silence": [
        Row(
            on="/checks/{check}",
            of=_CHECK,
            right={"reason": "of forms"},
            says="The check is silenced",
            wrong={"reason": " "},
            told="Enter a reason.",
            keep={"silence": "/silences/([0-9a-f-]{36})/end"},
        )
    ],
    "/checks/{id}/silences/{silence}/end": [
        Row(
            on="/checks/{check}",
            of={"id": "{check}", "silence": "{silence}"},
            says="The silence is ended.",
            gone={"id": "{check}", "silence": GONE},
            told="there is no silence",
        )
    ],
    "/checks/{id}/run": [
        Row(
            on="/checks/{check}",
            of=_CHECK,
            says="It has run",
            gone={"id": GONE},
            told="no check",
        )
    ],
    "/checks/{id}/disable": [
        Row(
            on="/checks/{check}",
            of=_CHECK,
            says="The check is disabled",
            gone={"id": GONE},
            told="no check",
        )
    ],
    "/checks/{id}/enable": [
        Row(
            on="/checks/{check}",
            of=_CHECK,
            says="The check is enabled.",
            gone={"id": GONE},
            told="no check",
        )
    ],
    "/checks/{id}/delete": [
        Row(
            on="/checks/{check}",
            of=_CHECK,
            says="The check is deleted",
            gone={"id": GONE},
            told="no check",
        )
    ],
    "/automations/new": [
        Row(
            on="/automations/new",
            right={"text": _TEXT},
            says="greet",
            wrong={"text": "name: greet\nstops: []\n"},
            told="stops",
            button="Save",
        ),
        Row(
            on="/automations/new",
            right={"text": _SLOW},
            says="wait",
            wrong={"text": _SLOW, "trigger": "9"},
            told="9",
            button="Try this text",
        ),
        Row(
            on="/automations/new", right={"text": _SLOW}, says="wait", never_wrong="see above", button="Save"
        ),
    ],
    "/automations/{name}/edit": [
        Row(
            on="/automations/greet/edit",
            of=_AUTOMATION,
            right={"text": _TEXT.replace("echo hello", "echo good day"), "reason": "more polite"},
            says="greet",
            wrong={"text": "name: other\nsteps: []\n"},
            told="line 2",
            button="Save",
        )
    ],
    "/automations/{name}/try": [
        Row(
            on="/automations/greet/try",
            of=_AUTOMATION,
            says="it would start",
            wrong={"payload": "no JSON"},
            told="JSON",
            button="Show what it would do",
        )
    ],
    "/automations/{name}/webhook": [
        Row(
            on="/automations/greet",
            of=_AUTOMATION,
            says="/api/automations/hooks/rfh_",
            gone={"name": "not-there"},
            told="no automation not-there",
        )
    ],
    "/automations/{name}/webhook/remove": [
        Row(
            on="/automations/greet",
            of=_AUTOMATION,
            says="The webhook address is removed.",
            gone={"name": "not-there"},
            told="not-there has no webhook address",
        )
    ],
    "/automations/{name}/run": [
        Row(
            on="/automations/greet",
            of=_AUTOMATION,
            says="greet is started.",
            gone={"name": "not-there"},
            told="no automation not-there",
            keep={"ended_run": "/runs/([0-9a-f-]{36})"},
        ),
        Row(
            on="/automations/wait",
            of={"name": "wait"},
            says="wait is started.",
            never_wrong="see above",
            keep={"waiting_run": "/runs/([0-9a-f-]{36})"},
        ),
    ],
    "/runs/{id}/cancel": [
        Row(
            on="/runs/{waiting_run}",
            of={"id": "{waiting_run}"},
            says="You asked to cancel this run.",
            gone={"id": GONE},
            told="no run",
        )
    ],
    "/runs/{id}/again": [
        Row(
            on="/runs/{ended_run}",
            of={"id": "{ended_run}"},
            says="is started again",
            gone={"id": GONE},
            told="no run",
        )
    ],
    "/automations/{name}/disable": [
        Row(
            on="/automations/greet",
            of=_AUTOMATION,
            right={"reason": "of forms"},
            says="greet is disabled.",
            gone={"name": "not-there"},
            told="no automation not-there",
        )
    ],
    "/automations/{name}/enable": [
        Row(
            on="/automations/greet",
            of=_AUTOMATION,
            says="greet is enabled.",
            gone={"name": "not-there"},
            told="no automation not-there",
        )
    ],
    "/automations/{name}/delete": [
        Row(
            on="/automations/greet",
            of=_AUTOMATION,
            says="greet is deleted.",
            gone={"name": "not-there"},
            told="no automation not-there",
        )
    ],
    "/notifications/channels": [
        Row(
            on="/notifications",
            right={"name": "forms", "address": "json://127.0.0.1:9/x"},
            says="forms is added",
            wrong={"name": "forms", "address": "no address"},
            told="address",
        )
    ],
    "/notifications/channels/{name}": [
        Row(
            on="/notifications/channels/forms",
            of=_CHANNEL,
            right={"perHour": "20"},
            says="forms is changed.",
            wrong={"perHour": "1"},
            told="from 2 to 1000",
        )
    ],
    "/notifications/channels/{name}/address": [
        Row(
            on="/notifications/channels/forms",
            of=_CHANNEL,
            right={"address": "json://127.0.0.1:9/y"},
            says="forms has a new address.",
            wrong={"address": "no address"},
            told="address",
        )
    ],
    "/notifications/channels/{name}/test": [
        Row(
            on="/notifications/channels/forms",
            of=_CHANNEL,
            says="could not be",
            gone={"name": "not-there"},
            told="There is no channel not-there.",
        )
    ],
    "/notifications/channels/{name}/remove": [
        Row(
            on="/notifications/channels/forms",
            of=_CHANNEL,
            says="forms is removed.",
            gone={"name": "not-there"},
            told="There is no channel not-there.",
        )
    ],
    "/notifications/new-route": [
        Row(
            on="/notifications/new-route",
            right={"name": "of-forms", "title": "Somebody has signed in", "hook": "access-signed-in"},
            says="The route of-forms is saved.",
            wrong={"name": "of-forms", "title": "x", "filter": "event. =="},
            told="== cannot stand here",
        )
    ],
    "/notifications/routes/{name}": [
        Row(
            on="/notifications/routes/of-forms",
            of={"name": "of-forms"},
            right={"text": "So it is."},
            says="The route of-forms is saved.",
            wrong={"severity": "dreadful"},
            told="must be one of info, warning, error, critical",
        )
    ],
    "/notifications/routes/{name}/remove": [
        Row(
            on="/notifications/routes/of-forms",
            of={"name": "of-forms"},
            says="of-forms is removed.",
            gone={"name": "not-there"},
            told="not-there",
        )
    ],
    "/notifications/incidents/{number}/ack": [
        Row(
            on="/notifications",
            of={"number": "{incident}"},
            says="no more reminders are sent",
            gone={"number": "999999"},
            told="There is no incident 999999.",
        )
    ],
    "/notifications/messages/{id}/retry": [
        Row(
            on="/notifications/messages?status=failed",
            of={"id": "{message}"},
            says="The message is sent again.",
            gone={"id": GONE},
            told="No such failed message",
        )
    ],
    "/notifications/messages/retry": [
        Row(
            on="/notifications/messages?status=failed",
            says="sent again",
            never_wrong="nothing is entered, and where there is no such message it does nothing",
        )
    ],
    "/packages/allow": [
        Row(
            on="/packages",
            right={"packages": "requests>=2\nhttpx", "set": "of-forms", "reason": "of forms"},
            says="Allowed: ",
            wrong={"packages": "not a package !!"},
            told="not a package",
        )
    ],
    "/packages/remove": [
        Row(
            on="/packages?set=of-forms",
            right={"set": "of-forms", "name": "httpx"},
            says="httpx is no longer allowed.",
            wrong={"name": "not-there"},
            told="not-there is not allowed",
        )
    ],
    "/packages/sets/{name}/install": [
        Row(
            on="/packages/sets/of-forms",
            of={"name": "of-forms"},
            says="You asked to install the set",
            gone={"name": "not-there"},
            told="not-there",
        )
    ],
    "/packages/sets/{name}/delete": [
        Row(
            on="/packages/sets/of-forms",
            of={"name": "of-forms"},
            says="The set of-forms is deleted.",
            gone={"name": "not-there"},
            told="not-there",
        )
    ],
    "/packages/audit": [Row(on="/packages", says="No known vulnerabilities.", never_wrong=NOTHING_ENTERED)],
    "/packages/collect": [Row(on="/packages", says="Deleted: ", never_wrong=NOTHING_ENTERED)],
    "/gitops": [
        Row(
            on="/gitops",
            right={"name": "of-forms", "url": "https://127.0.0.1:9/x.git"},
            says="of-forms is followed.",
            wrong={"name": "Not A Name", "url": "https://127.0.0.1:9/x.git"},
            told="such as shop",
        )
    ],
    "/gitops/{name}": [
        Row(
            on="/gitops/of-forms",
            of={"name": "of-forms"},
            right={"intervalSeconds": "600"},
            says="of-forms is changed.",
            wrong={"intervalSeconds": "1"},
            told="30",
        )
    ],
    "/gitops/{name}/sync": [
        Row(
            on="/gitops/of-forms",
            of={"name": "of-forms"},
            says="of-forms is looked at now.",
            gone={"name": "not-there"},
            told="not-there",
        )
    ],
    "/gitops/{name}/webhook": [
        Row(
            on="/gitops/of-forms",
            of={"name": "of-forms"},
            says="shown this once",
            gone={"name": "not-there"},
            told="not-there",
        )
    ],
    "/gitops/{name}/remove": [
        Row(
            on="/gitops/of-forms",
            of={"name": "of-forms"},
            says="of-forms is followed no more",
            gone={"name": "not-there"},
            told="not-there",
        )
    ],
    "/policy/preview": [
        Row(
            on="/policy",
            right={"resources.maxProcesses": "100"},
            says="resources.maxProcesses",
            wrong={"resources.maxProcesses": "many"},
            told="whole number",
            button="Preview",
        )
    ],
    "/policy": [
        Row(
            on="/policy",
            right={"resources.maxProcesses": "100", "reason": "of forms"},
            says="The policy is now at revision",
            wrong={"resources.maxProcesses": "100", "reason": ""},
            told="enter a reason",
            button="Save",
        )
    ],
    "/policy/verify": [
        Row(
            on="/policy/history",
            says="revisions are unchanged",
            never_wrong="the field for what was noted stands on the page that it answers with: see the next row",
        )
    ],
    "/policy/revert": [
        Row(
            on="/policy/revert?to=1",
            right={"reason": "of forms", "sure": ON},
            says="The policy of revision 1 is restored",
            wrong={"reason": " "},
            told="enter a reason",
        )
    ],
    "/policy/deny-network": [
        Row(
            on="/policy",
            says="All network ",
            never_wrong="nothing is entered, and it holds whatever else does",
        )
    ],
}

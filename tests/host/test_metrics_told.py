"""docs/metrics.md, the alerts and the dashboard: each metric that they name is told by a real host or agent."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
import yaml
from prometheus_client import Metric
from ringfence.plugins.discovery import discover
from ringfence.testing import RunHost, client
from ringfence_satellite.agent.delivering.spool import Spool
from ringfence_satellite.agent.metrics import of_agent
from ringfence_satellite.agent.policy_state import AppliedPolicy

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
CASES = Path(__file__).with_name("alerts.test.yml")
DASHBOARD = ROOT / "deploy" / "grafana" / "ringfence.json"
PAGE = (ROOT / "docs" / "metrics.md").read_text()
ROW = re.compile(r"^\| `([a-z_]+)` \| (\w+) \| (.*?) \| (.*) \|$", re.M)
NAME = re.compile(r"\b(?:ringfence|process)_[a-z_]+")
LABELLED = re.compile(r"by \(([a-z, ]+)\)|\{([a-z]+)=")
SHOWN_BY_PROMETHEUS = {"up", "instance", "job", "le"}


def shown(families: Iterable[Metric]) -> dict[str, tuple[str, str, str]]:
    """Each family by the name that it is written with: its type, its labels and its words."""
    return {
        f"{one.name}_total" if one.type == "counter" else one.name: (
            one.type,
            ", ".join(f"`{label}`" for label in getattr(one, "_labelnames", ())),
            one.documentation,
        )
        for one in families
    }


def samples(metrics: Mapping[str, tuple[str, str, str]]) -> set[str]:
    """The names that a query may have."""
    parts = ("_bucket", "_sum", "_count")
    return set(metrics) | {
        f"{name}{part}" for name, (kind, *_) in metrics.items() if kind == "histogram" for part in parts
    }


def queries() -> list[str]:
    """Those of the alerts and of the dashboard."""
    alerts = [
        rule["expr"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
    ]
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [*alerts, *(target["expr"] for panel in panels for target in panel["targets"])]


async def test_each_metric_is_documented_and_whatever_is_named_is_told(
    run_host: RunHost, tmp_path: Path
) -> None:
    host = await run_host(plugins=discover())
    of_host = shown(await host.scraping.families())
    assert host.scraping.failed.items() == ()
    spools = {"checks": Spool(tmp_path / "checks"), "runs": Spool(tmp_path / "runs")}
    of_agents = shown(of_agent(connected=True, connections=1, policy=AppliedPolicy(), spools=spools))
    told = of_host | of_agents
    documented = {name: (kind, labels, words) for name, kind, labels, words in ROW.findall(PAGE)}
    assert documented == told
    known = samples(told)
    unknown = {name for query in queries() for name in NAME.findall(query)} - known
    assert unknown == set()
    labels = {one for _, named, _ in told.values() for one in re.findall(r"`(\w+)`", named)}
    used = {
        label.strip()
        for query in queries()
        for several, one in LABELLED.findall(query)
        for label in (several or one).split(",")
    }
    assert used - labels - SHOWN_BY_PROMETHEUS == set()


def test_names_follow_the_rules_of_prometheus() -> None:
    for name, kind, _, words in ROW.findall(PAGE):
        assert name.endswith("_total") == (kind == "counter"), name
        assert kind != "histogram" or name.endswith(("_seconds", "_bytes")), name
        assert name.startswith("process_") or words.rstrip(".") == words != "", name


def test_each_alert_says_how_grave_it_is_and_what_is_the_matter() -> None:
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules) > 20
    for rule in rules:
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["annotations"]["summary"]


def test_each_alert_has_a_case_that_raises_it_and_is_not_raised_where_all_is_well() -> None:
    alerts = [
        rule["alert"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
    ]
    *raised, well = yaml.safe_load(CASES.read_text())["tests"]
    assert [one["name"] for one in raised] == alerts
    for one in raised:
        [tested] = one["alert_rule_test"]
        assert (tested["alertname"], len(tested["exp_alerts"])) == (one["name"], 1)
    quiet = [one["alertname"] for one in well["alert_rule_test"] if "exp_alerts" not in one]
    assert (well["name"], quiet) == ("all is well", alerts)
    told = {one["series"].partition("{")[0] for one in well["input_series"]}
    assert {name for query in queries()[: len(alerts)] for name in NAME.findall(query)} <= told


has_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")


def promtool(*words: str, given: str = "") -> None:
    """Run it. It may warn of nothing either."""
    done = subprocess.run(["promtool", *words], input=given, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr


@has_promtool
def test_promtool_takes_the_alerts_and_the_queries_of_the_dashboard(tmp_path: Path) -> None:
    promtool("check", "rules", str(RULES))
    rules = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(queries())]
    panels = tmp_path / "panels.yml"
    panels.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", str(panels))


@has_promtool
def test_each_alert_is_raised_by_what_it_is_for_and_by_nothing_else() -> None:
    promtool("test", "rules", str(CASES))


@has_promtool
async def test_promtool_takes_what_a_real_host_answers(run_host: RunHost) -> None:
    host = await run_host(plugins=discover())
    async with client(host, rules=["host.metrics.read"]) as prometheus:
        answer = await prometheus.get("/metrics")
    assert answer.status_code == 200
    promtool("check", "metrics", given=answer.text)

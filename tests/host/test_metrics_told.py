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
from ringfence.testing import RunHost
from ringfence_satellite.agent.delivering.spool import Spool
from ringfence_satellite.agent.metrics import of_agent
from ringfence_satellite.agent.policy_state import AppliedPolicy

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
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


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_takes_the_alerts() -> None:
    done = subprocess.run(["promtool", "check", "rules", str(RULES)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr

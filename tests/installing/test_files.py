"""What deploy/ has: valid by the schemas of those who read it, and in agreement with the code."""

from __future__ import annotations

import importlib.resources
import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from ringfence.cli.process_end import END_SECONDS
from ringfence.plugins.discovery import discover
from ringfence.plugins.lifecycle import Lifecycle
from ringfence.plugins.services import ServiceDirectory
from ringfence.process import children
from ringfence.settings import DEFAULT_PORT, HostSettings
from ringfence.storage import embedded
from ringfence.units.text import HOST
from ringfence.web.server import GRACEFUL_SECONDS
from ringfence_satellite.starting import FLAGS

from tests.primitives import requires
from tools import units

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = DEPLOY / "compose.yaml"
KUSTOMIZATIONS = sorted((DEPLOY / "k8s").glob("*/kustomization.yaml"))
OBJECTS = sorted(set((DEPLOY / "k8s").rglob("*.yaml")) - set(KUSTOMIZATIONS))
KUBERNETES = ("1.33", "1.34", "1.37")
"""From the first release whose pods have user namespaces by default (hostUsers) on."""
DATA = "/var/lib/ringfence"


def documents(path: Path) -> list[Any]:
    return [one for one in yaml.safe_load_all(path.read_text()) if one is not None]


def compose() -> Any:
    return yaml.safe_load(COMPOSE.read_text())


def test_the_compose_file_is_one() -> None:
    schemas = importlib.resources.files("check_jsonschema") / "builtin_schemas/vendor"
    schema = json.loads((schemas / "compose-spec.json").read_text())
    jsonschema.validate(compose(), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"services": {"a": {"image": "a", "read_onyl": True}}}, schema)


@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_each_object_is_one_of_kubernetes(path: Path) -> None:
    for one in documents(path):
        for version in KUBERNETES:
            kubernetes_validate.validate(one, version, strict=True)
        broken = {**one, "spce": {}}
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(broken, KUBERNETES[-1], strict=True)


@pytest.mark.parametrize("path", KUSTOMIZATIONS, ids=lambda path: path.parent.name)
def test_a_kustomization_has_each_file_of_its_directory(path: Path) -> None:
    (one,) = documents(path)
    assert (one["apiVersion"], one["kind"]) == ("kustomize.config.k8s.io/v1beta1", "Kustomization")
    assert set(one) <= {
        *("apiVersion", "kind", "namespace", "labels", "resources", "configMapGenerator", "images")
    }
    assert sorted(one["resources"]) == sorted(
        each.name for each in path.parent.glob("*.yaml") if each != path
    )
    named = {image["name"] for image in one["images"]}
    pods = [pod for file in one["resources"] for pod in pods_of(path.parent / file)]
    assert {each["image"] for pod in pods for each in containers_of(pod)} == named
    made = {each["name"] for each in one.get("configMapGenerator", ())}
    asked = {
        source["configMapRef"]["name"]
        for pod in pods
        for each in containers_of(pod)
        for source in each.get("envFrom", ())
    }
    assert asked == made


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
@pytest.mark.parametrize("path", KUSTOMIZATIONS, ids=lambda path: path.parent.name)
def test_kubectl_makes_objects_of_a_kustomization(path: Path) -> None:
    command = ["kubectl", "kustomize", str(path.parent)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made = [one for one in yaml.safe_load_all(done.stdout) if one is not None]
    for one in made:
        kubernetes_validate.validate(one, KUBERNETES[-1], strict=True)
        assert one["kind"] == "Namespace" or one["metadata"]["namespace"] == "ringfence"
    images = {
        each["image"]
        for one in made
        if "template" in one.get("spec", {})
        for each in containers_of(one["spec"]["template"]["spec"])
    }
    assert {image.partition("/")[0] for image in images} == {"registry.example.org"}


def pods_of(path: Path) -> list[Any]:
    return [one["spec"]["template"]["spec"] for one in documents(path) if "template" in one.get("spec", {})]


def containers_of(pod: Mapping[str, Any]) -> list[Any]:
    return [*pod.get("initContainers", ()), *pod["containers"]]


PODS = {path.parent.name: pod for path in OBJECTS for pod in pods_of(path)}


def test_there_are_hosts_and_satellites() -> None:
    assert set(PODS) == {"hosts", "satellites"}


@pytest.mark.parametrize("name", sorted(PODS))
def test_each_pod_has_what_its_containers_ask_for(name: str) -> None:
    pod = PODS[name]
    # A Service named ringfence would set RINGFENCE_PORT, which is a setting, to an address.
    assert pod["enableServiceLinks"] is False
    assert pod["automountServiceAccountToken"] is False
    volumes = {volume["name"] for volume in pod["volumes"]}
    mounted = {mount["name"] for each in containers_of(pod) for mount in each["volumeMounts"]}
    assert mounted == volumes
    for each in containers_of(pod):
        ports = {port["name"] for port in each.get("ports", ())}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if probe in each:
                assert each[probe]["httpGet"]["port"] in ports
        # With a root that is read-only, something has to be writable.
        assert "/tmp" in {mount["mountPath"] for mount in each["volumeMounts"]}


def test_objects_choose_the_pods_and_ports_that_there_are() -> None:
    labels = {
        path.parent.name: one["spec"]["template"]["metadata"]["labels"]
        for path in OBJECTS
        for one in documents(path)
        if "template" in one.get("spec", {})
    }
    ports = {
        name: {p["name"]: p for each in containers_of(pod) for p in each.get("ports", ())}
        for name, pod in PODS.items()
    }
    chosen = 0
    for path in OBJECTS:
        for one in documents(path):
            spec = one.get("spec", {})
            for selector in (spec.get("selector"), spec.get("podSelector")):
                if selector:
                    assert selector.get("matchLabels", selector) == labels[path.parent.name], path
                    chosen += 1
            named = [port.get("targetPort", port["port"]) for port in spec.get("ports", ())]
            named += [port["port"] for rule in spec.get("ingress", ()) for port in rule.get("ports", ())]
            assert {port for port in named if isinstance(port, str)} <= set(ports[path.parent.name])
    assert chosen == 6
    assert ports["hosts"]["http"]["containerPort"] == DEFAULT_PORT


def test_hosts_are_asked_at_the_routes_that_tell_of_their_health() -> None:
    (host,) = PODS["hosts"]["containers"]
    paths = {name: host[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")}
    assert paths == {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}
    source = (ROOT / "host/ringfence/web/health.py").read_text()
    assert all(f'@router.get("{path}")' in source for path in paths.values())


def scripting() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The flags of each container in which scripts run, as docs/containers.md names them for Docker."""
    for name, service in compose()["services"].items():
        if name.startswith("host-") or name == "satellite":
            yield f"compose {name}", service


def test_containers_in_which_scripts_run_have_what_that_takes_and_no_more() -> None:
    options = FLAGS.split()
    security = {options[n + 1] for n, word in enumerate(options) if word == "--security-opt"}
    found = dict(scripting())
    assert len(found) == 3
    for name, service in found.items():
        given = {one.replace("seccomp/", "") for one in service["security_opt"]}
        assert given == security, name
        assert service["read_only"] is True
        assert service["tmpfs"] == ["/tmp"]
        assert service["cap_drop"] == ["ALL"]
        assert not {"privileged", "cap_add", "devices", "pid", "ipc", "userns_mode"} & set(service)
        assert service["user"] == "65532:65532"
    for pod in PODS.values():
        assert pod["hostUsers"] is False
        assert pod["securityContext"]["seccompProfile"] == {
            "type": "Localhost",
            "localhostProfile": "ringfence-userns.json",
        }
        assert pod["securityContext"]["runAsUser"] == 65532
        (main,) = pod["containers"]
        assert main["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "procMount": "Unmasked",
            "capabilities": {"drop": ["ALL"]},
            "appArmorProfile": {"type": "Unconfined"},
        }
    told = (ROOT / "docs/containers.md").read_text().replace("\\\n", "")
    assert {one for one in security if f"--security-opt {one}" not in told} == set()
    profile = next(one for one in found["compose satellite"]["security_opt"] if one.startswith("seccomp="))
    assert (DEPLOY / profile.removeprefix("seccomp=")).is_file()


def test_everything_else_in_the_compose_file_has_nothing_of_that() -> None:
    for name, service in compose()["services"].items():
        if name not in {"host-1", "host-2", "satellite"}:
            assert service["security_opt"] == ["no-new-privileges"], name
            assert not {"privileged", "cap_add", "devices", "pid", "ipc"} & set(service), name


def test_what_services_of_the_compose_file_mount_and_wait_for_is_there() -> None:
    document = compose()
    services = document["services"]
    used = set()
    for name, service in services.items():
        assert set(service.get("depends_on", {})) <= set(services), name
        for one, condition in service.get("depends_on", {}).items():
            once = services[one].get("restart") == "no"
            assert (condition["condition"] == "service_completed_successfully") is once, name
        for mount in service.get("volumes", ()):
            source = mount.split(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).is_file(), mount
            else:
                used.add(source)
        if isinstance(service.get("build"), dict):
            assert (DEPLOY / service["build"]["context"]).resolve() == ROOT
            assert service["build"]["dockerfile"].startswith("deploy/Dockerfile")
    assert used == set(document["volumes"])
    for name in ("host-1", "host-2"):
        assert f"server {name} {name}:{DEFAULT_PORT}" in (DEPLOY / "compose/haproxy.cfg").read_text()
        assert f"{name}:{DATA}" in services[name]["volumes"]
    proxy = services["proxy"]["networks"]["inside"]["ipv4_address"]
    assert services["host-1"]["environment"]["RINGFENCE_TRUSTED_PROXIES"] == proxy
    (addresses,) = document["networks"]["inside"]["ipam"]["config"]
    assert ip_address(proxy) in ip_network(addresses["subnet"])
    # The first container gets the first of these. Were that the proxy's own address, the proxy could not start.
    assert ip_address(proxy) not in ip_network(addresses["ip_range"])


def test_images_have_the_directories_that_volumes_take_their_owner_from() -> None:
    made: dict[str, set[str]] = {}
    for name in ("Dockerfile", "Dockerfile.satellite"):
        (words,) = re.findall(
            r"install -d -m 0700 -o 65532 -g 65532 (.*)$", (DEPLOY / name).read_text(), re.M
        )
        made[f"deploy/{name}"] = set(words.split())
    looked = 0
    for name, service in compose()["services"].items():
        if service.get("user") == "65532:65532":
            places = {m.split(":")[1] for m in service["volumes"] if not m.startswith(".")}
            assert places <= made[service["build"]["dockerfile"]], name
            looked += 1
    assert looked == 5


def test_who_stops_a_host_waits_for_longer_than_that_takes_at_most() -> None:
    settings = HostSettings()
    draining = settings.drain_seconds + settings.drain_linger_seconds + GRACEFUL_SECONDS
    plugins = settings.shutdown_seconds * (1 + len(list(discover())))  # and what is the host's own
    longest = draining + plugins + END_SECONDS
    assert longest < PODS["hosts"]["terminationGracePeriodSeconds"]
    graces = [compose()["services"][name]["stop_grace_period"] for name in ("host-1", "host-2")]
    assert all(longest < int(one.removesuffix("s")) for one in graces)
    # A satellite beside it, and a database of its own.
    assert longest + children.STOP_SECONDS + embedded.STOP_SECONDS < HOST.stop_seconds


def test_no_file_names_a_variable_that_is_no_setting() -> None:
    known = {one.variable for one in Lifecycle(discover(), ServiceDirectory()).settings()}
    named: dict[str, str] = {}
    for path in sorted(DEPLOY.rglob("*")):
        if path.is_file() and path.suffix != ".json":
            for variable in re.findall(r"\bRINGFENCE_[A-Z_]+[A-Z]\b", path.read_text()):
                named[variable] = str(path)
    assert {variable: path for variable, path in named.items() if variable not in known} == {}
    assert {"RINGFENCE_CONFIG", "RINGFENCE_AGENT_CREDENTIALS", "RINGFENCE_DATABASE_URL"} <= set(named)


def test_no_file_holds_a_secret() -> None:
    for path in DEPLOY.rglob("*.yaml"):
        for one in documents(path):
            assert one.get("kind") != "Secret", path
    for service in compose()["services"].values():
        for variable, value in (service.get("environment") or {}).items():
            assert not re.search("PASSWORD$|TOKEN$|KEY$|DATABASE_URL$", variable), (variable, value)


def test_units_are_those_that_install_writes() -> None:
    files = units.files()
    assert {path: path.read_text() for path in files} == dict(files), "run: python -m tools.units"
    assert sorted(path.name for path in (DEPLOY / "systemd").glob("*.service")) == [
        "ringfence-satellite.service",
        "ringfence.service",
    ]


@requires("systemd-analyze")
@pytest.mark.parametrize("name", ["ringfence.service", "ringfence-satellite.service"])
def test_systemd_finds_nothing_wrong_with_a_unit(name: str, tmp_path: Path) -> None:
    text = (DEPLOY / "systemd" / name).read_text()
    # It looks for the program, too.
    (tmp_path / name).write_text(text.replace(units.PROGRAM, "/bin/true"))
    assert verified(tmp_path / name) == ""
    (tmp_path / name).write_text(text.replace(units.PROGRAM, "/bin/true").replace("Delegate=", "Delegated="))
    assert "Delegated" in verified(tmp_path / name)


def verified(path: Path) -> str:
    command = ["systemd-analyze", "verify", "--man=no", str(path)]
    return subprocess.run(command, capture_output=True, text=True).stderr


@requires("systemd-analyze")
def test_the_document_says_how_exposed_systemd_takes_a_service_to_be(tmp_path: Path) -> None:
    told = re.search(
        r"finds an exposure of (\d+\.\d), and of (\d+\.\d) without", (ROOT / "docs/installing.md").read_text()
    )
    assert told is not None
    taken_away = re.compile("^(Protect|Private|Device|Capability).*\n", re.MULTILINE)
    for path in (DEPLOY / "systemd").glob("*.service"):
        bare = tmp_path / path.name
        bare.write_text(taken_away.sub("", path.read_text()))
        # Releases weigh differently, by a little.
        assert abs(exposure(path) - float(told[1])) <= 0.5
        assert abs(exposure(bare) - float(told[2])) <= 0.5


def exposure(path: Path) -> float:
    command = ["systemd-analyze", "security", "--offline=true", str(path)]
    said = subprocess.run(command, capture_output=True, text=True).stdout
    found = re.search(r"exposure level for \S+: (\d+\.\d)", said)
    assert found is not None, said
    return float(found[1])


@requires("root", "systemd-analyze")
def test_systemd_makes_the_user_and_the_directories(tmp_path: Path) -> None:
    (tmp_path / "etc/ringfence/satellite").mkdir(parents=True)
    (tmp_path / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (tmp_path / "etc/group").write_text("root:x:0:\n")
    secrets = [tmp_path / "etc/ringfence" / name for name in ("host.env", "satellite.env", "satellite/token")]
    for path in secrets:
        path.touch(0o644)
    systemd = DEPLOY / "systemd"
    users = ["systemd-sysusers", f"--root={tmp_path}", str(systemd / "sysusers.d/ringfence.conf")]
    files = ["systemd-tmpfiles", "--create", f"--root={tmp_path}", str(systemd / "tmpfiles.d/ringfence.conf")]
    for command in (users, files):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert re.search(
        "^ringfence:.*:/var/lib/ringfence:.*nologin$", (tmp_path / "etc/passwd").read_text(), re.M
    )
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in secrets}
    assert modes == dict.fromkeys(modes, "0o600")
    assert (tmp_path / "etc/ringfence/satellite").stat().st_mode & 0o777 == 0o700

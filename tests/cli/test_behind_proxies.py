"""Commands and agents reach a host behind a proxy: with its path, a private authority, and a client's certificate."""

from __future__ import annotations

from pathlib import Path

import pytest
from ringfence.process.errors import UsageMistake
from ringfence.process.trust import TlsFiles
from ringfence_satellite.agent.policy_state import AppliedPolicy
from ringfence_satellite.agent.settings import AgentSettings

from tests.certificates import private_tls
from tests.cli.conftest import Command
from tests.cli.fake_host import Answer, FakeHost
from tests.cli.fake_host import serving as host_serving
from tests.cli.front import Behind, standing
from tests.satellite.cores import scripted_core
from tests.satellite.test_agent_connection import serving, welcomed

PLUGINS = Answer(200, {"plugins": []})


async def test_a_command_and_an_agent_reach_it(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RINGFENCE_DATA_DIR")
    tls = private_tls(tmp_path)
    (tmp_path / "token").write_text("s3cret\n")
    with host_serving(FakeHost()) as fake:
        fake.on("GET", "/api/host/plugins", PLUGINS)
        async with scripted_core() as core:
            behind = Behind(int(fake.url.rpartition(":")[2]), core.port)
            with standing(behind, tls) as url:
                ours = ("--ca-file", str(tls.ca_file), "--client-cert", str(tls.client))
                login = ("login", url, "--token-file", str(tmp_path / "token"))
                assert command(*login).status == 1  # its certificate is nobody's that we trust
                assert command(*login, *ours[:2]).status == 1  # it asks for ours
                assert fake.requests == []
                assert command(*login, *ours).status == 0
                assert command("plugins", "--json").json == PLUGINS.body
                assert command("--url", url, "plugins").status == 0

                settings = AgentSettings((url,), "satellite-1", tmp_path / "token", heartbeat_seconds=0.02)
                files = TlsFiles(str(tls.ca_file), str(tls.client))
                async with serving(settings, AppliedPolicy(), trusted=files.context()):
                    await welcomed(core)


def test_a_certificate_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    tls = private_tls(tmp_path)
    for files, named in (
        (TlsFiles(client_cert=str(tls.ca_file)), str(tls.ca_file)),
        (TlsFiles(client_cert=str(tmp_path / "absent")), "absent"),
        (TlsFiles(client_key=str(tls.client)), str(tls.client)),
    ):
        with pytest.raises(UsageMistake, match=named):
            files.context()

"""Write deploy/systemd from what `ringfence … install` writes, so that both say the same: `python -m tools.units`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ringfence.units import HOST, SATELLITE, sysusers_of, unit_of
from ringfence.units.text import USER

DEPLOY = Path(__file__).parents[1] / "deploy/systemd"
PROGRAM = "/opt/ringfence/bin/ringfence"


def files() -> Mapping[Path, str]:
    """The files, by where they are."""
    units = {HOST: ("up", "--no-satellite"), SATELLITE: ("agent",)}
    found = {
        DEPLOY / f"{service.name}.service": unit_of(
            service, (PROGRAM, *arguments), directory="/etc/ringfence", run_as=USER
        )
        for service, arguments in units.items()
    }
    return {**found, DEPLOY / "sysusers.d/ringfence.conf": sysusers_of(USER)}


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text)

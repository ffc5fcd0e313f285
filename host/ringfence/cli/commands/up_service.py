"""`ringfence up --install` and `--uninstall`: have systemd start this machine's host."""

from __future__ import annotations

from pathlib import Path

from ringfence import units
from ringfence.cli import output
from ringfence.process.errors import CliError
from ringfence.units.installing import STATE


def install(
    *,
    host: str | None,
    port: int | None,
    data_dir: Path | None,
    satellite: bool,
    run_as: str | None,
    print_only: bool,
) -> None:
    """Install the service of a host that is started with these options; or show what would be written."""
    installation = units.Installation.chosen(own=None, run_as=run_as, root=None)
    given = {"RINGFENCE_HOST": host, "RINGFENCE_PORT": port}
    variables = {name: str(value) for name, value in given.items() if value is not None}
    writable: tuple[str, ...] = ()
    if data_dir is not None and data_dir.absolute() != STATE:
        variables["RINGFENCE_DATA_DIR"] = str(data_dir.absolute())
        writable = (str(data_dir.absolute()),)
    settings = units.Settings(
        ("up", *(() if satellite else ("--no-satellite",))), variables, writable=writable
    )
    if print_only:
        for text in units.telling.shown(installation.files(units.HOST, settings, to_show=True)):
            output.say(text)
        return
    outcome = units.install(installation, units.HOST, settings)
    for line in units.telling.done(installation, units.HOST, outcome):
        output.say(line)


def uninstall() -> None:
    """Remove it. Raises `CliError` if it is not there."""
    installation = units.Installation.chosen(own=None, run_as=None, root=None)
    if not units.uninstall(installation, units.HOST):
        raise CliError(f"there is no {installation.unit_path(units.HOST)}")
    for line in units.telling.removed(installation, units.HOST):
        output.say(line)

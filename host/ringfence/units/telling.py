"""What an installation says to people: what it would do, what was done, and how to go on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ringfence.units.installing import File, Installation, Outcome, has_users_for_runs
from ringfence.units.text import ROOT, Service


def shown(files: Sequence[File]) -> Iterator[str]:
    """The files as they would be written, without what is secret."""
    for file in files:
        mode = "0600" if file.private else "0644"
        yield f"# {file.path} ({mode})"
        yield "(the token, which is not shown)\n" if file.secret else file.text


def document(files: Sequence[File]) -> list[dict[str, object]]:
    """The same for machines."""
    return [
        {
            "path": str(one.path),
            "mode": "0600" if one.private else "0644",
            "text": None if one.secret else one.text,
        }
        for one in files
    ]


def done(installation: Installation, service: Service, outcome: Outcome) -> Iterator[str]:
    """What was done, and how to see its log, stop it and remove it."""
    unit = f"{service.name}.service"
    manager = installation.manager
    for path in outcome.files:
        yield f"Written: {path}"
    if not manager.runs:
        yield f"{unit} is installed in {installation.root}, and starts with that system."
        return
    did = "was started again" if outcome.restarted else "is started" if outcome.started else "runs, unchanged"
    yield f"{unit} {did}, and starts with {'your session' if installation.own else 'the machine'}."
    user = installation.run_as
    if user not in {None, ROOT} and not has_users_for_runs(str(user)):
        yield f"Runs share the user {user}. For one of its own for each run, install uidmap (newuidmap), and:"
        yield f"  usermod --add-subuids 700000-765535 --add-subgids 700000-765535 {user}"
    yield f"  its log    {manager.journal(service.name)} -f"
    yield f"  how it is  {manager.systemctl('status', service.name)}"
    yield f"  remove it  {_removing(service)}"


def removed(installation: Installation, service: Service) -> Iterator[str]:
    """What was removed, and what was left."""
    yield f"{service.name}.service is removed."
    left = [installation.place(installation.directory / service.variables)]
    if service.credentials:
        left.append(installation.place(installation.directory / "satellite"))
    kept = [str(one) for one in left if one.exists()]
    if kept:
        yield f"Its settings are still there: {', '.join(kept)}"
    if not installation.own:
        yield f"So is what it has kept: {installation.place(Path('/var/lib/ringfence'))}"


def _removing(service: Service) -> str:
    return "ringfence agent uninstall" if service.credentials else "ringfence up --uninstall"

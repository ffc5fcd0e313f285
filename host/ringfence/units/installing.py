"""Install a service, and remove it again.

Installing again changes what is different, and nothing else. Credentials are in files that their owner alone can read,
and neither in a unit nor on a command line. Threat: a unit that starts a program which others may replace. Not covered:
who may write to the installation of Ringfence that is started; root's service starts the one that this command is of.
"""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ringfence.process.errors import CliError, UsageMistake
from ringfence.storage.files import write_private
from ringfence.units.manager import Manager
from ringfence.units.text import ROOT, USER, Service, environment_of, sysusers_of, unit_of

STATE = Path("/var/lib/ringfence")
REACH_SECONDS = 60
TEMPORARY = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108
"""What the machine's services have of their own (`PrivateTmp=yes`): they see nothing of what others have there."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a service is to be told."""

    arguments: tuple[str, ...]
    """The command of `ringfence`, with its arguments."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Its settings."""
    secrets: Mapping[str, str] = field(default_factory=dict)
    """What its credentials are, by the name of their files."""
    writable: tuple[str, ...] = ()
    """Directories that it may write beside its own."""


@dataclass(frozen=True, slots=True)
class File:
    """One file that an installation has."""

    path: Path
    text: str
    private: bool = False
    secret: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done: which files are new or different, and whether the service was started."""

    files: tuple[Path, ...]
    started: bool
    restarted: bool


@dataclass(frozen=True, slots=True)
class Installation:
    """Where services are installed: on this machine, for this user alone (`own`), or into the system in `root`."""

    own: bool
    run_as: str | None
    root: Path | None = None

    @classmethod
    def chosen(cls, *, own: bool | None, run_as: str | None, root: Path | None) -> Installation:
        """What is said, or what fits who asks: root's are the machine's services, and anybody else's their own.

        Raises:
            UsageMistake: if what is said does not go together.
        """
        is_root = os.geteuid() == 0
        mine = (not is_root and root is None) if own is None else own
        if mine and (run_as is not None or root is not None):
            raise UsageMistake("a service of your own runs as you, here: leave out --run-as and --root")
        if not mine and not is_root and root is None:
            raise CliError(
                "only root can install a service of the machine",
                hint="Without --system, it is one of your own.",
            )
        return cls(mine, None if mine else (run_as or USER), root)

    @property
    def manager(self) -> Manager:
        """Who starts it."""
        return Manager(self.own, self.root)

    @property
    def directory(self) -> Path:
        """Where its settings and credentials are, as the service sees it."""
        return _config_home() / "ringfence" if self.own else Path("/etc/ringfence")

    def unit_path(self, service: Service) -> Path:
        """Where its unit is."""
        units = _config_home() / "systemd/user" if self.own else Path("/etc/systemd/system")
        return self.place(units / f"{service.name}.service")

    def place(self, path: Path) -> Path:
        """Where a path of the service's is from here."""
        return path if self.root is None else self.root / path.relative_to("/")

    def files(self, service: Service, settings: Settings, *, to_show: bool = False) -> tuple[File, ...]:
        """All that is to be written, in this order: the unit comes last.

        What a file of settings says already stays; `to_show` leaves that out, for it may be secret.
        """
        directory = self.directory
        command = (*this_program(), *settings.arguments)
        unit = unit_of(
            service, command, directory=str(directory), run_as=self.run_as, writable=settings.writable
        )
        kept = self.place(directory / service.variables)
        about = f"Settings of {service.name}.service, which is started again to take changes."
        found = [
            *(
                File(
                    self.place(directory / "satellite" / name),
                    f"{text}\n",
                    private=True,
                    secret=name == "token",
                )
                for name, text in settings.secrets.items()
            ),
            File(
                kept,
                environment_of(settings.variables, about, "" if to_show else _said(kept)),
                private=True,
            ),
            File(self.unit_path(service), unit),
        ]
        if self.run_as not in {None, ROOT}:
            found.insert(
                0, File(self.place(Path("/etc/sysusers.d/ringfence.conf")), sysusers_of(str(self.run_as)))
            )
        return tuple(found)


def install(installation: Installation, service: Service, settings: Settings) -> Outcome:
    """Write the files, and have the service started now and at each boot.

    Raises:
        CliError: if it cannot be; what has been written by then stays.
    """
    manager = installation.manager
    manager.check()
    files = installation.files(service, settings)
    if installation.root is None and not installation.own:
        _check_place()
        _check_state(str(installation.run_as))
    changed = []
    for file in files:
        if _write(
            file, private_parent=file.path.parent == installation.place(installation.directory / "satellite")
        ):
            changed.append(file.path)
        if file.path.parent.name == "sysusers.d" and manager.runs:
            _make_user(str(installation.run_as), file.path)
            _check_reach(str(installation.run_as))
    if not manager.runs:
        manager.tell("enable", service.name)
        return Outcome(tuple(changed), started=False, restarted=False)
    was_active = manager.is_active(service.name)
    manager.tell("daemon-reload")
    manager.tell("enable", "--now", service.name)
    if was_active and changed:
        manager.tell("restart", service.name)
    return Outcome(tuple(changed), started=not was_active, restarted=was_active and bool(changed))


def uninstall(installation: Installation, service: Service) -> bool:
    """Stop the service and remove its unit; False if there is none. Settings, credentials and state stay.

    Raises:
        CliError: if it cannot be.
    """
    path = installation.unit_path(service)
    if not path.exists():
        return False
    manager = installation.manager
    manager.check()
    manager.tell("disable", *(("--now",) if manager.runs else ()), service.name)
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise CliError(f"cannot remove {path}: {error.strerror}") from error
    if manager.runs:
        manager.tell("daemon-reload")
    return True


def this_program() -> tuple[str, ...]:
    """The program of this installation, whatever the working directory holds."""
    script = Path(sys.executable).with_name("ringfence")
    if os.access(script, os.X_OK):
        return (str(script),)
    return (sys.executable, "-P", "-m", "ringfence")


def has_users_for_runs(name: str, files: Sequence[Path] = (Path("/etc/subuid"), Path("/etc/subgid"))) -> bool:
    """Whether the user can give each run a user of its own (newuidmap(1), subuid(5))."""
    user = _user(name)
    names = {name, *(() if user is None else (str(user.pw_uid),))}

    def has_range(file: Path) -> bool:
        try:
            return any(line.partition(":")[0] in names for line in file.read_text().splitlines())
        except OSError:
            return False

    return shutil.which("newuidmap") is not None and all(map(has_range, files))


def _config_home() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")


def _write(file: File, *, private_parent: bool) -> bool:
    """Have a file say that; False if it does already."""
    try:
        file.path.parent.mkdir(mode=0o700 if private_parent else 0o755, parents=True, exist_ok=True)
        if private_parent:
            file.path.parent.chmod(0o700)
        mode = 0o600 if file.private else 0o644
        same = file.path.is_file() and file.path.read_text() == file.text
        if same and stat.S_IMODE(file.path.stat().st_mode) == mode:
            return False
        write_private(file.path, file.text.encode())
        if not file.private:
            file.path.chmod(mode)
    except OSError as error:
        raise CliError(f"cannot write {file.path}: {error.strerror}") from error
    return True


def _said(path: Path) -> str:
    """What a file says that may not be there."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise CliError(f"cannot read {path}: {error.strerror}") from error


def _user(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _make_user(name: str, file: Path) -> None:
    if _user(name) is not None:
        return
    program = shutil.which("systemd-sysusers")
    done = None if program is None else subprocess.run([program, str(file)], capture_output=True, text=True)
    if done is None or done.returncode != 0 or _user(name) is None:
        raise CliError(
            f"there is no user {name}, and systemd-sysusers cannot make it",
            hint=f"Make it: useradd --system --home-dir {STATE} {shlex.quote(name)}",
        )


def _check_reach(name: str) -> None:
    """See that the user can start this installation, which may be in a directory that only its owner can enter."""
    user = _user(name)
    program = this_program()
    try:
        done = subprocess.run(
            [*program, "--version"],
            user=None if user is None else user.pw_uid,
            group=None if user is None else user.pw_gid,
            extra_groups=[],
            cwd="/",
            env={"PATH": os.defpath},
            capture_output=True,
            timeout=REACH_SECONDS,
        )
        reached = done.returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        reached = False
    if not reached:
        raise CliError(
            f"the user {name} cannot run {program[0]}",
            hint="Install Ringfence where everybody can reach it, such as in /opt/ringfence; or, for a service that "
            "runs as root: --run-as root.",
        )


def _check_place() -> None:
    """See that this installation is where services see it, and where nobody clears it away."""
    parts = (Path(sys.prefix), Path(sys.base_prefix), Path(__file__))
    for part in parts:
        if any(part.resolve().is_relative_to(each.resolve()) for each in TEMPORARY):
            raise CliError(
                f"a service cannot run {this_program()[0]}: {part} is in a directory for temporary files, and services "
                "have one of their own",
                hint="Install Ringfence elsewhere, such as in /opt/ringfence.",
            )


def _check_state(name: str) -> None:
    """What is there was made by another user as a rule, and systemd would give all of it to this one."""
    wanted = 0 if name == ROOT else getattr(_user(name), "pw_uid", None)
    try:
        owner = STATE.stat().st_uid
    except OSError:
        return
    if owner != wanted:
        try:
            whose = pwd.getpwuid(owner).pw_name
        except KeyError:
            whose = f"uid {owner}"
        raise CliError(
            f"{STATE} is {whose}'s, and not {name}'s",
            hint=f"Have the service run as that user (--run-as {whose}), or move the directory away.",
        )

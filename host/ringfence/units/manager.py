"""systemd's manager: the machine's own or a user's, or that of an image that is being made, which does not run."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ringfence.process.errors import CliError

BOOTED = Path("/run/systemd/system")
"""It is there if and only if systemd is the machine's manager (sd_booted(3))."""
DEADLINE_SECONDS = 400
"""Above `TimeoutStartSec=` of any service of ours."""


@dataclass(frozen=True, slots=True)
class Manager:
    """A manager, by systemctl(1). `own`: the user's; `root`: of the image in that directory."""

    own: bool
    root: Path | None = None
    booted: Path = BOOTED

    @property
    def runs(self) -> bool:
        """Whether there is one that can start something."""
        return self.root is None

    def check(self) -> None:
        """See that it can be asked.

        Raises:
            CliError: if it cannot, with the reason.
        """
        if shutil.which("systemctl") is None:
            raise CliError(
                "there is no systemctl here: this machine has no systemd",
                hint="`--print` shows what would be installed.",
            )
        if self.root is not None:
            return
        if not self.own and not self.booted.is_dir():
            raise CliError(
                "systemd does not run here, so it cannot start a service",
                hint="In a container, start the command itself. `--print` shows what would be installed, and `--root "
                "DIR` installs it into the directory of another system.",
            )
        if self.own and self._ask("show-environment").returncode != 0:
            raise CliError(
                "systemd's manager of this user does not run",
                hint="Sign in anew, or have it run always: loginctl enable-linger. A service of the machine is "
                "installed by root.",
            )

    def is_active(self, name: str) -> bool:
        """Whether that service runs."""
        return self.runs and self._ask("is-active", "--quiet", name).returncode == 0

    def tell(self, *words: str) -> None:
        """Have it do that.

        Raises:
            CliError: if it does not.
        """
        done = self._ask(*words)
        if done.returncode != 0:
            said = done.stderr.strip() or done.stdout.strip() or f"status {done.returncode}"
            raise CliError(
                f"`{' '.join(self._command(*words))}` failed: {said}",
                hint=f"See why: {self.journal(words[-1])}" if len(words) > 1 else None,
            )

    def journal(self, name: str) -> str:
        """The command that shows what a service has logged."""
        return f"journalctl {'--user ' if self.own else ''}-u {name}"

    def systemctl(self, *words: str) -> str:
        """The command line for people."""
        return " ".join(self._command(*words))

    def _command(self, *words: str) -> list[str]:
        where = ["--user"] if self.own else [] if self.root is None else [f"--root={self.root}"]
        return ["systemctl", *where, *words]

    def _ask(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = self._command(*words)
        try:
            return subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=DEADLINE_SECONDS,
                env=_with_its_bus(os.environ) if self.own else None,
            )
        except subprocess.TimeoutExpired as error:
            raise CliError(f"`{' '.join(command)}` has not ended in {DEADLINE_SECONDS} s") from error


def _with_its_bus(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment, with the directory of the user's manager where a shell without a session does not say it."""
    own = f"/run/user/{os.getuid()}"
    return {**({"XDG_RUNTIME_DIR": own} if Path(own).is_dir() else {}), **environ}

"""Things left in scratch for the cleaner to trip over."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.escapes.conftest import Supervisor

TRAPS = """
mkdir -p ~/locked/inner; touch ~/locked/inner/file; chmod 000 ~/locked/inner ~/locked
ln -s / ~/root; ln -s /etc/passwd ~/passwd; ln -s TARGET ~/outside; ln -s ~ ~/loop
mkfifo ~/fifo; touch -- "-rf" "$(printf 'line\\nfeed')" "$(printf '\\377')"
d=~/deep; for n in $(seq 200); do d=$d/x; done; mkdir -p $d
echo set
"""


def test_no_trap_in_scratch_reaches_the_host_or_stays(supervisor: Supervisor) -> None:
    target = Path(tempfile.mkdtemp(prefix="ringfence-target-"))
    try:
        target.chmod(0o777)
        (target / "precious").write_text("kept")
        mounts = Path(f"/proc/{supervisor.pid}/mountinfo")
        before = mounts.read_text()
        result = supervisor.run("shell", TRAPS.replace("TARGET", str(target)))
        assert result.stdout == "set\n", result.stderr
        assert (target / "precious").read_text() == "kept"
        assert mounts.read_text() == before
        assert supervisor.run("shell", "ls -A ~; ls -A /tmp").stdout.split() == [
            ".shm",
            "scratch",
            "script",
        ]
    finally:
        (target / "precious").unlink()
        target.rmdir()

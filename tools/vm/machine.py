"""Boot the virtual machine, and wait until it is gone."""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tools.vm import initramfs

CHECKOUT = Path(__file__).parents[2]

SYSTEMS = (Path("/"), CHECKOUT / ".vm")
"""Where there may be a kernel and its modules: this machine's own, and what `tools/system-packages all` unpacks."""

EMULATORS = {
    "x86_64": ("qemu-system-x86_64", "q35", "ttyS0"),
    "aarch64": ("qemu-system-aarch64", "virt", "ttyAMA0"),
}
"""By this machine's architecture: the emulator, the kind of machine, and the name of its serial line."""

KEPT = ("RINGFENCE_REQUIRE_ALL", "NO_COLOR")
"""Variables that the command gets as they are here."""

NOT_RUN = 125
"""The exit status of a command that the machine did not come to, or that it did not end."""


class LacksMachine(Exception):
    """No virtual machine can be booted here; the message says what is missing."""


def find_kernel() -> Path:
    """The newest kernel that is here whose modules can mount this machine's files.

    Raises:
        LacksMachine: if there is none.
    """
    found = (path for system in SYSTEMS for path in (system / "boot").glob("vmlinuz-*"))
    kernels = [path for path in found if os.access(path, os.R_OK)]
    for kernel in sorted(kernels, key=_version, reverse=True):
        if list((_modules(kernel) / "kernel/fs/9p").glob("9p.ko*")):
            return kernel
    raise LacksMachine(
        "no kernel under /boot or .vm/boot has modules for shared files; `make vm` unpacks one on Debian"
    )


def find_emulator() -> tuple[str, str, str]:
    """The emulator's path, the kind of machine, and the name of its serial line.

    Raises:
        LacksMachine: if this machine has none.
    """
    if platform.machine() not in EMULATORS:
        raise LacksMachine(f"nothing is known of virtual machines on {platform.machine()}")
    name, kind, serial = EMULATORS[platform.machine()]
    path = shutil.which(name)
    if path is None:
        raise LacksMachine(f"{name} is not installed (apt-get install qemu-system-x86, or qemu-system-arm)")
    return path, kind, serial


def has_hardware() -> bool:
    """Whether KVM stands on the processor's own virtualisation here.

    A KVM that does not (one in software, inside of a virtual machine) answers too, but may boot no stock kernel.
    """
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    return platform.machine() != "x86_64" or any(
        Path("/sys/module", name).exists() for name in ("kvm_intel", "kvm_amd")
    )


def run(
    command: Sequence[str],
    *,
    output: int,
    timeout_s: float = 900,
    memory_mib: int = 3072,
    emulated: bool = False,
) -> int:
    """Run `command` in a virtual machine, its output going to the descriptor `output`; return its exit status.

    Raises:
        LacksMachine: if none can be booted.
    """
    emulator, kind, serial = find_emulator()
    kernel = find_kernel()
    accelerators = ["-accel", "kvm"] if not emulated and has_hardware() else []
    with tempfile.TemporaryDirectory(prefix="ringfence-vm-") as directory:
        first_root = Path(directory, "initramfs")
        guest = ["/bin/sh", str(CHECKOUT / "tools/vm/guest"), str(CHECKOUT), str(_modules(kernel))]
        try:
            first_root.write_bytes(initramfs.build(_modules(kernel), guest))
        except (OSError, subprocess.CalledProcessError) as error:
            raise LacksMachine(str(error)) from error
        shared = Path(directory, "shared")
        shared.mkdir()
        kept = [f"{name}={os.environ[name]}" for name in KEPT if name in os.environ]
        (shared / "command").write_text(f"exec {shlex.join(['env', *kept, *command])}\n")
        machine = [
            *(emulator, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
            *("-machine", kind, *accelerators, "-accel", "tcg", "-cpu", "max,la57=off"),
            *("-smp", str(min(os.cpu_count() or 1, 4)), "-m", str(memory_mib), "-serial", "stdio"),
            *("-kernel", str(kernel), "-initrd", str(first_root)),
            # The kernel's own look at the timer fails, and ends it, where the emulator has to wait for a processor.
            *("-append", f"console={serial} loglevel=1 panic=-1 mitigations=off no_timer_check rdinit=/init"),
            *_share("host", "/", "readonly=on,multidevs=remap"),
            *_share("results", str(shared), "readonly=off"),
        ]
        try:
            subprocess.run(machine, stdin=subprocess.DEVNULL, stdout=output, timeout=timeout_s, check=False)
        except subprocess.TimeoutExpired:
            os.write(output, f"\nThe virtual machine was ended after {timeout_s:.0f} s.\n".encode())
        status = shared / "status"
        return int(status.read_text()) if status.exists() else NOT_RUN


def _share(name: str, path: str, options: str) -> list[str]:
    # What a shared file is owned by is what it is owned by here; links and devices are taken for what they are.
    device = f"virtio-9p-pci,fsdev={name},mount_tag={name}"
    return ["-fsdev", f"local,id={name},path={path},security_model=none,{options}", "-device", device]


def _modules(kernel: Path) -> Path:
    return kernel.parents[1] / "lib/modules" / kernel.name.removeprefix("vmlinuz-")


def _version(kernel: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", kernel.name)]

"""The system calls that are refused whatever their arguments, in groups by why."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping

from ringfence.sandbox.filters.seccomp.architecture import Architecture, Syscall
from ringfence.sandbox.filters.seccomp.bpf import SUCCEED, refuse

_IDENTITY_AND_NAMESPACES = (
    # A new user namespace gives a full set of capabilities over new namespaces, and so a way into code of the
    # kernel that only administrators reach otherwise. `clone` with such flags: see `judged`.
    Syscall("unshare", 272, 97),
    Syscall("setns", 308, 268),
    Syscall("sethostname", 170, 161),
    Syscall("setdomainname", 171, 162),
    Syscall("lsm_set_self_attr", 460, 460),
)
_MOUNTS = (
    Syscall("mount", 165, 40),
    Syscall("umount2", 166, 39),
    Syscall("pivot_root", 155, 41),
    Syscall("chroot", 161, 51),
    Syscall("open_tree", 428, 428),
    Syscall("open_tree_attr", 467, 467),
    Syscall("move_mount", 429, 429),
    Syscall("fsopen", 430, 430),
    Syscall("fsconfig", 431, 431),
    Syscall("fsmount", 432, 432),
    Syscall("fspick", 433, 433),
    Syscall("mount_setattr", 442, 442),
    Syscall("quotactl", 179, 60),
    Syscall("quotactl_fd", 443, 443),
    Syscall("swapon", 167, 224),
    Syscall("swapoff", 168, 225),
    Syscall("sysfs", 139, None),
    Syscall("ustat", 136, None),
)
_FILES_BY_HANDLE = (
    # A handle names a file of a whole filesystem, whatever of it is mounted (the "shocker" escape).
    Syscall("open_by_handle_at", 304, 265),
    Syscall("name_to_handle_at", 303, 264),
    Syscall("lookup_dcookie", 212, 18),
)
_WHAT_OTHERS_DO_WITH_FILES = (
    # A watch tells of everybody who uses a file, and so does what of a file is in memory.
    Syscall("fanotify_init", 300, 262),
    Syscall("fanotify_mark", 301, 263),
    Syscall("inotify_add_watch", 254, 27),
    Syscall("cachestat", 451, 451),
)
_KERNEL_CODE = (
    Syscall("bpf", 321, 280),
    Syscall("perf_event_open", 298, 241),
    Syscall("init_module", 175, 105),
    Syscall("finit_module", 313, 273),
    Syscall("delete_module", 176, 106),
    Syscall("create_module", 174, None),
    Syscall("query_module", 178, None),
    Syscall("get_kernel_syms", 177, None),
    Syscall("kexec_load", 246, 104),
    Syscall("kexec_file_load", 320, 294),
    Syscall("uselib", 134, None),
)
_OTHER_PROCESSES = (
    Syscall("ptrace", 101, 117),
    Syscall("process_vm_readv", 310, 270),
    Syscall("process_vm_writev", 311, 271),
    Syscall("process_madvise", 440, 440),
    Syscall("process_mrelease", 448, 448),
    Syscall("pidfd_getfd", 438, 438),
    Syscall("kcmp", 312, 272),
    Syscall("migrate_pages", 256, 238),
    Syscall("move_pages", 279, 239),
    # A process that is scheduled as if idle, or only where another spins, cannot end when it should; a namespace's
    # init among them. What a process may do to itself by them, it can by `setpriority` (see `judged`).
    Syscall("sched_setparam", 142, 118),
    Syscall("sched_setscheduler", 144, 119),
    Syscall("sched_setattr", 314, 274),
)
_KEYRINGS = (
    # Keyrings are not namespaced by every kernel: keys of other sandboxes of the same uid would be in reach.
    Syscall("add_key", 248, 217),
    Syscall("request_key", 249, 218),
    Syscall("keyctl", 250, 219),
)
_UNSEEN_MEMORY = (
    # Memory that lives outside of every process and of the bounded tmpfs: no sum over a run's processes sees it, so
    # without a cgroup one run could fill the host with it. POSIX shared memory (/dev/shm) is in the bounded tmpfs.
    # `vmsplice` leaves pages in a pipe that nobody maps any more: one slot of it can hold a whole huge page.
    Syscall("memfd_create", 319, 279),
    Syscall("vmsplice", 278, 75),
)
_OBJECTS_WITHOUT_A_FILE = (
    # They outlive whoever made them, and without an IPC namespace they are the host's.
    Syscall("shmget", 29, 194),
    Syscall("shmat", 30, 196),
    Syscall("shmctl", 31, 195),
    Syscall("semget", 64, 190),
    Syscall("semctl", 66, 191),
    Syscall("semop", 65, 193),
    Syscall("semtimedop", 220, 192),
    Syscall("msgget", 68, 186),
    Syscall("msgctl", 71, 187),
    Syscall("msgsnd", 69, 189),
    Syscall("msgrcv", 70, 188),
    Syscall("mq_open", 240, 180),
    Syscall("mq_unlink", 241, 181),
    Syscall("mq_timedsend", 242, 182),
    Syscall("mq_timedreceive", 243, 183),
    Syscall("mq_notify", 244, 184),
    Syscall("mq_getsetattr", 245, 185),
)
_WIDE_SURFACES = (
    # io_uring does its work outside of this filter's sight; userfaultfd stops the kernel at a chosen moment,
    # which turns races into certainties; memfd_secret hides memory from whoever looks after the host.
    Syscall("io_uring_setup", 425, 425),
    Syscall("io_uring_enter", 426, 426),
    Syscall("io_uring_register", 427, 427),
    Syscall("userfaultfd", 323, 282),
    Syscall("memfd_secret", 447, 447),
    Syscall("modify_ldt", 154, None),
    Syscall("remap_file_pages", 216, 234),
    # The number of its events is bounded for the host as a whole (fs.aio-max-nr): one run could take them all.
    Syscall("io_setup", 206, 0),
    # Memory of one NUMA node alone: a run could use up that node's, and the kernel looks for a victim there.
    Syscall("mbind", 237, 235),
    Syscall("set_mempolicy", 238, 237),
    Syscall("set_mempolicy_home_node", 450, 450),
)
_THE_MACHINE = (
    Syscall("reboot", 169, 142),
    Syscall("acct", 163, 89),
    Syscall("syslog", 103, 116),
    Syscall("vhangup", 153, 58),
    Syscall("settimeofday", 164, 170),
    Syscall("adjtimex", 159, 171),
    Syscall("clock_settime", 227, 112),
    Syscall("clock_adjtime", 305, 266),
    Syscall("ioperm", 173, None),
    Syscall("iopl", 172, None),
    Syscall("nfsservctl", 180, 42),
    Syscall("_sysctl", 156, None),
)

FORBIDDEN: tuple[Syscall, ...] = (
    *_IDENTITY_AND_NAMESPACES,
    *_MOUNTS,
    *_FILES_BY_HANDLE,
    *_WHAT_OTHERS_DO_WITH_FILES,
    *_KERNEL_CODE,
    *_OTHER_PROCESSES,
    *_KEYRINGS,
    *_UNSEEN_MEMORY,
    *_OBJECTS_WITHOUT_A_FILE,
    *_WIDE_SURFACES,
    *_THE_MACHINE,
)
"""Refused with EPERM."""

ABSENT = (
    # Its flags are behind a pointer, where no filter can look; without it, libraries use `clone`.
    Syscall("clone3", 435, 435),
    # Without them, programs that follow a file look at it from time to time.
    Syscall("inotify_init", 253, None),
    Syscall("inotify_init1", 294, 26),
)
"""Refused with ENOSYS, as by a kernel that does not have them: programs then do without."""

UNSUPPORTED = (
    # Each ruleset is memory of the kernel's that nobody counts. Programs do without, as where Landlock is switched off.
    Syscall("landlock_create_ruleset", 444, 444),
    Syscall("landlock_add_rule", 445, 445),
    Syscall("landlock_restrict_self", 446, 446),
    # An access control list is up to 64 KiB that count as no memory of the process, the tmpfs or its cgroup. Programs
    # that copy files go on without attributes, as where the file system has none.
    Syscall("setxattr", 188, 5),
    Syscall("lsetxattr", 189, 6),
    Syscall("fsetxattr", 190, 7),
    Syscall("setxattrat", 463, 463),
)
"""Refused with EOPNOTSUPP."""

IDLE = (
    # They write out what the whole host, or a whole file system of it, has still to write. Nothing that a run keeps
    # depends on it; `fsync` of a file is left.
    Syscall("sync", 162, 81),
    Syscall("syncfs", 306, 267),
)
"""Succeed without being made."""

VERDICTS: Mapping[int, tuple[Syscall, ...]] = {
    refuse(errno.EPERM): FORBIDDEN,
    refuse(errno.ENOSYS): ABSENT,
    refuse(errno.EOPNOTSUPP): UNSUPPORTED,
    SUCCEED: IDLE,
}
"""The calls that need no look at their arguments, by what becomes of them."""


def verdicts(architecture: Architecture) -> Iterator[tuple[int, int]]:
    """Each such call's number on this architecture, with its verdict."""
    for verdict, calls in VERDICTS.items():
        for call in calls:
            number = call.number(architecture)
            if number is not None:
                yield number, verdict

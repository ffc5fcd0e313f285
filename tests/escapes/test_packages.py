"""Changing the packages that later runs import from, and looking at those of another set."""

from __future__ import annotations

from tests.escapes.conftest import Supervisor

CHANGES = """
import ctypes, os, shutil, subprocess

done = []
top = "/packages"
module = f"{top}/python/only_in_one.py"


def attempt(name, change):
    try:
        change()
        done.append(name)
    except (OSError, shutil.Error, subprocess.CalledProcessError):
        pass


def write(path):
    with open(path, "a") as file:
        file.write("evil")


libc = ctypes.CDLL(None, use_errno=True)


def call(name, *arguments):
    if getattr(libc, name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), name)


for root in ("", "/proc/self/root", "/proc/1/root", "/proc/self/cwd/../../../.."):
    attempt(f"write {root}", lambda: write(root + module))
    attempt(f"create {root}", lambda: write(f"{root}{top}/python/evil.py"))
    attempt(f"create at the top {root}", lambda: write(f"{root}{top}/evil.py"))
    attempt(f"unlink {root}", lambda: os.unlink(root + module))
    attempt(f"chmod {root}", lambda: os.chmod(root + module, 0o777))
    attempt(f"chown {root}", lambda: os.chown(root + module, os.getuid(), os.getgid()))
    attempt(f"utime {root}", lambda: os.utime(root + module, (1, 1)))
    attempt(f"setxattr {root}", lambda: os.setxattr(root + module, "user.evil", b"1"))
    attempt(f"truncate {root}", lambda: os.truncate(root + module, 0))
    attempt(f"rename {root}", lambda: os.rename(root + module, root + module + "x"))
    attempt(f"symlink {root}", lambda: os.symlink("/etc", f"{root}{top}/python/evil"))
    attempt(f"rmtree {root}", lambda: shutil.rmtree(f"{root}{top}/python"))
    attempt(f"mkdir {root}", lambda: os.mkdir(f"{root}{top}/python/json"))
attempt("link", lambda: os.link(module, os.environ["HOME"] + "/linked.py"))
attempt("rename top", lambda: os.rename(top, "/other"))
attempt("mount over", lambda: call("mount", b"tmpfs", b"/packages", b"tmpfs", 0, None))
attempt("remount", lambda: call("mount", None, b"/packages", None, 32 | 4096, None))
attempt("unmount", lambda: call("umount2", b"/packages", 2))


def through_descriptor():
    reading = os.open(module, os.O_RDONLY)
    os.close(os.open(f"/proc/self/fd/{reading}", os.O_RDWR))


attempt("open again", through_descriptor)
import only_in_one
result = [done, only_in_one.WORD]
"""

OTHERS = """
import os, sys

found = []
SEEN = {("usr", "/proc/self/root/"), ("usr", "/proc/1/root/")}
for root in ("/", "/proc/self/root/", "/proc/1/root/"):
    for directory, within, names in os.walk(root):
        # What /proc has of processes leads round and round; and what /usr has is the same from everywhere.
        within[:] = [name for name in within if name not in ("proc", "sys") and (name, root) not in SEEN]
        found += [name for name in (*within, *names) if name.startswith("only_in_")]
for place in ("/packages/..", "/packages/../..", "/packages/../two", "/packages/two", "/packages/python/../../two"):
    found += os.listdir(place) if os.path.isdir(place) else []
try:
    import only_in_two
    found.append("imported")
except ImportError:
    pass
result = sorted({name for name in found if name.startswith("only_in_") or name in ("two", "imported")})
"""


def test_a_script_cannot_change_the_packages_that_it_is_given(supervisor: Supervisor) -> None:
    changing = supervisor.run("python", CHANGES, packages="one")
    assert (changing.value, changing.stderr) == ([[], "one"], "")
    assert changing.packages is not None
    later = supervisor.run("python", "import only_in_one; result = only_in_one.WORD", packages="one")
    assert later.value == "one"


def test_the_packages_of_another_set_are_not_seen(supervisor: Supervisor) -> None:
    result = supervisor.run("python", OTHERS, packages="one")
    assert (result.value, result.stderr) == (["only_in_one.py"], "")
    theirs = supervisor.run("python", "import only_in_two; result = only_in_two.WORD", packages="two")
    assert theirs.value == "two"

"""Finding a namespace's init by what its wrapper told, and a fault in supervision that must not hang a run."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from types import ModuleType

import pytest
from ringfence.sandbox.launch.supervision import course, supervise
from ringfence.sandbox.processes.pidfds import init_of

from tests.primitives import requires
from tests.sandbox.conftest import RunScript
from tests.sandbox.processes import marked_processes
from tests.waiting import in_time, until


def told(pid: int) -> bytes:
    """The first line of a wrapper whose init has that pid."""
    return json.dumps({"child-pid": pid}).encode() + b"\n"


@pytest.fixture
def childless() -> int:
    """The pid of a wrapper whose init is gone, as an ended process has it."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_the_number_of_a_thread_is_no_init(childless: int) -> None:
    """A pid that was told in another namespace may be anything here once the process is gone."""
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    try:
        assert thread.native_id is not None
        assert init_of(told(thread.native_id), childless) is None
    finally:
        end.set()
        thread.join()


def test_nobodys_number_and_a_strangers_are_no_init(childless: int) -> None:
    assert init_of(told(childless), childless) is None
    assert init_of(told(os.getpid()), childless) is None


@requires("user namespaces")
@pytest.mark.parametrize(("module", "moment"), [(supervise, "init_of"), (course, "next_look")])
async def test_a_fault_in_supervision_ends_the_run_and_its_tree(
    run_script: RunScript, monkeypatch: pytest.MonkeyPatch, module: ModuleType, moment: str
) -> None:
    def broken(*_: object) -> int:
        raise RuntimeError("made to fail")

    monkeypatch.setattr(module, moment, broken)
    async with in_time("the run fails"):
        with pytest.raises(RuntimeError, match="made to fail"):
            await run_script("shell", "sleep 98765")
    await until(lambda: not marked_processes("98765"))

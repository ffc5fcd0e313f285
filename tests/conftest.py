"""Fixtures that every test may use."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests import in_turn, kept_adapters, late_routes, warm_start
from tests.packaging.environments import build_wheel

# On a busy machine an example may take long for reasons of the machine's own: that is no failure.
settings.register_profile("ringfence", deadline=None)
settings.load_profile("ringfence")

pytest_plugins = ["ringfence.testing", "tests.logs_apart"]

WORKERS_PER_PROCESSOR = 1.5
"""Many tests wait for processes to start and end, so one worker does not keep a processor busy."""
MOST_WORKERS = 8
LONGEST = frozenset({"soak", "package_storm", "test_virtual_machine.py"})
"""Folders and files whose tests take minutes."""


def pytest_configure(config: pytest.Config) -> None:
    """Leave the slow tests, and those of the other wrapper, out of directories unless `-m` says what is wanted."""
    # Hundreds of processes are started, and each would compile all that it imports anew.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    # What a program prints is buffered as it is for users.
    os.environ.pop("PYTHONUNBUFFERED", None)
    # What is collected and what each host leaves is tens of thousands of objects, which every look would go through.
    gc.set_threshold(10_000, 10, 10)
    warm_start.install()
    kept_adapters.install()
    late_routes.install()
    # No test has a terminal, and most read logs as people do. Those of JSON ask for it.
    os.environ.setdefault("RINGFENCE_LOG_FORMAT", "text")
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        # A shell that starts the tests in the background has them ignored, and so would all that the tests start.
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL)
    if not config.option.markexpr and _whole_directories(config):
        config.option.markexpr = "not slow and not other_wrapper"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with those that take longest, so that the others are done beside them; know the slow rows of tables."""
    in_turn.mark(items)
    items.sort(key=lambda item: LONGEST.isdisjoint(item.path.parts))


def pytest_collection_finish() -> None:
    """Leave what lives as long as the tests out of every collection of garbage: a quarter of a host's start."""
    gc.collect()
    gc.freeze()


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """How many processes share the tests (`-n N` says otherwise); 0 runs them in this one.

    Each worker has a PostgreSQL and sandboxes of its own to start, which is not worth it for a few tests.
    """
    few = config.option.keyword or getattr(config.option, "lf", False) or not _whole_directories(config)
    return 0 if few else min(MOST_WORKERS, round(len(os.sched_getaffinity(0)) * WORKERS_PER_PROCESSOR))


def _whole_directories(config: pytest.Config) -> bool:
    """Whether no single file or test is named."""
    return all(Path(path).is_dir() for path in config.args)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Turn what would have been a skip into a failure (RINGFENCE_REQUIRE_ALL=1), before any fixture is made."""
    if (lacks := item.get_closest_marker("lacks")) is not None:
        pytest.fail(f"{item.nodeid}: this machine lacks: {', '.join(lacks.args)}, and all are required")


@pytest.fixture
def unused_port() -> int:
    """A loopback TCP port on which nobody listens at the moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The distribution as users get it, built once."""
    return build_wheel(Path(__file__).parents[1], tmp_path_factory.mktemp("dist"))


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A temporary directory that a process of another user can pass through, as the database's needs to."""
    directory = Path(tempfile.mkdtemp(prefix="ringfence-test-"))
    directory.chmod(0o711)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)

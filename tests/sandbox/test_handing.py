"""What is handed over to a launch, as threads that launch at the same time take it."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

from ringfence.sandbox.launch.making.handing import Descriptors

AT_ONCE = 8
ROUNDS = 200


def test_launches_at_the_same_time_each_read_what_they_share() -> None:
    barrier = threading.Barrier(AT_ONCE)

    def read(data: bytes) -> bytes:
        barrier.wait()
        with Descriptors() as ours:
            return os.read(ours.constant(data), len(data) + 1)

    with ThreadPoolExecutor(AT_ONCE) as threads:
        for turn in range(ROUNDS):
            data = f"made in turn {turn}".encode()
            assert list(threads.map(read, [data] * AT_ONCE)) == [data] * AT_ONCE

"""A test that configures the logs of this process leaves them to the next one as they were."""

from __future__ import annotations

import logging
import sys

import structlog
from ringfence.process import logs
from structlog.testing import capture_logs

_log = structlog.get_logger("ringfence.apart")


def test_a_command_that_is_called_in_this_process_configures_its_logs() -> None:
    logs.configure()
    _log.info("heard by nobody")
    assert structlog.is_configured()


def test_the_next_test_hears_what_is_logged() -> None:
    with capture_logs() as heard:
        _log.info("heard")
    assert heard == [{"event": "heard", "log_level": "info"}]
    streams = [one.stream for one in logging.getLogger().handlers if type(one) is logging.StreamHandler]
    assert sys.stderr not in streams

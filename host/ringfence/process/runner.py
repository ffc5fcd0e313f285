"""The runner of this process: made before anything else is started, so that a wrong setting is told at once."""

from __future__ import annotations

from ringfence.process.errors import UsageMistake


def check_runner() -> None:
    """Make the runner of this process, if there is none yet.

    Raises:
        UsageMistake: if the environment's settings for it are wrong.
    """
    from ringfence.scripts import RunnerSettingsError
    from ringfence.scripts.running.runner import runner

    try:
        runner()
    except RunnerSettingsError as error:
        raise UsageMistake(str(error)) from error

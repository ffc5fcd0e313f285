"""Which tests a command line stands for: the slow ones are run where they are asked for."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.conftest import pytest_configure

HERE = Path(__file__).parent


@pytest.mark.parametrize(
    ("arguments", "asked", "chosen"),
    [
        ([HERE], "", "not slow and not other_wrapper"),
        ([HERE / "sandbox", HERE / "cli"], "", "not slow and not other_wrapper"),
        ([HERE], "slow or not slow", "slow or not slow"),
        ([HERE / "sandbox" / "test_killed_spawners.py"], "", ""),
        ([HERE / "sandbox", f"{HERE}/cli/test_follow.py::test_it_goes_on"], "", ""),
    ],
)
def test_slow_tests_are_left_out_of_directories_unless_m_or_a_file_names_them(
    arguments: list[Path | str], asked: str, chosen: str
) -> None:
    config = SimpleNamespace(option=SimpleNamespace(markexpr=asked), args=list(map(str, arguments)))
    pytest_configure(config)  # type: ignore[arg-type]
    assert config.option.markexpr == chosen

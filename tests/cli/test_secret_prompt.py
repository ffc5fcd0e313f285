"""A secret that is typed: nobody sees it, and Ctrl-C is no failure."""

from __future__ import annotations

import pytest

from tests.cli.fake_host import Answer, FakeHost
from tests.cli.terminal import answering

CTRL_C = b"\x03"


def type_at_the_prompt(*typed: bytes) -> tuple[int, str]:
    """What `ringfence secret set` ends with, and what its terminal showed, when these are typed at its prompts."""
    return answering(iter(typed), "secret", "set", "API_TOKEN", asked=b"Value of API_TOKEN:")


def test_what_is_typed_is_sent_and_not_shown_and_an_empty_line_is_asked_again(host: FakeHost) -> None:
    host.on("PUT", "/api/secrets/secrets/API_TOKEN", Answer(200, {"name": "API_TOKEN"}))
    status, shown = type_at_the_prompt(b"\n", b"hunter2\n")
    assert status == 0, shown
    assert host.only("PUT").body == {"value": "hunter2"}
    assert "hunter2" not in shown
    assert shown.count("Value of API_TOKEN:") == 2


@pytest.mark.usefixtures("host")
def test_ctrl_c_at_the_prompt_ends_as_an_interruption() -> None:
    assert type_at_the_prompt(CTRL_C)[0] == 130

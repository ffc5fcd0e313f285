"""No secret is left in what a run gives back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringfence.scripts import Mask

from tests.primitives import requires
from tests.sandbox.conftest import RunScript, run_script

__all__ = ["run_script"]

SECRET = "hunter2-hunter2"
MASKED = "***"


@pytest.mark.parametrize(
    ("secrets", "text", "expected"),
    [
        ([SECRET], f"a {SECRET} b {SECRET}", "a *** b ***"),
        ([SECRET], "nothing here", "nothing here"),
        (["abcd", "cdef"], "xabcdefx", "x***x"),
        (["aba"], "xababax", "x***x"),
        (["short", "shorter"], "a shorter b", "a *** b"),
        ([""], "text", "text"),
        (["  padded  \n"], "a padded b", "a *** b"),
        (
            ["first line\nsecond line\nend"],
            "only second line here, not the end",
            "only *** here, not the end",
        ),
    ],
)
def test_each_stretch_that_is_a_secret_is_blotted_out(secrets: list[str], text: str, expected: str) -> None:
    assert Mask(secrets).text(text) == expected


def test_the_beginning_of_a_secret_at_the_end_of_cut_output_is_blotted_out() -> None:
    assert Mask([SECRET]).text("password: hunter2-hun", cut=True) == "password: ***"
    assert Mask([SECRET]).text("I am a hun", cut=True) == "I am a hun"
    assert Mask([SECRET]).text("password: hunter2-hun") == "password: hunter2-hun"


def test_a_value_is_masked_in_its_names_and_all_the_way_down() -> None:
    value = {"a": [1, None, f"x{SECRET}"], SECRET: {"b": SECRET}}
    assert Mask([SECRET]).value(value) == {"a": [1, None, "x***"], MASKED: {"b": MASKED}}


@given(
    secrets=st.lists(st.text(alphabet="abc", min_size=4, max_size=8), min_size=1, max_size=4),
    around=st.lists(st.text(alphabet="abcx", max_size=12), min_size=2, max_size=6),
)
def test_no_secret_is_left_wherever_it_stood(secrets: list[str], around: list[str]) -> None:
    text = "".join(piece + secrets[index % len(secrets)] for index, piece in enumerate(around))
    masked = Mask(secrets).text(text)
    assert all(secret not in masked for secret in secrets)


@requires("user namespaces")
@pytest.mark.parametrize(
    ("kind", "script"),
    [
        ("shell", 'printf "%s" "${TOKEN%-*}-"; sleep 0.05; echo "${TOKEN#*-}"; echo "$TOKEN" >&2'),
        (
            "python",
            "import os, sys, time\n"
            "def main(context):\n"
            "    token = os.environ['TOKEN']\n"
            "    for part in (token[:5], token[5:]):\n"
            "        sys.stdout.write(part); sys.stdout.flush(); time.sleep(0.05)\n"
            "    print(token, file=sys.stderr)\n"
            "    return {'token': token, token: [token]}\n",
        ),
    ],
)
async def test_a_script_gets_its_secrets_and_none_of_them_comes_back(
    run_script: RunScript, kind: str, script: str
) -> None:
    result = await run_script(kind, script, secret_env={"TOKEN": SECRET}, env={"PLAIN": "kept"})
    assert result.exit_code == 0
    assert result.stdout.strip() == MASKED
    assert result.stderr.strip() == MASKED
    assert SECRET not in result.model_dump_json()
    if kind == "python":
        assert result.value == {"token": MASKED, MASKED: [MASKED]}


@requires("user namespaces")
async def test_a_secret_that_the_output_cap_cut_in_two_does_not_show_its_first_half(
    run_script: RunScript,
) -> None:
    script = (
        'head -c 4090 /dev/zero | tr "\\0" x; printf "%s" "$TOKEN"; echo; head -c 9999 /dev/zero | tr "\\0" y'
    )
    result = await run_script(
        "shell", script, secret_env={"TOKEN": SECRET}, policy={"resources": {"maxOutputBytes": 4096}}
    )
    assert result.output_truncated
    assert result.stdout == "x" * 4090 + MASKED


def test_a_request_does_not_show_its_secrets() -> None:
    from ringfence.scripts import ScriptKind, ScriptRequest

    assert SECRET not in repr(ScriptRequest(ScriptKind.SHELL, ":", secret_env={"TOKEN": SECRET}))

"""What real programs make of a secret by themselves, and that nothing of it is left when that is masked."""

from __future__ import annotations

import base64
import json
import os
import random
import string
import subprocess
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringfence.scripts import Mask
from ringfence.scripts.masking.mask import MASK, MIN_STUMP

from tests.primitives import PROGRAMS, requires

SPECIAL = "'\"`\\$%+&<>#;/?= \t\n\x01\x1b\x7fé\xa0\xadß漢😀{}()*~!|^@:,[]"
_HARD = (
    'it\'s "quoted" `and` \\slashed\\',
    "p%41\\x41&amp;+a b",
    "a'\\''b\\'c",
    "line one\nline two's\n\tline three",
    "héllo wörld 漢字 😀!",
    "\x01\x1b[0m\x7f\xa0\xad.",
    "C:\\new\\table\\x00",
    "$HOME/${x}`id`!*?",
    "postgres://u:p@ss/w?rd#1",
    "12345678",
)


def _secrets(count: int) -> list[str]:
    made = random.Random(7)
    found = list(_HARD)
    while len(found) < count:
        alphabet = SPECIAL * 2 + string.ascii_letters + string.digits
        one = "".join(made.choice(alphabet) for _ in range(made.randint(6, 40)))
        if one.strip() == one:
            found.append(one)
    return found


SECRETS = _secrets(80)

PYTHON = r"""
import base64, html, json, os, pprint, shlex, traceback, urllib.parse
def forms(s):
    q = urllib.parse.quote
    yield "repr", repr(s)
    yield "dict", repr({"k": [s]})
    yield "ascii", ascii(s)
    yield "bytes", repr(s.encode())
    yield "json", json.dumps(s)
    yield "json raw", json.dumps({"k": s}, ensure_ascii=False)
    yield "json in json", json.dumps(json.dumps([s]))
    yield "json slashes", json.dumps(s).replace("/", "\\/")
    yield "quote", q(s)
    yield "quote all", q(s, safe="")
    yield "quote some", q(s, safe="/:@!$&'()*+,;=?")
    yield "quote lower", "".join("%%%02x" % b if b == 37 or b > 126 or b < 33 else chr(b) for b in s.encode())
    yield "plus", urllib.parse.quote_plus(s)
    yield "form", urllib.parse.urlencode({"k": s})
    yield "quote in json", json.dumps(q(s, safe=""))
    yield "quote twice", q(q(s, safe=""), safe="")
    yield "html", html.escape(s)
    yield "html numbers", "".join("&#x%x;" % ord(c) if not c.isalnum() or ord(c) > 126 else c for c in s)
    yield "html decimal", "".join("&#%d;" % ord(c) for c in s)
    yield "shlex", shlex.quote(s)
    yield "basic", "Authorization: Basic " + base64.b64encode(b"user:" + s.encode()).decode()
    yield "bearer", "Authorization: Bearer " + base64.urlsafe_b64encode(s.encode() + b":x").decode()
    try:
        {}[s]
    except KeyError:
        yield "KeyError", traceback.format_exc().splitlines()[-1]
    yield "pprint", pprint.pformat(s, width=4000)
for n in range(int(os.environ["COUNT"])):
    for name, form in forms(os.environ["S%d" % n]):
        print(json.dumps([n, name, form]))
"""

NODE = r"""
const util = require("util");
function* forms(s) {
    yield ["inspect", util.inspect(s)];
    yield ["inspect deep", util.inspect({ k: [s] }, { breakLength: Infinity })];
    yield ["JSON", JSON.stringify(s)];
    yield ["URI component", encodeURIComponent(s)];
    yield ["URI", encodeURI(s)];
    yield ["escape", escape(s)];
    yield ["params", new URLSearchParams({ k: s }).toString()];
    yield ["template", util.format("%s %j %o", "", s, s)];
}
for (let n = 0; n < +process.env.COUNT; n++)
    for (const [name, form] of forms(process.env["S" + n])) console.log(JSON.stringify([n, name, form]));
"""

# Everything that may stand around a secret that is masked, in the forms above.
AROUND = {
    *("***", "'***'", '"***"', "`***`", "b'***'", 'b"***"', "$'***'", "(***)"),
    *("{'k': ['***']}", "{'k': [\"***\"]}", "{ k: [ '***' ] }", '{ k: [ "***" ] }', "{ k: [ `***` ] }"),
    *('{"k": "***"}', '"[\\"***\\"]"', "k=***", "KeyError: '***'", 'KeyError: "***"'),
    *("Authorization: Basic ***", "Authorization: Bearer ***"),
    *(f' "***" {quote}***{quote}' for quote in "'\"`"),
}


def environment(secrets: list[str], **more: str) -> dict[str, str]:
    return {
        "PATH": PROGRAMS,
        "COUNT": str(len(secrets)),
        **{f"S{n}": secret for n, secret in enumerate(secrets)},
        **more,
    }


def run(command: list[str], secrets: list[str], **more: str) -> bytes:
    done = subprocess.run(command, env=environment(secrets, **more), capture_output=True, check=True)
    return done.stdout + done.stderr


def left_of(forms: bytes) -> list[tuple[str, str, str, str]]:
    """The forms of which something is left after masking, with the secret and what is left."""
    found = []
    for line in forms.decode().splitlines():
        n, name, form = json.loads(line)
        if (masked := Mask([SECRETS[n]]).text(form)) not in AROUND:
            found.append((name, SECRETS[n], form, masked))
    return found


def test_nothing_is_left_of_what_python_writes() -> None:
    assert left_of(run(["python3", "-c", PYTHON], SECRETS, PYTHONUTF8="1")) == []


@requires("node")
def test_nothing_is_left_of_what_node_writes() -> None:
    assert left_of(run(["node", "-e", NODE], SECRETS)) == []


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
@pytest.mark.parametrize("shell", ["sh", "dash", "bash"])
def test_nothing_is_left_of_what_a_shell_that_traces_writes(shell: str, locale: str) -> None:
    single = [secret for secret in SECRETS if "\n" not in secret]
    script = "set -x\n" + "\n".join(f': "$S{n}"' for n in range(len(single)))

    traced = run([shell, "-c", script], single, LC_ALL=locale).decode()

    for secret, line in zip(single, traced.splitlines(), strict=True):
        masked = Mask([secret]).text(line)
        assert masked.removeprefix("+ : ") in AROUND, (secret, line, masked)


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_nothing_is_left_of_how_bash_quotes(locale: str) -> None:
    for command in ('printf "%q"', "declare -p"):
        for n, secret in enumerate(SECRETS):
            word = f"S{n}" if command == "declare -p" else f'"$S{n}"'
            written = run(["bash", "-c", f"{command} {word}"], SECRETS, LC_ALL=locale).decode()
            masked = Mask([secret]).text(written.strip())
            assert masked.removeprefix(f"declare -x S{n}=") in AROUND, (secret, written, masked)
            if n > 30:
                break


def test_a_secret_of_several_lines_is_masked_line_by_line_as_a_traceback_shows_it() -> None:
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\nAQEFAASCBKcwggSjAgEAAoIB\n-----END KEY-----"
    script = "import os; raise ValueError(os.environ['S0'])"
    done = subprocess.run(["python3", "-c", script], env=environment([key]), capture_output=True, text=True)

    masked = Mask([key]).text(done.stderr)

    assert "ValueError: ***" in masked
    assert Mask([key]).text("".join(f"  | {line}\n" for line in key.splitlines())) == f"  | {MASK}\n" * 4


@requires("node")
def test_a_secret_of_several_lines_is_masked_as_programs_break_it() -> None:
    key = (
        "first line of it\nsecond line of it, which is rather long\nthird line, which is rather long as well"
    )
    broken = run(["node", "-e", "console.log([process.env.S0])"], [key]).decode()
    assert "' +\n" in broken
    printed = run(["python3", "-c", "import os, pprint; pprint.pprint([os.environ['S0']])"], [key]).decode()

    for text in (broken, printed):
        masked = Mask([key]).text(text)
        assert "line" not in masked, masked


text_of_secrets = st.text(
    st.sampled_from(SPECIAL + string.ascii_letters + string.digits), min_size=6, max_size=30
).filter(lambda text: text.strip() == text)


@given(text_of_secrets, st.data())
def test_it_does_not_matter_which_characters_are_encoded(secret: str, data: st.DataObject) -> None:
    ways: list[Callable[[str], str]] = [
        lambda c: "".join(f"%{b:02X}" for b in c.encode()),
        lambda c: "".join(f"%{b:02x}" for b in c.encode()),
    ]
    percent = secret.translate({ord("%"): "%25"})
    encoded = (
        "".join(
            data.draw(st.sampled_from(ways))(c) if c != "%" and data.draw(st.booleans()) else c
            for c in secret.replace("%", "\0")
        )
        .replace("\0", "%25")
        .replace("%00", "%25")
    )

    masked = Mask([secret]).text(f"before {encoded} after")

    assert percent
    assert masked == f"before {MASK} after"


@given(text_of_secrets, st.sampled_from([repr, json.dumps, ascii]), st.data())
def test_what_the_end_of_the_output_left_of_a_written_secret_is_masked(
    secret: str, write: Callable[[str], str], data: st.DataObject
) -> None:
    written = write(secret)[1:-1]
    kept = data.draw(st.integers(0, len(written)))

    masked = Mask([secret]).text("token=" + written[:kept], cut=True)

    left = masked.removeprefix("token=")
    assert left == MASK or len(left) < 12 * MIN_STUMP
    if len(set(written)) == len(written) and kept >= 12 * MIN_STUMP:
        assert left == MASK


@given(st.lists(text_of_secrets, min_size=1, max_size=3), st.text(max_size=40), st.text(max_size=40))
def test_a_text_without_a_secret_is_left_as_it_is(secrets: list[str], one: str, other: str) -> None:
    text = one + "\\x41 %41 &amp; 'a'" + other
    if not any(secret in text for secret in secrets):
        masked = Mask(secrets).text(text)
        assert masked == text or MASK in masked


@pytest.mark.parametrize(
    ("secret", "value", "masked"),
    [
        ("12345678", {"pin": 12345678}, {"pin": MASK}),
        ("12345678", [12345678.0, -1, 12345679], [MASK, -1, 12345679]),
        ("0012345678", [12345678], [MASK]),
        ("1234.50", [1234.5, 1234.51], [MASK, 1234.51]),
        ("12345678", [9912345678], [MASK]),
        ("12345678", {"12345678": "x12345678"}, {MASK: f"x{MASK}"}),
        ("123", [123, True], [123, True]),
        ("nan", [1.5], [1.5]),
    ],
)
def test_a_number_that_is_a_secret_is_masked(secret: str, value: object, masked: object) -> None:
    assert Mask([secret]).value(value) == masked


def test_base64_of_other_things_is_left_alone() -> None:
    text = base64.b64encode(os.urandom(3000)).decode()

    assert Mask(["hunter2-hunter2"]).text(text) == text

"""What is to be run, as it is written: what is refused, which format suits it, and what placeholders become."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError
from ringfence.scripts import Format, ScriptKind, Task
from ringfence.scripts.tasks.placeholders import UnknownPlaceholderError

FACTS = {"satellite.name": "edge-1", "vars.warn": "80", "check.name": "disk"}


def task(**fields: Any) -> Task:
    return Task.model_validate({"script": "true", "kind": "shell", **fields})


@pytest.mark.parametrize(
    ("kind", "script", "format"),
    [
        ("python", "def main(context):\n    return {}", Format.VERDICT),
        ("python", "async def main(context): ...", Format.VERDICT),
        # Nobody calls it, so that a script which checks nothing would be well.
        ("python", "def main():\n    return 2", Format.VERDICT),
        ("python", "def main(): ...\nif __name__ == '__main__':\n    main()", Format.EXIT),
        ("python", "import sys\nsys.exit(1)", Format.EXIT),
        ("python", "def main(:", Format.EXIT),
        ("esm", "export default async () => ({status: 'healthy'})", Format.VERDICT),
        ("esm", "module.exports = () => ({status: 'degraded'})", Format.VERDICT),
        ("esm", "const f = 1\nexport { f as default }", Format.VERDICT),
        ("esm", "console.log('fine')", Format.EXIT),
        ("shell", "echo fine", Format.EXIT),
        ("auto", "#!/usr/bin/env python3\ndef main(context): ...", Format.VERDICT),
        ("auto", "#!/usr/bin/perl\nexit 0", Format.EXIT),
        ("auto", "nobody knows", Format.EXIT),
        # Who starts it itself says how it went by its status.
        ("python", "def main(argv=None): ...\nif __name__ == '__main__':\n    main()", Format.EXIT),
        ("python", "def main(): ...\ndef cli():\n    main()\ncli()", Format.EXIT),
        ("python", "import app\napp.main()", Format.EXIT),
        ("python", "def main(context): ...\nif __name__ == '__main__':\n    main(1)", Format.VERDICT),
        # In whatever way it is given its name.
        ("python", "main = lambda context: False", Format.VERDICT),
        ("python", "try:\n    import x\nexcept ImportError:\n    def main(ctx): return 2", Format.VERDICT),
        ("python", "from app import check as main", Format.VERDICT),
        ("python", "class main:\n    def __call__(self, context): ...", Format.VERDICT),
        ("python", "main: object = print", Format.VERDICT),
        ("python", "def f():\n    def main(context): ...", Format.EXIT),
        ("esm", "const a=1;export default()=>false", Format.VERDICT),
        ("esm", 'export { f as "default" }', Format.VERDICT),
        ("esm", "export async function main() { return {status: 'degraded'} }", Format.VERDICT),
        ("auto", "#!/usr/bin/node\nmodule.exports = () => ({status: 'degraded'})", Format.VERDICT),
        ("auto", "#!/usr/bin/env -S node -r x\nmodule['exports'] = 1", Format.VERDICT),
        ("auto", "#!/usr/bin/node\nif (require.main === module) f();\nmodule.exports = f", Format.EXIT),
        ("auto", "#!/usr/bin/python3 -u\ndef main(context): ...", Format.VERDICT),
    ],
)
def test_the_format_is_what_suits_the_script(kind: str, script: str, format: Format) -> None:
    assert task(kind=kind, script=script).read_as is format


def test_a_command_in_a_directory_of_plugins_is_read_as_one() -> None:
    def read_as(*command: str) -> Format:
        return Task.model_validate({"command": command}).read_as

    assert read_as("/usr/lib/nagios/plugins/check_disk", "-w", "10") is Format.NAGIOS
    assert read_as("/usr/lib/nagios/pluginsx/check_disk") is Format.EXIT
    assert read_as("/usr/bin/uptime") is Format.EXIT
    assert Task.model_validate({"command": ["/bin/true"], "format": "nagios"}).read_as is Format.NAGIOS


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"script": None}, "either a script or a command"),
        ({"command": ["/bin/true"]}, "not both"),
        ({"script": None, "command": ["true"], "kind": "auto"}, "absolute path"),
        ({"script": None, "command": ["/bin/true"]}, "a command is a program"),
        ({"fileName": "../x"}, "name"),
        ({"args": ["a\0b"]}, "NUL"),
        ({"env": {"LD_PRELOAD": "x"}}, "LD_PRELOAD cannot be set"),
        ({"env": {"A B": "x"}}, "A B"),
        ({"secrets": {"PATH": "{a}"}}, "PATH cannot be set"),
        ({"secrets": {"PGURL": "no secret in it"}}, "must name a secret"),
        ({"secrets": ["db-password"]}, "db-password"),
        ({"assertions": ["lag <"]}, "assertion cannot be read"),
        ({"format": "json"}, "needs assertions"),
        ({"format": "xml"}, "exit"),
        ({"stdin": "x" * (64 * 1024 + 1)}, "65536"),
        ({"timeout": 3}, "timeout"),
    ],
)
def test_what_cannot_be_run_is_refused_when_it_is_written(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as refused:
        task(**fields)
    assert words in str(refused.value)


def test_secrets_are_a_list_of_names_or_texts_by_variable() -> None:
    assert task(secrets=["API_TOKEN"]).secrets == {"API_TOKEN": "{API_TOKEN}"}
    assert task(secrets={"A": "db-password"}).secrets == {"A": "{db-password}"}
    url = "postgres://app:{db-password}@{satellite.name}/{other}"
    both = task(secrets={"PGURL": url}, args=["{API_TOKEN}"])
    assert both.secret_names == {"db-password", "other", "API_TOKEN"}
    for one in (task(secrets=["B", "A"]), both):
        assert Task.model_validate(one.model_dump(mode="json", by_alias=True)) == one
    assert task(secrets=["B", "A"]).model_dump(mode="json")["secrets"] == ["B", "A"]


def test_what_is_known_of_the_place_is_filled_in_first_and_secrets_last() -> None:
    written = task(
        args=["-w", "{vars.warn}%", "{db-password}", "{{x}}"],
        env={"ON": "{satellite.name}"},
        stdin="{check.name}",
        secrets={"PGURL": "pg://app:{db-password}@{satellite.name}"},
        assertions=["metric.used < {vars.warn}"],
    )
    assert not {"satellite.name", "vars.warn", "check.name"} ^ written.fact_names
    placed = written.placed(FACTS)
    assert placed.assertions == ("metric.used < 80",)
    assert placed.claims()[0].subject == "used"
    request = placed.request({"db-password": "hunter2"}, FACTS, timeout_ms=5)
    assert request.args == ("-w", "80%", "hunter2", "{x}")
    assert request.env == {"ON": "edge-1"}
    assert request.stdin == "disk"
    assert request.secret_env == {"PGURL": "pg://app:hunter2@edge-1"}
    assert request.masked == ("hunter2",)
    assert request.context == {
        "satellite": {"name": "edge-1"},
        "vars": {"warn": "80"},
        "check": {"name": "disk"},
    }
    assert request.facts["RINGFENCE_SATELLITE_NAME"] == "edge-1"
    assert request.kind is ScriptKind.SHELL


def test_what_is_escaped_in_an_assertion_is_as_it_is_meant() -> None:
    claims = task(assertions=['stdout contains "{{a.b}} {ready} {vars.warn}"']).placed({"vars.warn": "{c.d}"})
    assert claims.placed({}).claims()[0].value == "{a.b} {ready} {c.d}"


@pytest.mark.parametrize("value", ["a\0b", "\ud800", "x" * 200_000])
def test_what_no_program_can_be_given_is_an_error_that_does_not_quote_it(value: str) -> None:
    one = Task.model_validate({"command": ["/bin/true"], "env": {"A": "{a.b}"}, "secrets": {"S": "{token}"}})
    for facts, secrets in (({"a.b": value}, {"token": "x"}), ({"a.b": "x"}, {"token": value})):
        with pytest.raises(ValueError, match=r"zero byte|surrogates|too large") as refused:
            one.placed(facts).request(secrets, facts, timeout_ms=1)
        assert isinstance(refused.value, UnicodeEncodeError) or value not in str(refused.value)
    with pytest.raises(ValueError, match="too large"):
        Task.model_validate({"command": ["/bin/true"]}).request(
            {}, {f"vars.a{at}": "x" * 100_000 for at in range(11)}, timeout_ms=1
        )


def test_the_path_of_a_program_holds_no_secret() -> None:
    with pytest.raises(ValidationError, match="cannot hold a secret"):
        Task.model_validate({"command": ["/opt/{token}/check"]})


def test_a_placeholder_that_is_not_known_is_an_error() -> None:
    with pytest.raises(UnknownPlaceholderError, match=r"vars\.other"):
        task(args=["{vars.other}"]).placed(FACTS)
    with pytest.raises(UnknownPlaceholderError, match=r"\{print\}"):
        task(args=["{print}"]).placed(FACTS).request({}, FACTS, timeout_ms=5)

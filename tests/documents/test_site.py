"""The site of the documents: every link leads somewhere, and the reference tells it all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
from ringfence.cli.app import app
from ringfence.sandbox import SandboxPolicy

from tests.primitives import requires
from tools.site import links, sources
from tools.site.reference import commands, policy, protocol, settings
from tools.site.sources import ROOT, as_on_the_site
from tools.site.tables import fields, table

HERE = ROOT / "docs" / "page.md"


@pytest.mark.slow
@requires("user namespaces")
def test_it_is_built_and_every_link_leads_somewhere() -> None:
    built = subprocess.run(
        [sys.executable, "-m", "tools.site"], cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    assert built.returncode == 0, built.stdout + built.stderr
    site = ROOT / "build" / "docs" / "site"
    for name, word in {
        "index": "Ringfence",
        "reference/api": "/api/script-packages/sandbox-policy",
        "reference/documents": "NotificationChannel",
        "reference/events": "sandbox-policy-changed",
    }.items():
        assert word in (site / f"{name}.html").read_text(), name
    assert "Needs a token with the access rule" in (site / "reference" / "api.html").read_text()


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "tools" / "site" / "zensical.toml").read_text()
    assert [name for name in sources.pages() if f'"{name}"' not in navigation] == []


def test_the_reference_has_every_command_setting_and_frame() -> None:
    told = commands.page()
    root = typer.main.get_command(app)
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        for below in getattr(command, "commands", {}):
            assert f"### ringfence {name} {below}\n" in told
    assert [one.variable for one in settings.every() if f"`{one.variable}`" not in settings.page()] == []
    assert "`resources.memoryBytes` | integer (bytes), at least 16,777,216 | `536870912` |" in policy.page()
    assert all(f"`{name}`" in policy.page() for name in SandboxPolicy.model_json_schema()["properties"])
    assert "### authenticate\n" in protocol.page()
    assert "### result_ack\n" in protocol.page()


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("<!-- not run: why -->\n```sh\nls\n```\n", "```sh\nls\n```\n"),
        ("```yaml a/b.yaml\nx: 1\n```\n", '```yaml title="a/b.yaml"\nx: 1\n```\n'),
        ("```sh file=queue.sh\n[a](b.md)\n```\n", '```sh title="queue.sh"\n[a](b.md)\n```\n'),
        ("[a](../README.md#b) [c](access.md) [d](../tests/world.py)", "[a](index.md#b) [c](access.md) d"),
        ("[e](https://example.org/) [f](#g)", "[e](https://example.org/) [f](#g)"),
    ],
)
def test_a_page_of_the_site_has_what_leads_somewhere_there(markdown: str, expected: str) -> None:
    assert as_on_the_site(markdown, HERE) == expected


def test_what_leads_nowhere_or_comes_from_elsewhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<h2 id="here"></h2><a href="b.html#there">1</a><a href="#here">2</a><a href="#gone">3</a>'
        '<a href="c.html">4</a><a href="https://example.org">5</a><script src="https://cdn.example.org/x.js"></script>'
        '<link rel="stylesheet" href="no.css">'
    )
    (tmp_path / "b.html").write_text('<p id="there"></p>')
    assert links.wrong(tmp_path) == [
        "a.html loads https://cdn.example.org/x.js, which is elsewhere",
        "a.html links to #gone: there is no such place",
        "a.html links to c.html, which is not there",
        "a.html links to no.css, which is not there",
    ]


def test_a_schema_is_told_field_by_field() -> None:
    schema = {
        "required": ["name"],
        "properties": {
            "name": {"type": "string", "description": "What it is called."},
            "limits": {"$ref": "#/$defs/Limits"},
            "mode": {"enum": ["a", "b"], "default": "a", "effects": {"a": "Nothing."}},
        },
        "$defs": {
            "Limits": {
                "properties": {"most": {"type": "integer", "minimum": 1, "maximum": 9, "unit": "seconds"}}
            }
        },
    }
    assert fields(schema) == [
        ("name", "string", "required", "What it is called."),
        ("limits", "anything", "", ""),
        ("limits.most", "integer (seconds), 1 to 9", "", ""),
        ("mode", "`a`, `b`", '`"a"`', "<br>`a`: Nothing."),
    ]
    assert table(("a",), [("x | y\nz",)]) == "| a |\n| --- |\n| x \\| y z |\n"
    assert table(("a",), []) == ""

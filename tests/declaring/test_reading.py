"""What is wrong with documents is told with its place, all of it at once; and no file is read that was not sent."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from ringfence.access import AccessRule
from ringfence.declaring import ObjectKind, applying
from ringfence.declaring.applying import Declarations
from ringfence.declaring.reading import WrongFilesError, read
from ringfence.declaring.schemas import schema_of
from ringfence.documents.reading import MOST_MESSAGE, MOST_PATH
from ringfence.sandbox.wire import WireModel

HEAD = "apiVersion: ringfence/v1\nkind: Lamp\n"
LAMP = f"{HEAD}metadata: {{name: hall}}\nspec: {{watts: 5}}\n"


class Inner(WireModel, extra="forbid"):
    fade_seconds: float = 1.0


class Lamp(WireModel, extra="forbid"):
    watts: int
    script: str = ""
    inner: Inner = Inner()


class LampKind(ObjectKind[Lamp]):
    kind = "Lamp"
    what = "A lamp"
    spec = Lamp
    order = 1
    durations = (("inner", "fadeSeconds"),)

    async def names(self, work: Any) -> Any: ...
    async def read(self, work: Any, name: str) -> Any: ...
    async def write(self, work: Any, name: str, labels: Any, spec: Any, before: Any) -> Any: ...
    async def delete(self, work: Any, name: str, before: Any) -> None: ...


RULE = AccessRule("lamps", "lamp", "see", "See lamps")
KINDS = {"Lamp": LampKind(None, read_rule=RULE, write_rule=RULE)}  # type: ignore[arg-type]


def wrong(files: dict[str, str] | str) -> list[str]:
    with pytest.raises(WrongFilesError) as raised:
        read({"a.yaml": files} if isinstance(files, str) else files, KINDS)
    return [str(one) for one in raised.value.told]


def test_all_that_is_wrong_is_told_at_once_with_its_place() -> None:
    text = f"""{HEAD}metadata: {{nam: hall}}
spec:
  wats: 5
  inner: {{fadeSeconds: soon}}
---
{HEAD.replace("Lamp", "Lump")}metadata: {{name: hall, labels: {{a: b}}}}
spec: {{}}
extra: 1
"""
    assert wrong({"a.yaml": text, "b.json": '{"kind": '}) == [
        "a.yaml:3:11: metadata: name is missing",
        "a.yaml:3:12: metadata.nam: nam is not known here: did you mean name?",
        "a.yaml:5:3: spec.wats: wats is not known here: did you mean watts?",
        "a.yaml:5:3: spec.watts: watts is missing",
        "a.yaml:6:24: spec.inner.fadeSeconds: this must be a span of time, such as 30s, 5m, 1h30m or 2d",
        "a.yaml:9:7: kind: there is no kind Lump: did you mean Lamp?",
        "a.yaml:12:1: extra: extra is not known here: there is apiVersion, kind, metadata, spec",
        "b.json:2:1: this is no YAML: did not find expected node content",
    ]


def test_two_documents_of_one_name_are_told_with_both_places() -> None:
    assert wrong({"a.yaml": LAMP, "b.yaml": f"---\n{LAMP}"}) == [
        "b.yaml:4:18: metadata.name: Lamp hall is declared twice: also in a.yaml:2:1"
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "there is no document"),
        ("# nothing\n", "there is no document"),
        ("- 1\n", "a document must be a map"),
        (LAMP.replace("watts: 5", "watts: 5, watts: 6"), "watts is there twice"),
        (LAMP.replace("spec: {", "spec:\n\t{"), "no YAML"),
        (LAMP.replace("watts: 5", "watts: &a 5, inner: *a"), "anchors and aliases are not taken"),
        (LAMP.replace("watts: 5", "watts: !!python/name:os.system 5"), "tags are not taken"),
        (LAMP.replace("/v1", "/v2"), "this must be ringfence/v1"),
        (LAMP.replace("hall", "''"), "a name must be"),
        (LAMP.replace("{name: hall}", "hall"), "this must be a map"),
        (LAMP.replace("name: hall", "name: hall, labels: {a: b}"), "a Lamp carries no labels"),
        (LAMP.replace("watts: 5", "watts: '5'"), ""),
        ("x" * 2_000_000, "longer than"),
        ("---\n" + LAMP + ("---\n" + LAMP) * 120, "more than 100 documents"),
        ("[" * 1000, "nested more than"),
    ],
)
def test_what_is_no_document_is_refused(text: str, said: str) -> None:
    if not said:
        assert read({"a.yaml": text}, KINDS)[0].spec.watts == 5
        return
    assert any(said in one for one in wrong(text)), wrong(text)


@pytest.mark.parametrize("text", [LAMP.replace("\n", "\r\n"), f"\ufeff{LAMP}"])
def test_other_ends_of_lines_and_a_byte_order_mark_are_taken(text: str) -> None:
    [found] = read({"a.yaml": text}, KINDS)
    assert (found.name, found.spec.watts) == ("hall", 5)


def test_scripts_are_read_from_files_beside_the_document_and_from_nowhere_else() -> None:
    text = LAMP.replace("watts: 5", "watts: 5, scriptFile: ../x/a.sh, inner: {fadeSeconds: 1m}")
    [found] = read({"lamps/a.yaml": text, "x/a.sh": "exit 0\n"}, KINDS)
    assert (found.spec.script, found.spec.inner.fade_seconds) == ("exit 0\n", 60.0)
    for path in ("/etc/shadow", "../../etc/shadow", "../..", "a\\\\b", ""):
        told = wrong({"lamps/a.yaml": text.replace("../x/a.sh", f'"{path}"')})
        assert "outside of the directory" in told[0] or "must be the path" in told[0], told
    with pytest.raises(WrongFilesError) as raised:
        read({"lamps/a.yaml": text}, KINDS)
    assert raised.value.needs == ["x/a.sh"]
    both = LAMP.replace("watts: 5", "watts: 5, scriptFile: a, script: b")
    assert "not both" in wrong(both)[0]


def test_the_schema_of_a_kind_knows_spans_of_time_and_files() -> None:
    schema = schema_of(KINDS["Lamp"])
    assert schema["properties"]["kind"] == {"const": "Lamp"}
    assert "scriptFile" in schema["properties"]["spec"]["properties"]
    fade = schema["$defs"]["Inner"]["properties"]["fadeSeconds"]
    assert [one["type"] for one in fade["anyOf"]] == ["number", "string"]


def test_what_is_told_quotes_no_more_than_a_bit_of_what_was_written() -> None:
    texts = [
        f"apiVersion: ringfence/v1\nkind: {'k' * 100_000}\nmetadata: {{name: a}}\nspec: {{}}",
        f"{HEAD}metadata: {{name: a}}\nspec: {{watts: [1], ? {'w' * 900} : 1, ? {'v' * 900} : 1}}",
        f"? {'x' * 100_000}\n: 1",
        f"{HEAD}metadata: {{name: a}}\nspec:\n  inner: {{fadeSeconds: {'1h' * 50_000}}}",
    ]
    for text in texts:
        assert max(map(len, wrong(text))) < MOST_PATH + MOST_MESSAGE + 100


async def test_many_who_have_documents_read_leave_threads_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    under_way, goes_on = threading.Semaphore(0), threading.Event()

    def slow(files: dict[str, str], kinds: Any) -> list[Any]:
        under_way.release()
        assert goes_on.wait(30)
        return []

    monkeypatch.setattr(applying, "read", slow)
    declarations = Declarations(None, lambda: KINDS)  # type: ignore[arg-type]
    reading = [asyncio.ensure_future(declarations.needs({"a.yaml": LAMP})) for _ in range(40)]
    try:
        assert await asyncio.wait_for(asyncio.to_thread(under_way.acquire), 30)
    finally:
        goes_on.set()
    assert await asyncio.gather(*reading) == [()] * 40

"""A plugin with a page of everything that pages can be made of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from fastapi import Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel
from ringfence import Hook, PluginContext, PluginInfo, Registry, hookimpl
from ringfence.pages import Action, Again, Attention, Command, Count, Data, Found, Page, Pages, Redirect, View


class Fact(BaseModel):
    word: str


tried = Hook("tried", Fact)
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name"],
    "properties": {"name": {"type": "string"}, "port": {"type": "integer", "maximum": 65535}},
}


class TriedPlugin:
    """Shows the words that it is given."""

    info = PluginInfo(id="tried", version="1.0")

    def __init__(self, words: str = "some words") -> None:
        self.words = words
        self.sent: list[Mapping[str, str]] = []
        self.looked = 0
        self.followed: list[str] = []

    @hookimpl
    def register(self, registry: Registry) -> None:
        registry.hook(tried)

    @hookimpl
    async def init(self, context: PluginContext) -> None:
        self.context = context

    async def happen(self, words: str) -> None:
        """Change the words, and tell of it."""
        self.words = words
        await self.context.emit_hook(tried, Fact(word="x"), standalone=True)

    @hookimpl
    def pages(self) -> Pages:
        return Pages(
            package="tests.browser.tried",
            pages=[
                Page(
                    path="/tried",
                    title="Tried",
                    template="tried.html",
                    show=self.show,
                    group="Tried",
                    live=["tried"],
                ),
                Page(
                    path="/written",
                    title="Written",
                    template="written.html",
                    show=self.show,
                    group="Tried",
                    live=["tried"],
                ),
                Page(path="/copied", title="Copied", template="copied.html", show=self.show),
                Page(path="/running", title="Running", template="running.html", show=self.look),
            ],
            actions=[Action(path="/written", title="Write", do=self.write)],
            data=[
                Data(path="/tried/numbers", answer=self.numbers),
                Data(path="/tried/schema", answer=self.schema),
                Data(path="/running/output", answer=self.output),
            ],
            commands=[
                Command(
                    "Write <nothing>", "/written", form={"text": "nothing"}, ask="Write <nothing>?", key="w n"
                )
            ],
            attention=self.attention,
            counts=self.counts,
            find=self.find,
        )

    async def show(self, view: View) -> Mapping[str, Any]:
        return {"words": self.words, "errors": {}}

    async def write(self, view: View) -> Redirect | Again:
        self.sent.append(view.form)
        if view.form.get("text") == "not yet":
            return Again("written.html", {"words": "It is not written.", "errors": {}})
        return Redirect("/written", "It is written.")

    async def numbers(self, view: View) -> Response:
        return JSONResponse(
            {
                "times": list(range(1_800_000_000, 1_800_036_000, 300)),
                "series": [{"name": self.words[:50], "values": [(at * 7) % 50 for at in range(120)]}],
                "thresholds": [{"name": "at most", "value": 60, "kind": "bad"}],
            }
        )

    async def look(self, view: View) -> Mapping[str, Any]:
        self.looked += 1
        return {"looked": self.looked}

    async def output(self, view: View) -> Response:
        """Its first stream is cut after two pieces, and the next one tells how it has ended."""
        after = view.query.get("after", "")
        self.followed.append(after)

        async def told() -> AsyncIterator[str]:
            if after == "":
                yield 'id: 1\nevent: output\ndata: {"stream": "stdout", "text": "one "}\n\n'
                yield 'id: 2\nevent: output\ndata: {"stream": "stderr", "text": "<b>two</b> "}\n\n'
            else:
                yield 'id: 3\nevent: output\ndata: {"stream": "stdout", "text": "three"}\n\n'
                yield 'event: end\ndata: {"status": "finished", "said": "It is over."}\n\n'

        return StreamingResponse(told(), media_type="text/event-stream")

    async def schema(self, view: View) -> Response:
        return JSONResponse(SCHEMA)

    async def attention(self, view: View) -> Sequence[Attention]:
        return [Attention(self.words, "/tried", "warn")]

    async def counts(self, view: View) -> Sequence[Count]:
        return [Count("tried", 3, "times", "/tried", [1, 2, 0, 4])]

    async def find(self, view: View, words: str) -> Sequence[Found]:
        return [Found(f"{words} <b>found</b>", "/tried", "thing")]

"""A kind of steps for automations: `diary: {text: …}` writes an entry."""

from collections.abc import Awaitable, Callable

from pydantic import BaseModel
from ringfence_automations.service import StepCall, StepResult, Templated
from sqlalchemy.ext.asyncio import AsyncSession


class Entry(BaseModel):
    author: str
    text: str


class WriteEntryBody(BaseModel):
    text: Templated


class WriteEntry:
    name = "diary"
    model = WriteEntryBody

    def __init__(self, write: Callable[[Entry, AsyncSession], Awaitable[Entry]]) -> None:
        self.write = write

    def is_repeatable(self, body: WriteEntryBody) -> bool:
        return True  # What is written in the call's session is there just when the step has ended.

    async def perform(self, call: StepCall[WriteEntryBody]) -> StepResult:
        entry = await self.write(Entry(author=call.automation, text=call.body.text), call.session)
        return StepResult(ok=True, artifact={"letters": len(entry.text)}, message="written")

    async def cancel(self, call: StepCall[WriteEntryBody]) -> None:
        pass  # It is never elsewhere.

"""The diary as a page, which fills in by itself whenever an entry is written."""

from collections.abc import Awaitable, Callable

from ringfence.pages import Page, Pages, View

from policy_diary.steps import Entry


def pages_of(entries: Callable[[], Awaitable[list[Entry]]]) -> Pages:
    async def show(_: View) -> dict[str, list[Entry]]:
        return {"entries": await entries()}

    live = ["diary-entry-written"]
    rule = "policy-diary.entry.write"
    page = Page(
        path="/diary", title="Diary", template="diary.html", show=show, rule=rule, group="Policy", live=live
    )
    return Pages(package="policy_diary", pages=[page])

"""What automations add to the overview and to the palette."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from ringfence import PluginContext
from ringfence.pages import Attention, Count, Found, View

from ringfence_automations.access_rules import AccessRules
from ringfence_automations.runs.tables import runs_table, seen

MOST = 5
"""So many of a kind are told one by one."""
MOST_FOUND = 5


class Noticing:
    """Tells them."""

    def __init__(self, context: PluginContext, rules: AccessRules) -> None:
        self._context = context
        self._rules = rules

    async def attention(self, view: View) -> Sequence[Attention]:
        """Automations that fail, waiting runs for long, and steps that the sandbox has refused."""
        if not view.may(self._rules.read):
            return ()
        async with self._context.sessions() as session:
            refused = await seen.refused(session, limit=MOST)
            failing = await seen.failing(session, limit=MOST + 1)
            waiting = await seen.waiting_long(session, limit=MOST)
        told = {one.run_id for one in refused}
        found = [
            Attention(f"Step {one.path} of {one.automation}: {one.error}.", f"/runs/{one.run_id}", weight=60)
            for one in refused
        ]
        found += [
            Attention(
                f"The last run of {one.automation} failed" + (f": {one.message}." if one.message else "."),
                f"/runs/{one.id}",
            )
            for one in failing[:MOST]
            if one.id not in told
        ]
        if failing[MOST:]:
            found.append(Attention("More automations fail.", "/runs?status=failed"))
        found += [
            Attention(
                f"{one.many} {'runs' if one.many > 1 else 'run'} of {one.automation} wait for their turn"
                f" for more than {seen.LONG_SECONDS / 60:.0f} minutes.",
                f"/runs?status=queued&automation={one.automation}",
                "warn",
                40,
            )
            for one in waiting
        ]
        return found

    async def counts(self, view: View) -> Sequence[Count]:
        """How many runs are under way, and how many ended within the last hour."""
        if not view.may(self._rules.read):
            return ()
        async with self._context.sessions() as session:
            running, waiting = await seen.under_way(session)
            ended = await seen.ended_lately(session)
        found = [
            Count("running runs", running, to="/runs?status=running", weight=70),
            Count("runs in the last hour", sum(ended), to="/runs", last_hour=ended, weight=70),
        ]
        if waiting:
            found.append(Count("waiting runs", waiting, to="/runs?status=queued", weight=70))
        return found

    async def find(self, view: View, words: str) -> Sequence[Found]:
        """Automations by name, each also as something to run; and a run by its id."""
        if not view.may(self._rules.read):
            return ()
        async with self._context.sessions() as session:
            if (id := _id(words)) is not None:
                run = await runs_table.one(session, id)
                return () if run is None else [Found(f"Run of {run.automation}", f"/runs/{id}", "run")]
            verb, _, rest = words.partition(" ")
            wanted = rest.strip() if verb.lower() == "run" else words
            names = await seen.names(session, wanted, limit=MOST_FOUND)
        found = [Found(name, f"/automations/{name}", "automation") for name, _ in names]
        if view.may(self._rules.run):
            runs = [Found(f"Run {name}", f"/automations/{name}#run", "action") for name, on in names if on]
            found = [*runs, *found] if wanted != words else [*found, *runs]
        return found


def _id(words: str) -> UUID | None:
    try:
        return UUID(words.strip())
    except ValueError:
        return None

"""Which pages, panels and actions there are, and who may use each."""

from __future__ import annotations

from collections.abc import Sequence

from ringfence.pages import Action, Command, Data, Page, Pages, Panel

from ringfence_health_checks.pages.doing import Doing
from ringfence_health_checks.pages.editing import TEMPLATE, Editing
from ringfence_health_checks.pages.listed import ListedChecks
from ringfence_health_checks.pages.one_check import OneCheck
from ringfence_health_checks.pages.parts import HOOKS, Parts
from ringfence_health_checks.pages.silencing import TEMPLATE as TEMPLATE_OF_SILENCE
from ringfence_health_checks.pages.silencing import SatelliteSilence
from ringfence_health_checks.pages.summed_up import SummedUp

PACKAGE = "ringfence_health_checks.pages"
ONE = "/checks/{id}"
SATELLITE = "/satellites/{id}"


def pages_of(parts: Parts, *, panels: Sequence[Panel]) -> Pages:
    """All of them, with what else checks add to others' pages."""
    listed, one, editing, summed = ListedChecks(parts), OneCheck(parts), Editing(parts), SummedUp(parts)
    doing = Doing(parts, one)
    silence = SatelliteSilence(parts)
    read, manage, run = parts.read, parts.manage, parts.run
    return Pages(
        package=PACKAGE,
        pages=[
            Page(
                path="/checks",
                title="Checks",
                template="checks.html",
                show=listed.show,
                rule=read,
                group="Fleet",
                order=20,
                live=HOOKS,
            ),
            Page(
                path=ONE,
                title="Check",
                template="check.html",
                show=one.show,
                rule=read,
                live=HOOKS,
                held=parts.held,
            ),
            Page(
                path=f"{ONE}/places",
                title="Places of a check",
                template="places.html",
                show=one.places,
                rule=read,
            ),
            Page(
                path=f"{ONE}/table",
                title="Numbers of a check",
                template="numbers.html",
                show=one.table,
                rule=read,
            ),
            Page(
                path=f"{ONE}/silence",
                title="Silence a check",
                template="silence.html",
                show=one.silencing,
                rule=manage,
            ),
            Page(
                path=f"{SATELLITE}/silence",
                title="Silence a satellite",
                template=TEMPLATE_OF_SILENCE,
                show=silence.show,
                rule=manage,
            ),
            Page(path="/checks/new", title="New check", template=TEMPLATE, show=editing.new, rule=manage),
            Page(
                path=f"{ONE}/edit",
                title="Edit a check",
                template=TEMPLATE,
                show=editing.edit,
                rule=manage,
                held=parts.held,
            ),
        ],
        panels=[
            *panels,
            Panel(
                name="timeline",
                on=ONE,
                title="States over time",
                template="timeline.html",
                show=one.timeline,
                rule=read,
                order=10,
                live=("health-state-changed",),
            ),
            Panel(
                name="charts",
                on=ONE,
                title="Numbers",
                template="charts.html",
                show=one.charts,
                rule=read,
                order=20,
            ),
            Panel(
                name="results",
                on=ONE,
                title="Results",
                template="results.html",
                show=one.results,
                rule=read,
                order=30,
                live=("health-state-changed",),
            ),
            Panel(
                name="checks",
                on=SATELLITE,
                title="Checks",
                template="on-satellite.html",
                show=summed.on_satellite,
                rule=read,
                order=10,
                live=HOOKS,
            ),
        ],
        actions=[
            Action(path="/checks/new", title="New check", do=editing.create, rule=manage),
            Action(path=f"{ONE}/edit", title="Edit a check", do=editing.change, rule=manage),
            Action(path=f"{ONE}/silence", title="Silence a check", do=doing.silence, rule=manage),
            Action(
                path=f"{ONE}/silences/{{silence}}/end",
                title="End a silence",
                do=doing.end_silence,
                rule=manage,
            ),
            Action(path=f"{SATELLITE}/silence", title="Silence a satellite", do=silence.silence, rule=manage),
            Action(
                path=f"{SATELLITE}/silences/{{silence}}/end",
                title="End a silence",
                do=silence.end,
                rule=manage,
            ),
            Action(path=f"{ONE}/run", title="Run a check", do=doing.run, rule=run),
            Action(path=f"{ONE}/enable", title="Enable a check", do=doing.enable, rule=manage),
            Action(path=f"{ONE}/disable", title="Disable a check", do=doing.disable, rule=manage),
            Action(path=f"{ONE}/delete", title="Delete a check", do=doing.delete, rule=manage),
        ],
        data=[
            Data(path="/checks/newest", answer=listed.fresh, rule=read),
            Data(path="/checks/schema", answer=editing.schema, rule=manage),
            Data(path=f"{ONE}/newest", answer=one.fresh, rule=read),
            Data(path=f"{ONE}/numbers", answer=one.numbers, rule=read),
        ],
        commands=[
            Command(words="New check", to="/checks/new", rule=manage),
            Command(words="See failing checks", to="/checks?state=unhealthy", rule=read),
        ],
        attention=summed.attention,
        counts=summed.counts,
        find=summed.find,
    )

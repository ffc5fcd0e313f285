"""The recorder: a plugin alone, without a database, and still with the host's own rules."""

from __future__ import annotations

from typing import Annotated, Any, Protocol

import pytest
import structlog
from fastapi import APIRouter, Depends
from pydantic import BaseModel
from ringfence import AccessRule, Event, Hook, Mode, PluginContext, PluginInfo, Registry, hookimpl
from ringfence.eventlog import WrongExpectedVersionError
from ringfence.hooks import HookError
from ringfence.plugins.registry import PluginError
from ringfence.plugins.services import ServiceError
from ringfence.testing import NoDatabaseError, Record, Statement, Subscription
from ringfence.web import Principal, require
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from tests.host.plugins import MadePlugin, Refusal, refuse


class Order(BaseModel):
    item: str


class Greeting(BaseModel):
    word: str


ordered = Hook("ordered", Order)
shipped = Hook("shipped", Order)
greeted = Hook("greeted", Greeting, stored=False)


class Price(Protocol):
    async def of(self, item: str) -> int: ...


class Discount(Protocol):
    percent: int


class Tariff:
    """A fake price list."""

    async def of(self, item: str) -> int:
        return len(item)


class TenOff:
    percent = 10


class Shop:
    """Ships what is ordered if it has a price; says so in a hook, in its table and in this process."""

    info = PluginInfo(id="shop", version="1", requires=("orders",))
    context: PluginContext
    rule: AccessRule

    @hookimpl
    def register(self, registry: Registry) -> None:
        registry.hook(shipped)
        registry.hook(greeted)
        registry.service(Price)
        registry.extension_point(Discount)
        self.rule = registry.access_rule("order", "read", "Read orders")

    @hookimpl
    async def init(self, context: PluginContext) -> None:
        self.context = context
        context.services.provide(Price, Tariff())
        router = APIRouter()

        async def who(principal: Principal) -> str:
            return principal.name

        who.__annotations__["principal"] = Annotated[Principal, Depends(require(self.rule))]
        router.get("/who")(who)
        context.web.router(router)

    @hookimpl
    async def after_plugins_ready(self, context: PluginContext) -> None:
        context.on_hook(ordered, self.ship, mode=Mode.WORK_QUEUE, worker_group="shipping")
        context.on_hook(greeted, self.greet, mode=Mode.INSTANCE_LOCAL)

    async def ship(self, event: Event[Order], session: AsyncSession) -> None:
        item = event.payload.item
        await session.execute(text("INSERT INTO shop_orders (item) VALUES (:item)"), {"item": item})
        await self.context.emit_hook(shipped, event.payload, session=session, actor=event.actor)
        if item == "broken":
            raise Refusal(item)

    async def greet(self, event: Event[Greeting]) -> None:
        raise Refusal(event.payload.word)


async def test_it_tells_what_a_plugin_listens_to_and_how(record: Record) -> None:
    recorder = await record(Shop())
    assert recorder.subscriptions == (
        Subscription("greeted", Mode.INSTANCE_LOCAL),
        Subscription("ordered", Mode.WORK_QUEUE, "shipping"),
    )


async def test_it_delivers_a_payload_now_and_tells_what_was_emitted_and_written(record: Record) -> None:
    recorder = await record(Shop())
    await recorder.deliver(ordered, Order(item="tea"), actor="ann")
    [event] = recorder.emitted(shipped)
    assert (event.payload, event.actor, event.plugin) == (Order(item="tea"), "ann", "shop")
    assert (event.stream, event.version) == ("shop.shipped", 1)
    assert recorder.statements == [
        Statement("INSERT INTO shop_orders (item) VALUES (:item)", {"item": "tea"})
    ]
    await recorder.deliver(ordered, Order(item="tea"))
    assert [one.version for one in recorder.emitted(shipped)] == [1, 2]


async def test_what_a_handler_did_before_it_failed_was_never_done(record: Record) -> None:
    recorder = await record(Shop())
    await recorder.deliver(ordered, Order(item="tea"))
    with pytest.raises(Refusal, match="broken"):
        await recorder.deliver(ordered, Order(item="broken"))
    assert [event.payload.item for event in recorder.emitted(shipped)] == ["tea"]
    assert [one.parameters for one in recorder.statements] == [{"item": "tea"}]


async def test_what_was_committed_stays_when_the_same_session_is_rolled_back_later(record: Record) -> None:
    recorder = await record(Shop())
    shop = recorder.plugin
    assert isinstance(shop, Shop)
    async with shop.context.sessions() as session:
        for item, keep in (("tea", True), ("milk", False)):
            await session.execute(text("DELETE FROM shop_orders WHERE item = :item"), {"item": item})
            await shop.context.emit_hook(shipped, Order(item=item), session=session)
            await (session.commit() if keep else session.rollback())
    assert [event.payload.item for event in recorder.emitted(shipped)] == ["tea"]
    assert [one.parameters for one in recorder.statements] == [{"item": "tea"}]


async def test_a_handler_that_fails_fails_the_test_in_every_mode(record: Record) -> None:
    recorder = await record(Shop())
    with pytest.raises(Refusal, match="hello"):
        await recorder.deliver(greeted, Greeting(word="hello"))


async def test_delivering_what_the_plugin_does_not_listen_to_is_an_error(record: Record) -> None:
    recorder = await record(Shop())
    with pytest.raises(HookError, match="shop does not listen to shipped"):
        await recorder.deliver(shipped, Order(item="tea"))
    wrong: Any = Greeting(word="hello")
    with pytest.raises(HookError, match="hook ordered carries Order, not Greeting"):
        await recorder.deliver(ordered, wrong)


async def test_what_only_a_database_could_answer_is_refused(record: Record) -> None:
    recorder = await record(Shop())
    shop = recorder.plugin
    assert isinstance(shop, Shop)
    async with shop.context.sessions() as session:
        for statement in ("SELECT 1", "INSERT INTO a DEFAULT VALUES RETURNING id"):
            with pytest.raises(NoDatabaseError, match=r"which must answer something.*run_host"):
                await session.execute(text(statement))
        with pytest.raises(NoDatabaseError, match=r"session\.scalars"):
            await session.scalars(text("SELECT 1"))


async def test_the_rules_of_emitting_are_the_hosts_own(record: Record) -> None:
    recorder = await record(Shop())
    shop = recorder.plugin
    assert isinstance(shop, Shop)
    emit = shop.context.emit_hook
    with pytest.raises(HookError, match="must be emitted inside the transaction"):
        await emit(shipped, Order(item="tea"))
    async with shop.context.sessions() as session:
        with pytest.raises(HookError, match="must be emitted inside the transaction"):
            await emit(shipped, Order(item="tea"), session=session)
    with pytest.raises(HookError, match="without having declared it"):
        await emit(ordered, Order(item="tea"))
    async with shop.context.sessions.begin() as session:
        await emit(shipped, Order(item="tea"), session=session, expected_version=0)
        with pytest.raises(WrongExpectedVersionError, match="is at version 1, not at the expected 0"):
            await emit(shipped, Order(item="tea"), session=session, expected_version=0)
    assert len(recorder.events) == 1


async def test_many_emitted_at_once_are_recorded_each_in_its_stream(record: Record) -> None:
    recorder = await record(Shop())
    shop = recorder.plugin
    assert isinstance(shop, Shop)
    facts = [("a", Order(item="tea")), ("b", Order(item="milk")), ("a", Order(item="bun"))]
    async with shop.context.sessions.begin() as session:
        await shop.context.emit_hooks(shipped, facts, session=session)
    emitted = [(one.stream, one.version, one.payload.item) for one in recorder.emitted(shipped)]
    assert emitted == [("a", 1, "tea"), ("b", 1, "milk"), ("a", 2, "bun")]


async def test_what_is_not_stored_is_recorded_too(record: Record) -> None:
    async def greet(context: PluginContext) -> None:
        await context.emit_hook(greeted, Greeting(word="hello"))

    recorder = await record(MadePlugin("a", register=lambda registry: registry.hook(greeted), ready=greet))
    assert [event.payload for event in recorder.emitted(greeted)] == [Greeting(word="hello")]


async def test_services_are_fakes_by_interface_and_its_own_can_be_called(record: Record) -> None:
    found: list[object] = []

    async def use(context: PluginContext) -> None:
        found.append(context.services.get(Price))
        found.extend(context.services.extensions(Discount))

    price, discount = Tariff(), TenOff()
    user = MadePlugin("user", register=lambda registry: registry.extension_point(Discount), ready=use)
    await record(user, services={Price: price}, extensions={Discount: [discount]})
    assert found == [price, discount]
    recorder = await record(Shop())
    assert await recorder.service(Price).of("tea") == 3
    with pytest.raises(ServiceError, match="no plugin provides"):
        recorder.service(Record)


class Wholesaler:
    """Adds its discount to whoever takes discounts."""

    info = PluginInfo(id="wholesaler", version="1", requires=("shop",))
    percent = 30

    @hookimpl
    async def init(self, context: PluginContext) -> None:
        context.services.extend(Discount, self)


@pytest.mark.parametrize("others", [[], [TenOff()]])
async def test_what_it_adds_to_the_points_of_others_is_told(record: Record, others: list[Discount]) -> None:
    wholesaler = Wholesaler()
    with structlog.testing.capture_logs() as logs:
        recorder = await record(wholesaler, extensions={Discount: others})
    assert recorder.extensions(Discount) == (wholesaler,)
    assert recorder.extensions(Price) == ()
    assert logs == []


async def test_a_point_of_others_that_it_reads_is_there_with_the_fakes(record: Record) -> None:
    found: list[Discount] = []

    async def use(context: PluginContext) -> None:
        found.extend(context.services.extensions(Discount))

    ten_off = TenOff()
    await record(MadePlugin("reader", ready=use), extensions={Discount: [ten_off]})
    assert found == [ten_off]


async def test_its_routes_are_called_with_the_rules_that_the_test_chooses(record: Record) -> None:
    recorder = await record(Shop())
    async with recorder.client() as nobody, recorder.client(["shop.order.read"], name="ann") as ann:
        assert (await nobody.get("/api/shop/who")).status_code == 403
        assert (await ann.get("/api/shop/who")).json() == "ann"


async def test_a_plugin_that_fails_says_so_as_in_the_host(record: Record) -> None:
    with pytest.raises(PluginError, match="plugin a failed in init: Refusal: no such luck"):
        await record(MadePlugin("a", init=refuse))


async def test_a_plugin_is_shut_down_after_the_test(record: Record) -> None:
    diary: list[str] = []
    recorder = await record(MadePlugin("a", diary=diary))
    await recorder.__aexit__()
    assert diary == ["a: register", "a: init", "a: ready", "a: shutdown"]

"""What consumers are told of the orders in force."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from leads_pipeline.domain.orders import NO_ORDERS, ActionKind, Order, Orders
from leads_pipeline.domain.stage import ALL_LANES, HOT_LANES, Lane

NOW = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)
TIERS = ("full", "minimal", "none")


def order(action: ActionKind, *, minutes: float = 3, **changes: Any) -> Order:
    about = {name: changes.pop(name) for name in ("tenant", "lane", "destination") if name in changes}
    return Order(UUID(int=1), "a_rule", action, NOW + timedelta(minutes=minutes), parameters=changes, **about)


def test_without_orders_everything_is_as_usual():
    assert NO_ORDERS.chunk_size(1_000, tenant="acme", lanes=HOT_LANES) == 1_000
    assert not NO_ORDERS.pauses("acme", Lane.BATCH, "hubspot")
    assert not NO_ORDERS.refuses("acme", Lane.BATCH)
    assert NO_ORDERS.import_speed("acme") == 1.0
    assert not NO_ORDERS.sheds_enrichment("acme", Lane.REAL_TIME)
    assert NO_ORDERS.tiers_lowered(TIERS, tenant="acme") == {}
    assert NO_ORDERS.scale_workers == 1
    assert NO_ORDERS.by_open_lanes(["acme", "globex"], HOT_LANES) == {HOT_LANES: ["acme", "globex"]}


def test_an_order_ends_by_itself():
    orders = Orders((order(ActionKind.REFUSE_BATCH, minutes=3),))

    assert orders.at(NOW).refuses("acme", Lane.BATCH)
    assert not orders.at(NOW + timedelta(minutes=3)).refuses("acme", Lane.BATCH)


def test_an_order_about_one_tenant_is_not_anothers():
    orders = Orders((order(ActionKind.PAUSE_LANE, tenant="acme", lane=Lane.BATCH),))

    assert orders.pauses_lane("acme", Lane.BATCH)
    assert not orders.pauses_lane("acme", Lane.REAL_TIME)
    assert not orders.pauses_lane("globex", Lane.BATCH)
    assert orders.lanes_open("acme", ALL_LANES) == HOT_LANES
    assert orders.by_open_lanes(["acme", "globex"], (Lane.BATCH,)) == {(Lane.BATCH,): ["globex"]}


def test_a_paused_destination_is_paused_in_every_lane():
    orders = Orders((order(ActionKind.PAUSE_DESTINATION, tenant="acme", destination="hubspot"),))

    assert all(orders.pauses("acme", lane, "hubspot") for lane in ALL_LANES)
    assert not orders.pauses("acme", Lane.BATCH, "warehouse")
    assert not orders.pauses_lane("acme", Lane.BATCH)


def test_a_flood_in_one_lane_widens_chunks_whatever_is_quiet():
    deep = order(ActionKind.RESIZE_CHUNKS, tenant="acme", lane=Lane.BATCH, factor=4)
    quiet = order(ActionKind.RESIZE_CHUNKS, factor=0.25)

    assert Orders((deep, quiet)).chunk_size(1_000, tenant="acme", lanes=ALL_LANES) == 4_000
    assert Orders((deep, quiet)).chunk_size(1_000, tenant="globex", lanes=ALL_LANES) == 250
    assert Orders((deep, quiet)).chunk_size(1_000, tenant="acme", lanes=(Lane.REAL_TIME,)) == 250


def test_a_chunk_stays_between_one_lead_and_the_most_that_a_transaction_holds():
    wide, narrow = order(ActionKind.RESIZE_CHUNKS, factor=20), order(ActionKind.RESIZE_CHUNKS, factor=0.001)

    assert Orders((wide,)).chunk_size(20_000, tenant="acme", lanes=HOT_LANES) == 20_000
    assert Orders((narrow,)).chunk_size(100, tenant="acme", lanes=HOT_LANES) == 1


def test_only_the_batch_lane_is_refused():
    orders = Orders((order(ActionKind.REFUSE_BATCH),))

    assert [lane for lane in ALL_LANES if orders.refuses("acme", lane)] == [Lane.BATCH]


def test_the_slowest_order_holds_for_an_import():
    orders = Orders((order(ActionKind.SLOW_IMPORTS, speed=0.5), order(ActionKind.SLOW_IMPORTS, speed=0.2)))

    assert orders.import_speed("acme") == 0.2


def test_a_tier_is_lowered_to_the_next_or_to_the_one_that_is_named():
    assert Orders((order(ActionKind.LOWER_TIER),)).tiers_lowered(TIERS, tenant="acme") == {"full": "minimal"}
    named = order(ActionKind.LOWER_TIER, tier="minimal", to="none")
    assert Orders((named,)).tiers_lowered(TIERS, tenant="acme") == {"minimal": "none"}


def test_a_tier_that_leads_yaml_does_not_know_any_more_is_passed_over():
    unknown = Orders((order(ActionKind.LOWER_TIER, tier="gone"), order(ActionKind.LOWER_TIER, to="gone")))

    assert unknown.tiers_lowered(TIERS, tenant="acme") == {}
    assert Orders((order(ActionKind.LOWER_TIER),)).tiers_lowered(("full",), tenant="acme") == {}


def test_the_scale_signal_is_the_most_that_is_asked_for():
    orders = Orders((order(ActionKind.SCALE_WORKERS, workers=2), order(ActionKind.SCALE_WORKERS, workers=5)))

    assert orders.scale_workers == 5

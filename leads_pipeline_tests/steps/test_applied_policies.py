"""Rules of leads.yaml against the database: decisions, orders, and what survives a crash."""

import signal
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import Settings, parse_settings
from leads_pipeline.domain.orders import Orders
from leads_pipeline.domain.policies import Ending
from leads_pipeline.domain.policy_targets import Sample
from leads_pipeline.domain.stage import Lane
from leads_pipeline.steps.applied_policies import LEASE, PolicyReport, apply_policies
from leads_pipeline.storage import policies as rows
from leads_pipeline.storage.measure_history import Taken
from leads_pipeline.storage.orders import OrdersWatch, orders_in_force
from leads_pipeline.storage.policies import Pause, find_actions, pause_rule
from leads_pipeline_tests.conftest import LEADS_YAML, NOW
from leads_pipeline_tests.storage.sessions import sessions_end

RULE = """
policies:
  deep:
    when: {measure: queue_depth, above: 100, lane: [batch]}
    until: {below: 40}
    for_seconds: 60
    recover_seconds: 60
    cool_down_seconds: 120
    at_most_seconds: 900
    then: {action: pause_lane}
  failing:
    when: {measure: delivery_failure_rate, above: 0.5}
    for_seconds: 0
    at_most_seconds: 300
    cool_down_seconds: 60
    then: {action: pause_destination}
"""


PAUSE_LANE = "then: {action: pause_lane}"


def configured(policies: str, tenants: str = LEADS_YAML) -> Settings:
    return parse_settings(tenants + policies, path=Path("leads.yaml"))


@pytest.fixture
def rules() -> Settings:
    return configured(RULE)


def depth(value: float, tenant: str = "acme") -> Taken:
    return {"queue_depth": [Sample({"tenant": tenant, "lane": "batch", "stage": "raw_leads"}, value)]}


class Engine:
    """Looks every 30 seconds."""

    def __init__(self, engine: sa.Engine, settings: Settings, clock: FrozenClock) -> None:
        self.engine, self.settings, self.clock = engine, settings, clock

    def look(self, taken: Taken, *, times: int = 1) -> PolicyReport:
        for _look in range(times):
            self.clock.advance(30)
            report = apply_policies(
                self.engine, settings=self.settings, clock=self.clock, runner_id="test", taken=taken
            )
        return report

    @property
    def orders(self) -> Orders:
        with self.engine.connect() as connection:
            return orders_in_force(connection, now=self.clock.now())

    def history(self) -> list[tuple[str, str, str | None]]:
        with self.engine.connect() as connection:
            found = find_actions(connection)
        return [(item.policy, item.target, item.ended_for) for item in reversed(found)]


@pytest.fixture
def policies(engine: sa.Engine, rules: Settings, clock: FrozenClock) -> Engine:
    return Engine(engine, rules, clock)


def test_a_condition_that_has_held_orders_and_says_why(policies: Engine):
    policies.look(depth(500), times=2)
    assert not policies.orders.in_force

    report = policies.look(depth(500))

    assert [(item.policy, item.target, item.action) for item in report.began] == [
        ("deep", "tenant=acme,lane=batch", "pause_lane")
    ]
    assert policies.orders.pauses_lane("acme", Lane.BATCH)
    assert not policies.orders.pauses_lane("globex", Lane.BATCH)
    with policies.engine.connect() as connection:
        [action] = find_actions(connection)
    assert action.cause == {"measure": "queue_depth", "value": 500.0, "above": 100.0, "held_seconds": 60.0}
    assert action.runner_id == "test"


def test_an_order_is_reversed_when_all_has_been_well_for_its_time(policies: Engine):
    policies.look(depth(500), times=3)
    policies.look(depth(10), times=2)
    assert policies.orders.pauses_lane("acme", Lane.BATCH)

    report = policies.look(depth(10))

    assert [(item.policy, item.ending) for item in report.ended] == [("deep", Ending.RECOVERED)]
    assert not policies.orders.in_force


def test_a_queue_that_is_empty_is_well(policies: Engine):
    policies.look(depth(500), times=3)

    policies.look({"queue_depth": []}, times=3)

    assert policies.history() == [("deep", "tenant=acme,lane=batch", "recovered")]


def test_a_measure_that_cannot_be_taken_ends_nothing(policies: Engine):
    policies.look(depth(500), times=3)

    report = policies.look({}, times=10)

    assert policies.orders.pauses_lane("acme", Lane.BATCH)
    assert "queue_depth" in report.unmeasured


def test_a_pause_that_hides_its_own_measure_ends_and_the_cool_down_is_the_probe(policies: Engine):
    failing = {"delivery_failure_rate": [Sample({"tenant": "acme", "destination": "hubspot"}, 0.9)]}
    policies.look(failing)
    assert policies.orders.pauses("acme", Lane.REAL_TIME, "hubspot")

    nothing_is_sent: Taken = {"delivery_failure_rate": []}
    policies.look(nothing_is_sent, times=9)
    assert policies.orders.pauses("acme", Lane.REAL_TIME, "hubspot")
    policies.look(nothing_is_sent)

    assert policies.history() == [("failing", "tenant=acme,destination=hubspot", "longest")]
    policies.look(failing)  # cooling
    assert not policies.orders.in_force
    policies.look(failing)
    assert policies.orders.pauses("acme", Lane.REAL_TIME, "hubspot")


def test_orders_of_an_engine_that_died_end_by_themselves_and_are_decided_anew(policies: Engine):
    policies.look(depth(500), times=3)

    policies.clock.advance(LEASE.total_seconds())

    assert not policies.orders.in_force
    policies.look(depth(500))
    assert policies.history() == [("deep", "tenant=acme,lane=batch", "expired")]
    policies.look(depth(500), times=2)
    assert policies.orders.pauses_lane("acme", Lane.BATCH)


def test_an_order_lasts_no_longer_than_its_longest_time_even_if_nobody_looks(policies: Engine):
    policies.look(depth(500), times=3)
    policies.look(depth(500), times=29)
    with policies.engine.connect() as connection:
        [action] = find_actions(connection)

    assert action.ends_at == action.began_at + timedelta(seconds=900)
    policies.look(depth(500))
    assert policies.history() == [("deep", "tenant=acme,lane=batch", "longest")]


def test_an_order_of_a_rule_that_was_removed_is_ended(policies: Engine):
    policies.look(depth(500), times=3)
    policies.settings = configured("")

    report = policies.look(depth(500))

    assert [item.ending for item in report.ended] == [Ending.RULE_GONE]
    assert not policies.orders.in_force


@pytest.mark.parametrize("change", ["enabled: false", "then: {action: pause_lane, lane: near_real_time}"])
def test_an_order_that_the_rule_would_not_give_any_more_is_ended(policies: Engine, change: str):
    policies.look(depth(500), times=3)
    changed = RULE.replace(PAUSE_LANE, change if "then" in change else f"{PAUSE_LANE}\n    {change}")
    policies.settings = configured(changed)

    policies.look(depth(500))

    assert policies.history()[0] == ("deep", "tenant=acme,lane=batch", "rule_gone")
    assert not policies.orders.pauses_lane("acme", Lane.BATCH)


def test_an_order_about_a_tenant_that_was_removed_is_ended(policies: Engine):
    policies.look(depth(500, tenant="globex"), times=3)
    without, _, rest = LEADS_YAML.partition("  globex:")
    policies.settings = configured(RULE, without + "destinations:" + rest.partition("\ndestinations:")[2])

    policies.look(depth(500, tenant="globex"))

    assert policies.history() == [("deep", "tenant=globex,lane=batch", "rule_gone")]
    policies.look(depth(500, tenant="globex"), times=5)
    assert not policies.orders.in_force


def test_a_rule_that_an_operator_puts_aside_ends_at_once_and_begins_nothing_until_then(policies: Engine):
    policies.look(depth(500), times=3)
    now = policies.clock.now()
    pause = Pause("deep", now, now + timedelta(minutes=10), actor="kim", reason="planned import")

    with policies.engine.begin() as connection:
        ended = pause_rule(connection, pause)

    assert ended == ["tenant=acme,lane=batch"]
    assert not policies.orders.in_force
    policies.look(depth(500), times=19)
    assert policies.history() == [("deep", "tenant=acme,lane=batch", "paused")]
    policies.look(depth(500), times=3)
    assert policies.orders.pauses_lane("acme", Lane.BATCH)


def test_a_dry_run_is_recorded_and_nobody_obeys(policies: Engine):
    policies.settings = configured(
        RULE.replace("then: {action: pause_lane}", "then: {action: pause_lane}\n    dry_run: true")
    )

    report = policies.look(depth(500), times=3)

    assert [item.is_dry for item in report.began] == [True]
    assert not policies.orders.in_force


def test_a_rule_that_fails_leaves_the_others_alone(policies: Engine, clock: FrozenClock):
    broken: Taken = {
        "queue_depth": [None],
        "delivery_failure_rate": [Sample({"tenant": "acme", "destination": "hubspot"}, 1)],
    }  # type: ignore[list-item]

    report = policies.look(broken)

    assert set(report.failed) >= {"deep"}
    assert "failing" not in report.failed
    assert policies.orders.pauses("acme", Lane.BATCH, "hubspot")


def test_a_crash_between_decision_and_order_leaves_neither(policies: Engine, monkeypatch: pytest.MonkeyPatch):
    policies.look(depth(500), times=2)

    class Killed(BaseException):
        pass

    def dies(*_arguments: object, **_named: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(rows, "write_state", dies)  # the order is written, its rule's state is not
        with pytest.raises(Killed):
            policies.look(depth(500))
    assert not policies.orders.in_force

    policies.look(depth(500))

    assert policies.history() == [("deep", "tenant=acme,lane=batch", None)]
    assert policies.orders.pauses_lane("acme", Lane.BATCH)


def test_an_engine_that_is_killed_in_the_middle_leaves_neither(policies: Engine, database_url: str, tmp_path: Path):
    policies.look(depth(500), times=2)
    (tmp_path / "leads.yaml").write_text(LEADS_YAML + RULE, encoding="utf-8")
    with sessions_end(policies.engine):
        killed = subprocess.run(
            [sys.executable, "-c", DIES, database_url, str(tmp_path / "leads.yaml")],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            check=False,
            timeout=120,
        )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert policies.history() == []
    assert not policies.orders.in_force

    policies.look(depth(500))

    assert policies.orders.pauses_lane("acme", Lane.BATCH)


# It is killed when the order is written and the rule's state is not.
DIES = """
import os, signal, sys
from datetime import timedelta
from pathlib import Path
from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import parse_settings
from leads_pipeline.domain.policy_targets import Sample
from leads_pipeline.steps.applied_policies import apply_policies
from leads_pipeline.storage import policies
from leads_pipeline.storage.database import engine_for
from leads_pipeline_tests.conftest import NOW

ordered = policies.begin_action

def order_and_die(*arguments, **named):
    ordered(*arguments, **named)
    os.kill(os.getpid(), signal.SIGKILL)

policies.begin_action = order_and_die
path = Path(sys.argv[2])
apply_policies(
    engine_for(sys.argv[1]), settings=parse_settings(path.read_text(), path=path),
    clock=FrozenClock(NOW + timedelta(seconds=90)), runner_id="test",
    taken={"queue_depth": [Sample({"tenant": "acme", "lane": "batch", "stage": "raw_leads"}, 500)]},
)
"""


def test_two_engines_do_not_double_an_order(policies: Engine):
    policies.look(depth(500), times=2)
    with policies.engine.begin() as other:
        assert rows.alone(other)
        report = policies.look(depth(500))
        assert report.busy
        assert not policies.orders.in_force

    policies.look(depth(500))
    policies.look(depth(500))

    assert len(policies.history()) == 1


def test_who_works_for_long_reads_orders_at_most_once_a_second(policies: Engine):
    watch = OrdersWatch(policies.engine, clock=policies.clock)
    assert not watch.now().in_force
    policies.look(depth(500), times=2)
    statements: list[str] = []
    sa.event.listen(policies.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    policies.clock.advance(30)
    apply_policies(policies.engine, settings=policies.settings, clock=policies.clock, runner_id="t", taken=depth(500))
    statements.clear()

    answers = [watch.now().pauses_lane("acme", Lane.BATCH) for _lead in range(100)]

    assert all(answers)
    assert len(statements) == 1


def test_an_order_that_cannot_be_read_again_still_ends(policies: Engine, engine: sa.Engine):
    watch = OrdersWatch(engine, clock=policies.clock)
    policies.look(depth(500), times=3)
    assert watch.now().pauses_lane("acme", Lane.BATCH)
    with engine.begin() as connection:
        connection.execute(sa.text("alter table policy_actions rename to policy_actions_away"))

    policies.clock.advance(10)
    assert watch.now().pauses_lane("acme", Lane.BATCH)
    policies.clock.advance(LEASE.total_seconds())
    assert not watch.now().in_force


def test_only_what_is_not_idle_is_remembered(policies: Engine):
    policies.look(depth(500))
    policies.look(depth(50))

    with policies.engine.connect() as connection:
        assert connection.execute(sa.text("select count(*) from policy_states")).scalar_one() == 0


def test_actions_that_ended_long_ago_are_pruned(policies: Engine):
    policies.look(depth(500), times=3)
    policies.look(depth(0), times=3)
    with policies.engine.begin() as connection:
        assert rows.prune_actions(connection, ended_before=NOW) == 0
        assert rows.prune_actions(connection, ended_before=NOW + timedelta(days=1)) == 1
    assert replace(policies.orders) == Orders()

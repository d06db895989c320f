"""``leads deliver``: a worker that delivers without Dagster, as soon as something is due."""

import json
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import TYPE_CHECKING

import click

from leads_pipeline.cli._sandbox_keys import lend_sandbox_keys
from leads_pipeline.config import load_settings
from leads_pipeline.domain.stage import ALL_LANES, Lane
from leads_pipeline.errors import DatabaseUnavailable
from leads_pipeline.telemetry import get_logger

if TYPE_CHECKING:
    from leads_pipeline.crm.parking import Parked
    from leads_pipeline.flows import FlowContext
    from leads_pipeline.steps.crm_sync_batches import SyncReport

log = get_logger(__name__)

# How often a worker looks for what is due while nothing is, and for a database that went away.
LOOK_SECONDS = 0.5
RECONNECT_SECONDS = 5.0


@click.command()
@click.option(
    "--lane",
    "lanes",
    type=click.Choice([str(lane) for lane in ALL_LANES]),
    multiple=True,
    help="Serve this lane; several times for several. All, if none is named.",
)
@click.option(
    "--once", is_flag=True, help="End when nothing is due any more; with exit code 1 if a destination is parked."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each delivery.")
@click.pass_obj
def deliver(config_file: str | None, lanes: tuple[str, ...], once: bool, as_json: bool) -> None:
    """Deliver what is due to the CRMs, inside their limits, until Ctrl-C or SIGTERM.

    It may run beside Dagster and in any number of processes and machines: they share the limits, and what one of them
    holds when it is killed the others send again. What is under way is settled before it ends.
    """
    from leads_pipeline.flows import FlowContext
    from leads_pipeline.storage.database_clock import DatabaseClock
    from leads_pipeline.storage.open import open_database

    def say(report: "SyncReport") -> None:
        click.echo(json.dumps(_numbers(report), default=str) if as_json else _line(report))

    signal.signal(signal.SIGTERM, _interrupt)
    settings = load_settings(config_file)
    lend_sandbox_keys(settings)
    engine = open_database(settings)
    try:
        context = FlowContext(engine, settings, DatabaseClock(engine))
        chosen = tuple(Lane(lane) for lane in lanes) or ALL_LANES
        parked = keep_delivering(context, lanes=chosen, runner_id="leads deliver", once=once, on_report=say)
        if parked:
            sys.exit(1)
    except Exception as error:
        # A statement that is interrupted fails a second time, at its rollback.
        if not _was_interrupted(error):
            raise
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(0)
    finally:
        engine.dispose()


def keep_delivering(
    context: "FlowContext",
    *,
    lanes: Sequence[Lane],
    runner_id: str,
    on_report: Callable[["SyncReport"], None],
    once: bool = False,
) -> Mapping[str, "Parked"]:
    """Deliver what is due as soon as it is, until interrupted; ``once``: until nothing is due that may be sent now.

    There is no run to start: what comes is seen within ``LOOK_SECONDS``. ``on_report`` is called after each delivery,
    which lasts as long as something is due, at most ``pipeline.run_seconds``; and at the end if destinations are
    parked. They are the answer: what waits for them was not sent.

    Raises:
        DatabaseUnavailable: with ``once``; otherwise it is waited for.
    """
    from leads_pipeline import flows
    from leads_pipeline.crm.parking import Forecasts
    from leads_pipeline.steps.crm_sync_batches import SyncReport

    flows.deliveries.name_left_over(context)
    forecasts = Forecasts(context.engine, settings=context.settings, clock=context.clock)
    while True:
        try:
            plan = flows.plan_sync(context, lanes=lanes, forecasts=forecasts)
            if plan.by_destination:
                report = flows.deliver(context, plan, runner_id=runner_id)
                on_report(report)
                if report.records or report.spared:
                    continue
        except DatabaseUnavailable as error:
            if once:
                raise
            log.error("database_unavailable", why=error.why)  # noqa: TRY400 - no traceback where contacts may be quoted
            context.clock.sleep(RECONNECT_SECONDS)
            continue
        if once:
            if plan.parked.destinations:
                on_report(SyncReport(parked=plan.parked.named()))
            return plan.parked.destinations
        context.clock.sleep(LOOK_SECONDS)


def _was_interrupted(error: BaseException) -> bool:
    below = error.__cause__ or error.__context__
    return isinstance(error, KeyboardInterrupt) or (below is not None and _was_interrupted(below))


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _numbers(report: "SyncReport") -> dict[str, object]:
    return {
        "delivered": report.delivered,
        "unchanged": report.unchanged,
        "suppressed": report.suppressed,
        "retried": report.retried,
        "dead": report.dead,
        "requests": report.requests,
        "requests_by_lane": report.requests_by_lane,
        "throttled": report.throttled,
        "quota": {
            name: {"left": plan.budget.left, "until": plan.budget.resets_at}
            for name, plan in report.budgets.items()
            if plan.budget is not None
        },
        "parked": {name: {"reason": item.reason, "until": item.until} for name, item in report.parked.items()},
    }


def _line(report: "SyncReport") -> str:
    counts = (
        (report.delivered, "delivered"),
        (report.unchanged, "unchanged"),
        (report.suppressed, "suppressed"),
        (report.retried, "to be tried again"),
        (report.dead, "dead"),
    )
    parts = [", ".join(f"{count:,} {name}" for count, name in counts if count) or "nothing sent"]
    parts.append(f"{report.requests:,} requests")
    for name, plan in report.budgets.items():
        if plan.budget is not None:
            until = f" until {plan.budget.resets_at:%Y-%m-%d %H:%M} UTC" if plan.budget.resets_at else ""
            parts.append(f"{name} has {plan.budget.left:,} left{until}")
    for name, parked in report.parked.items():
        parts.append(f"{name} is parked until {parked.until:%Y-%m-%d %H:%M:%S} UTC ({parked.reason})")
    return "; ".join(parts)

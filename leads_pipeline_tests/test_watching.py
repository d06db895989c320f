"""A look at the pipeline: parts that fail or hang leave the others alone, and it is told what came of each."""

import threading
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from leads_pipeline.clock import SystemClock
from leads_pipeline.config import parse_settings
from leads_pipeline.flows import FlowContext
from leads_pipeline.flows.watching import PARTS, Part, watch
from leads_pipeline_tests.conftest import LEADS_YAML


@pytest.fixture
def context(engine: sa.Engine) -> FlowContext:
    return FlowContext(engine, parse_settings(LEADS_YAML, path=Path("leads.yaml")), SystemClock())


def part(name: str, run: Any) -> Part:
    return Part(name, run, lambda report: f"did {report}")


def test_a_look_at_a_quiet_pipeline_has_nothing_to_do(context: FlowContext):
    report = watch(context, runner_id="test")

    assert [item.name for item in report.parts] == [item.name for item in PARTS]
    assert report.failed == {}
    assert report.policies is not None
    assert report.policies.began == []


def test_a_part_that_fails_leaves_the_others_alone_and_is_named_without_its_values(context: FlowContext):
    def fails(_context: FlowContext, _runner_id: str) -> None:
        raise ValueError("ada@example.com")

    report = watch(context, runner_id="test", parts=[part("first", fails), part("second", lambda *_: 7)])

    assert report.failed == {"first": "ValueError"}
    assert report.words() == "first: ValueError; second: did 7"


def test_a_part_that_hangs_leaves_the_others_alone_and_is_not_started_twice(context: FlowContext):
    released, starts = threading.Event(), []

    def hangs(_context: FlowContext, _runner_id: str) -> int:
        starts.append(1)
        released.wait(60)
        return 1

    parts = [part("hanging", hangs), part("other", lambda *_: 7)]
    first = watch(context, runner_id="test", parts=parts, part_seconds=0.1)
    second = watch(context, runner_id="test", parts=parts, part_seconds=0.1)
    released.set()

    assert first.failed == {"hanging": "it took longer than 0.1 s"}
    assert second.failed == {"hanging": "the last look at it is still under way"}
    assert [done.words for done in second.parts] == ["", "did 7"]
    assert len(starts) == 1

"""Logs hold ids and counts, never a lead's content."""

import io
import json

import pytest
import structlog

from leads_pipeline import telemetry


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch):
    written = io.StringIO()
    monkeypatch.setattr("sys.stderr", written)
    telemetry.configure_logging(as_json=True)
    yield written
    structlog.reset_defaults()


@pytest.mark.parametrize("key", sorted(telemetry.FORBIDDEN_KEYS))
def test_a_value_under_a_personal_or_secret_key_never_reaches_the_stream(stream: io.StringIO, key: str):
    telemetry.get_logger("test").info("lead_seen", **{key: "ada@engines.example"})

    assert "ada@engines" not in stream.getvalue()


def test_an_event_is_one_line_of_json_with_its_module_and_time(stream: io.StringIO):
    telemetry.get_logger("test").info("chunk_taken", taken=3)

    line = json.loads(stream.getvalue())
    assert (line["event"], line["taken"], line["module"], line["level"]) == ("chunk_taken", 3, "test", "info")
    assert line["timestamp"].endswith("Z")

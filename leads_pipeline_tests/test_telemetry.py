"""Logs hold ids and counts, never a lead's content."""

import io
import json

import pytest

from leads_pipeline import telemetry


@pytest.mark.parametrize("key", sorted(telemetry.FORBIDDEN_KEYS))
def test_a_value_under_a_personal_or_secret_key_never_reaches_the_stream(key: str, capsys: pytest.CaptureFixture[str]):
    telemetry.configure_logging(as_json=True)

    telemetry.get_logger("test").info("lead_seen", **{key: "ada@engines.example"})

    written = capsys.readouterr().err
    assert "lead_seen" in written
    assert "ada@engines" not in written


def test_an_event_is_one_line_of_json_with_its_module_and_time(capsys: pytest.CaptureFixture[str]):
    telemetry.configure_logging(as_json=True)

    telemetry.get_logger("test").info("chunk_taken", taken=3)

    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["taken"], line["module"], line["level"]) == ("chunk_taken", 3, "test", "info")
    assert line["timestamp"].endswith("Z")


def test_a_stream_that_is_closed_costs_a_line_and_nothing_else(monkeypatch: pytest.MonkeyPatch):
    telemetry.configure_logging(as_json=True)
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr("sys.stderr", closed)

    telemetry.get_logger("test").error("chunk_failed", taken=3)

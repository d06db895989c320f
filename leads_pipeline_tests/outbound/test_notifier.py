"""What comes back from the process that loads apprise."""

import sys
from pathlib import Path

import pytest

from leads_pipeline.domain.alert_message import Message
from leads_pipeline.outbound.notifier import Sendings, send_messages


def test_what_a_plug_in_prints_is_not_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    talkative = tmp_path / "talkative"
    talkative.write_text("#!/bin/sh\necho ready\nread address\nread message\necho cannot reach slack://a-token\n")
    talkative.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(talkative))

    assert send_messages("slack://a-token", [Message("t", "b", "info")], seconds=5) == Sendings(0, "sender_broken")


@pytest.mark.parametrize("start", ["#!/bin/sh\nexit 1\n", None])
def test_a_process_that_dies_at_once_or_does_not_start_is_a_failure_like_others(
    start: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying = tmp_path / "dying"
    if start is not None:
        dying.write_text(start)
        dying.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(dying))
    more_than_a_pipe_takes = "json://" + 200_000 * "a"

    assert send_messages(more_than_a_pipe_takes, [Message("t", "b", "info")], seconds=5) == Sendings(0, "sender_broken")

"""Sends messages through apprise, in a process of its own for each channel.

apprise may block for minutes whatever it is asked, and a thread cannot be ended: a process can. Its import (14 MB) and
whatever a plug-in does stay out of the pipeline's processes as well. The channel's address is a secret: it goes through
the pipe, never through arguments, and neither it nor an answer comes back, only a class of failure.
"""

import json
import queue
import re
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from leads_pipeline.domain.alert_message import Message
from leads_pipeline.domain.alerting import SendFailure

# Starting Python and loading apprise: 0.6 s here, more on a machine in trouble. Not part of a message's own time.
START_SECONDS = 15.0

_READY, _SENT = "ready", "sent"
_FAILURES, _HTTP = frozenset(SendFailure), re.compile(r"http_\d{3}")


@dataclass(frozen=True, slots=True)
class Sendings:
    """How many messages were sent, in their order, and why the next one was not: a class of failure."""

    sent: int
    error: str | None = None


def send_messages(address: str, messages: Sequence[Message], *, seconds: float) -> Sendings:
    """Send one after the other until one fails; each has ``seconds``."""
    command = [sys.executable, "-m", "leads_pipeline.outbound.notifier_process"]
    pipe = subprocess.PIPE
    sendings = Sendings(0, SendFailure.BROKEN)
    # It may not start; and one that died with something unread fails once more when its pipe is closed.
    with (
        suppress(OSError),
        subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, encoding="utf-8"
        ) as process,
    ):
        try:
            sendings = _dictated(process, address, messages, seconds)
        finally:
            process.kill()
    return sendings


def _dictated(process: subprocess.Popen[str], address: str, messages: Sequence[Message], seconds: float) -> Sendings:
    answers, sent = _answers(process), 0
    try:
        _tell(process, {"address": address})
        if _next(answers, START_SECONDS) != _READY:
            return Sendings(0, SendFailure.BROKEN)
        for message in messages:
            _tell(process, {"title": message.title, "body": message.body, "tone": message.tone})
            answer = _next(answers, seconds)
            if answer != _SENT:
                return Sendings(sent, _failure(answer))
            sent += 1
    except OSError:  # it is gone: a closed pipe
        return Sendings(sent, SendFailure.BROKEN)
    return Sendings(sent)


def _failure(answer: str | None) -> str:
    """A class of failure. Whatever else a plug-in prints may be the address itself, and is not passed on."""
    if answer is None:
        return SendFailure.TIMED_OUT
    return answer if answer in _FAILURES or _HTTP.fullmatch(answer) else SendFailure.BROKEN


def _tell(process: subprocess.Popen[str], told: dict[str, object]) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(told) + "\n")
    process.stdin.flush()


def _answers(process: subprocess.Popen[str]) -> "queue.SimpleQueue[str]":
    """Its lines, as they come; an empty one when there are no more."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        assert process.stdout is not None
        with suppress(OSError, ValueError):
            for line in process.stdout:
                lines.put(line.strip())
        lines.put("")

    threading.Thread(target=read, daemon=True, name="notifier-answers").start()
    return lines


def _next(answers: "queue.SimpleQueue[str]", seconds: float) -> str | None:
    try:
        return answers.get(timeout=seconds)
    except queue.Empty:
        return None

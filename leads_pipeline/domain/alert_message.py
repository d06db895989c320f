"""How an alert reads: what is wrong, since when, what the system did already, what to open and what to type.

Read it aloud: a person who was asleep a minute ago must know what to do next. Names and numbers of ours only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from leads_pipeline.domain.alerting import ClosedFor, NoticeKind
from leads_pipeline.domain.severity import Severity

# Longer lists are cut: a chat shows the first lines, and `leads alerts show` has the rest.
_MOST_ACTIONS = 6


@dataclass(frozen=True, slots=True)
class Story:
    """All that is told of an alert. ``actions``: what the system did about it, in words; ``playbook``: where it is."""

    alert_id: str
    severity: Severity
    title: str
    facts: Sequence[tuple[str, str]]
    actions: Sequence[str]
    tenant: str | None
    opened_at: datetime
    closed_at: datetime | None
    closed_for: str | None
    closed_by: str | None
    command: str | None
    playbook: str | None


@dataclass(frozen=True, slots=True)
class Message:
    """``tone``: as apprise calls it; channels show it as a colour."""

    title: str
    body: str
    tone: str


def compose(story: Story, kind: NoticeKind, *, told_before: bool, now: datetime) -> Message:
    """The message of this kind. ``told_before``: whether the reader was told of the alert before."""
    if kind is NoticeKind.RECOVERED or story.closed_at is not None:
        return _over(story, told_before=told_before)
    lines = [f"{story.title}.", *_facts(story)]
    lasting = span(now - story.opened_at)
    since = f"Since {_at(story.opened_at)}"
    lines.append(f"{since}, for {lasting}." if now - story.opened_at >= timedelta(minutes=1) else f"{since}.")
    lines += [_did(story), *_pointers(story)]
    urgent = story.severity is Severity.PAGE
    return Message(f"[{_label(story, kind)}] {story.title}", "\n".join(lines), "failure" if urgent else "warning")


def _label(story: Story, kind: NoticeKind) -> str:
    if kind is NoticeKind.REMINDER:
        return f"{story.severity}, still"
    if kind is NoticeKind.ESCALATED:
        return f"{story.severity}, worse"
    return str(story.severity)


def _over(story: Story, *, told_before: bool) -> Message:
    closed = story.closed_at or story.opened_at
    how = {
        ClosedFor.RECOVERED: "It is no longer so, and has not been for a while.",
        ClosedFor.RESOLVED: f"Closed by {story.closed_by}. If it still is so, a new alert follows.",
        ClosedFor.GONE: "It is not watched any more: leads.yaml does not name it now.",
    }.get(ClosedFor(story.closed_for or ClosedFor.RECOVERED))
    lines = [f"{story.title}: this is over.", str(how)]
    lines.append(f"It was so from {_at(story.opened_at)} to {_at(closed)}, for {span(closed - story.opened_at)}.")
    if not told_before:
        lines.append("Nothing could be sent here while it lasted: this message stands for all of them. What was seen:")
        lines += _facts(story)
    lines += [f"More: leads alerts show {short_id(story.alert_id)}"]
    return Message(f"[over] {story.title}", "\n".join(lines), "success")


def _facts(story: Story) -> list[str]:
    return [f"- {name}: {value}" for name, value in story.facts]


def _did(story: Story) -> str:
    if not story.actions:
        return "No rule acts and no gate is closed; what the system does without them, the playbook says."
    shown = [*story.actions[:_MOST_ACTIONS]]
    if len(story.actions) > _MOST_ACTIONS:
        shown.append(f"and {len(story.actions) - _MOST_ACTIONS} more: leads policy list")
    return "\n".join(["The system already did:", *(f"- {action}" for action in shown)])


def _pointers(story: Story) -> list[str]:
    lines = []
    if story.command is not None:
        lines.append(f"Look: {story.command}")
    if story.playbook is not None:
        lines.append(f"Playbook: {story.playbook}")
    lines.append(f"This alert: leads alerts show {short_id(story.alert_id)}")
    return lines


def short_id(alert_id: object) -> str:
    """What people type: the end of the id, which is random; alerts of one instant begin alike."""
    return str(alert_id)[-8:]


def span(length: timedelta) -> str:
    """A span of time for people: 40 s, 12 min, 3 h 20 min, 2 d 4 h."""
    seconds = max(0, int(length.total_seconds()))
    if seconds < 60:
        return f"{seconds} s"
    minutes = seconds // 60
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def _at(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M} UTC"

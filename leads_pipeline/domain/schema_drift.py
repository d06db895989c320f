"""Schema drift: a source that sends a field nobody uses, or no longer sends one that is used.

From counts alone (``storage.source_fields``), which know no values. Both come late by intent: what a source sends on
its first day is what it sends, and a field that few leads have is not missed before enough have come without it.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

# Under this name the posts themselves are counted, whatever fields they had.
POSTS = "*"
# What a field can be for besides a canonical one. One such field does not stand in for another.
CONSENT, LANE = "consent", "lane"

# A source's fields of its first day are not news.
BASELINE = timedelta(days=1)
# So many posts should have had the field since it was last seen: by chance, none of them has it once in 20,000 cases.
MISSED = 10.0


@dataclass(frozen=True, slots=True)
class SourceField:
    """One field of a source. ``posts_by_then``: how many posts of the source had come when it was last seen."""

    tenant: str
    source: str
    field: str
    used_for: str | None
    seen: int
    posts_by_then: int
    first_seen_at: datetime
    last_seen_at: datetime


@dataclass(frozen=True, slots=True)
class Vanished:
    """A field that is used and used to come. ``posts_since``: so many posts came without it."""

    field: SourceField
    posts_since: int


@dataclass(frozen=True, slots=True)
class Drift:
    """What changed. ``unknown`` fields are new and are used for nothing."""

    unknown: tuple[SourceField, ...]
    vanished: tuple[Vanished, ...]


def drift_of(fields: Iterable[SourceField], *, now: datetime, window: timedelta, min_posts: int) -> Drift:
    """What changed within ``window``, in the order of ``fields``. Fewer than ``min_posts`` posts prove nothing."""
    by_source: dict[tuple[str, str], list[SourceField]] = defaultdict(list)
    for field in fields:
        by_source[field.tenant, field.source].append(field)
    unknown: list[SourceField] = []
    vanished: list[Vanished] = []
    for found in by_source.values():
        posts = next((field for field in found if field.field == POSTS), None)
        if posts is None:
            continue
        recent = [field for field in found if field.field != POSTS and field.last_seen_at >= now - window]
        for field in recent:
            since = posts.seen - field.posts_by_then
            if field.used_for is None:
                if field.first_seen_at >= max(now - window, posts.first_seen_at + BASELINE):
                    unknown.append(field)
            elif since >= min_posts and _is_missed(field, since) and not _is_replaced(field, recent):
                vanished.append(Vanished(field, since))
    return Drift(tuple(unknown), tuple(vanished))


def _is_missed(field: SourceField, posts_since: int) -> bool:
    return posts_since * field.seen / max(field.posts_by_then, 1) >= MISSED


def _is_replaced(field: SourceField, others: Iterable[SourceField]) -> bool:
    """Whether another field has come since that means the same: a form's field was renamed, and mapped."""
    return field.used_for not in (CONSENT, LANE) and any(
        other.used_for == field.used_for and other.posts_by_then > field.posts_by_then for other in others
    )

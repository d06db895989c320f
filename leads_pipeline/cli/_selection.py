"""What commands that act on many things share: the same options on each, times, fields with their new values."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import reduce
from typing import Any

import click

from leads_pipeline.config import Settings

Option = Callable[[Any], Any]


def options(several: Sequence[Option]) -> Callable[[Any], Any]:
    """A decorator that gives a command all of ``several``, in this order."""
    return lambda command: reduce(lambda made, option: option(made), reversed(several), command)


def must_be_known(settings: Settings, *, tenant: str | None = None, destination: str | None = None) -> None:
    """A name with a slip of the pen must not look like nothing being there.

    Raises:
        click.BadParameter: leads.yaml has no such tenant or destination.
    """
    for hint, name, known in (
        ("--tenant", tenant, settings.tenants),
        ("--destination", destination, settings.destinations),
    ):
        if name is not None and name not in known:
            told = ", ".join(known) or "none"
            raise click.BadParameter(f"leads.yaml has no {hint[2:]} {name!r}; it has: {told}", param_hint=hint)


def utc(at: datetime | None) -> datetime | None:
    """A time as it was given, which means UTC."""
    return None if at is None else at.replace(tzinfo=UTC)


def assigned_fields(assignments: Sequence[str]) -> dict[str, str | None]:
    """``FIELD=VALUE`` as a correction. A value is personal: no message quotes it."""
    fields: dict[str, str | None] = {}
    for number, assignment in enumerate(assignments, start=1):
        name, is_given, value = assignment.partition("=")
        name = name.strip()
        if not is_given:
            raise click.BadParameter(f"number {number} is not FIELD=VALUE", param_hint="--set")
        if name in fields:
            raise click.BadParameter(f"{name} is set twice", param_hint="--set")
        fields[name] = value.strip() or None
    return fields

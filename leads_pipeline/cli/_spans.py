"""Spans of time as commands take them."""

import re
from datetime import timedelta

import click

_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


def span_option(_context: click.Context, _option: click.Parameter, value: str | None) -> timedelta | None:
    """``30m``, ``2h`` or ``1d``: a callback for an option."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d{1,4})([mhd])", value)
    if found is None or int(found[1]) == 0:
        raise click.BadParameter(f"{value!r} is no span of time; allowed: minutes, hours or days, as 30m, 2h or 1d")
    return int(found[1]) * _UNITS[found[2]]

"""The page /example: a form that posts with leads.js, and a log of what happens to what it sends."""

import re
from html import escape
from string import Template

from leads_pipeline.capture.door import Door, WayIn
from leads_pipeline.capture.static_files import DIRECTORY
from leads_pipeline.errors import DatabaseError

_KEY = re.compile(r"lp_[A-Za-z0-9_-]{1,200}")
_NEED_A_KEY = (
    "<p class=notice>The form needs an API key, which says whose lead it is. Make one with "
    "<code>leads keys create --source website</code>, paste it under “API key” and use it.</p>"
)


async def example_page(door: Door, *, key: str, address: str) -> str:
    """The page as HTML, for whoever holds ``key``; without one it asks for it. ``address``: the page's, without it."""
    key = key if _KEY.fullmatch(key) else ""
    holder = await _way_of(door, key) if key else None
    if not key:
        hint = "It stands in the page of a real site, so it is no secret: it can post, and nothing else."
    elif holder is None:
        hint = "This key is not in force here. Make one with leads keys create --source website."
    else:
        hint = f"Posts as {holder.source} of {holder.tenant}."
    form = _form(holder, key=key, address=address) if key else _NEED_A_KEY
    return _template("example.html").substitute(key=escape(key), key_hint=escape(hint), form=form)


def _form(way: WayIn | None, *, key: str, address: str) -> str:
    takes_forms = way is not None and way.kind.answers_browsers
    without = (
        "<noscript><p class=hint>Without JavaScript the form is posted as any other.</p></noscript>"
        if takes_forms
        else "<noscript><p class=notice>Without JavaScript this form needs a source of kind <code>form</code>; "
        "the one of this key is not.</p></noscript>"
    )
    action = f"v1/in/{way.tenant}/{way.source}?key={key}" if way is not None and takes_forms else ""
    honeypot = way.settings.honeypot if way is not None else "website_url"
    return _template("example_form.html").substitute(
        action=escape(action), address=escape(address), honeypot=escape(honeypot), without_script=without
    )


async def _way_of(door: Door, key: str) -> WayIn | None:
    """The source that a key posts as; ``None`` also while the database cannot be asked."""
    try:
        holder = await door.keys.holder_of(key)
    except DatabaseError:
        return None
    return None if holder is None else door.ways.get((holder.tenant, holder.source or ""))


def _template(name: str) -> Template:
    return Template((DIRECTORY / name).read_text(encoding="utf-8").rstrip())

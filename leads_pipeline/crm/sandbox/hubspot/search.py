"""Search: filters, text, sorting and paging over an index that lags behind the writes."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any

from leads_pipeline.crm.sandbox.hubspot.answers import invalid, timestamp
from leads_pipeline.crm.sandbox.hubspot.calls import Call, Refused, names_in, selected
from leads_pipeline.crm.sandbox.hubspot.records import whole_number
from leads_pipeline.crm.sandbox.hubspot.store import Contact
from leads_pipeline.sandbox.answers import Answer

MAX_PAGE = 200
MAX_RESULTS = 10_000
MAX_GROUPS = 5
MAX_FILTERS_IN_GROUP = 6
MAX_FILTERS = 18
MAX_QUERY = 3_000
_SEARCHED = ("firstname", "lastname", "email", "phone", "company", "hs_additional_emails")

_Filter = Callable[[Contact], bool]


def search_records(call: Call) -> Answer:
    """The contacts that pass every filter of any group; those written a moment ago are not there yet."""
    document = call.document()
    limit = whole_number(document.get("limit"), default=10, most=MAX_PAGE)
    after = whole_number(document.get("after"), default=0, most=None)
    if after + limit > MAX_RESULTS:
        raise Refused(invalid(f"A search ends after {MAX_RESULTS} results"))
    text = str(document.get("query") or "")
    if len(text) > MAX_QUERY:
        raise Refused(invalid(f"The query is longer than {MAX_QUERY} characters"))
    groups = _groups(call, document.get("filterGroups") or [])
    indexed_until = timestamp(call.now - timedelta(seconds=call.account.options.search_lag_seconds))
    found = [
        contact
        for contact in _contacts(call)
        if contact.created_at <= indexed_until
        and _holds_text(contact, text)
        and (not groups or any(all(test(contact) for test in group) for group in groups))
    ]
    for name, descending in reversed(_sorts(document)):
        found.sort(key=partial(_place, name=name), reverse=descending)
    names = names_in(document, "properties")
    page = found[after : after + limit]
    body: dict[str, Any] = {
        "total": len(found),
        "results": [selected(contact, names, call.account.store.properties) for contact in page],
    }
    if after + limit < len(found):
        body["paging"] = {"next": {"after": str(after + limit)}}
    return Answer(200, body)


def _contacts(call: Call) -> Iterator[Contact]:
    after = 0
    while page := call.account.store.page(after=after, limit=1_000):
        yield from page
        after = int(page[-1].id)


def _holds_text(contact: Contact, text: str) -> bool:
    held = " ".join(contact.properties.get(name, "") for name in _SEARCHED).lower()
    return all(word in held for word in text.lower().split())


def _sorts(document: dict[str, Any]) -> list[tuple[str, bool]]:
    """Property and whether it runs downwards; HubSpot takes ``"-name"`` as well as an object."""
    sorts = document.get("sorts") or []
    if not isinstance(sorts, list) or not all(isinstance(sort, str | dict) for sort in sorts):
        raise Refused(invalid("sorts must be a list of names or objects"))
    return [
        (sort.lstrip("-"), sort.startswith("-"))
        if isinstance(sort, str)
        else (str(sort.get("propertyName")), sort.get("direction") == "DESCENDING")
        for sort in sorts
    ]


def _groups(call: Call, groups: Any) -> list[list[_Filter]]:
    shaped = isinstance(groups, list) and all(
        isinstance(group, dict) and isinstance(group.get("filters", []), list) for group in groups
    )
    if not shaped:
        raise Refused(invalid("filterGroups must be a list of objects with filters"))
    filters = [group.get("filters", []) for group in groups]
    if (
        len(groups) > MAX_GROUPS
        or any(len(group) > MAX_FILTERS_IN_GROUP for group in filters)
        or sum(len(group) for group in filters) > MAX_FILTERS
    ):
        raise Refused(
            invalid(f"At most {MAX_GROUPS} filterGroups with {MAX_FILTERS_IN_GROUP} filters each, {MAX_FILTERS} in all")
        )
    return [[_filter(call, item) for item in group] for group in filters]


def _filter(call: Call, item: Any) -> _Filter:
    name = item.get("propertyName") if isinstance(item, dict) else None
    if not isinstance(name, str) or name not in call.account.store.properties:
        raise Refused(invalid(f"There was a problem with the request: no property {name}"))
    test = _TESTS.get(str(item.get("operator")))
    if test is None:
        raise Refused(invalid(f"operator must be one of {', '.join(_TESTS)}"))
    value = str(item.get("value") or "")
    values = names_in(item, "values")
    high = str(item.get("highValue") or "")
    return lambda contact: test(contact.properties.get(name, ""), value, values, high)


def _place(contact: Contact, *, name: str) -> tuple[int, float, str]:
    return _comparable(contact.properties.get(name, ""))


def _comparable(value: str) -> tuple[int, float, str]:
    try:
        return (0, float(value), "")
    except ValueError:
        return (1, 0.0, value.lower())


def _has_token(held: str, value: str) -> bool:
    wanted = value.lower().strip("*")
    if "*" in value:
        return wanted in held.lower()
    return wanted == held.lower() or wanted in held.lower().replace("@", " ").replace(".", " ").split()


_Test = Callable[[str, str, list[str], str], bool]
_TESTS: dict[str, _Test] = {
    "EQ": lambda held, value, _values, _high: held.lower() == value.lower(),
    "NEQ": lambda held, value, _values, _high: held.lower() != value.lower(),
    "LT": lambda held, value, _values, _high: held != "" and _comparable(held) < _comparable(value),
    "LTE": lambda held, value, _values, _high: held != "" and _comparable(held) <= _comparable(value),
    "GT": lambda held, value, _values, _high: held != "" and _comparable(held) > _comparable(value),
    "GTE": lambda held, value, _values, _high: held != "" and _comparable(held) >= _comparable(value),
    "BETWEEN": lambda held, value, _values, high: (
        held != "" and _comparable(value) <= _comparable(held) <= _comparable(high)
    ),
    "IN": lambda held, _value, values, _high: held.lower() in {one.lower() for one in values},
    "NOT_IN": lambda held, _value, values, _high: held != "" and held.lower() not in {one.lower() for one in values},
    "HAS_PROPERTY": lambda held, _value, _values, _high: held != "",
    "NOT_HAS_PROPERTY": lambda held, _value, _values, _high: held == "",
    "CONTAINS_TOKEN": lambda held, value, _values, _high: _has_token(held, value),
    "NOT_CONTAINS_TOKEN": lambda held, value, _values, _high: not _has_token(held, value),
}

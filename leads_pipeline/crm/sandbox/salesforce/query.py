"""Queries in SOQL: as much of it as integrations for leads and Salesforce's clients for Python ask.

``select FIELDS or COUNT() from OBJECT where … and … or … order by … limit …``; comparisons, ``in``, ``not in`` and
``like``; no parentheses around conditions, no relations. Pages have 2,000 records, or as many as
``Sforce-Query-Options: batchSize=`` asks for.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from leads_pipeline.crm.sandbox.salesforce.answers import RecordFault, WholeRefused, refused
from leads_pipeline.crm.sandbox.salesforce.calls import Call
from leads_pipeline.crm.sandbox.salesforce.fields import OBJECTS, Field
from leads_pipeline.crm.sandbox.salesforce.store import Stored
from leads_pipeline.sandbox.answers import Answer

_PAGE, _SMALLEST_PAGE = 2000, 200
_TOKEN = re.compile(r"\s*(?:'((?:[^'\\]|\\.)*)'|(!=|<>|<=|>=|[=<>(),])|([^\s'=<>!(),]+))")
_ESCAPED = re.compile(r"\\(.)")
Values = dict[str, Any]
Test = Callable[[Values], bool]


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    quoted: bool = False

    def is_word(self, *words: str) -> bool:
        return not self.quoted and self.text.lower() in words


def query(call: Call) -> Answer:
    """``GET /query?q=…``: what is not deleted."""
    return _query(call, deleted=False)


def query_all(call: Call) -> Answer:
    """``GET /queryAll?q=…``: what is in the recycle bin, too."""
    return _query(call, deleted=True)


def more(call: Call) -> Answer:
    """``GET /query/{locator}``: the next page."""
    locator, _, start = call.path["locator"].rpartition("-")
    records = call.org.kept.cursors.get(locator)
    if records is None or not start.isdigit():
        raise WholeRefused(refused(400, "INVALID_QUERY_LOCATOR", "invalid query locator"))
    return Answer(200, _page(call, records, locator=locator, start=int(start)))


def selected(call: Call, soql: str, *, deleted: bool) -> tuple[list[Values], int | None, list[str]]:
    """The records that a query finds with the fields that it names, or their number.

    Raises:
        WholeRefused: it is not SOQL, or asks for what is not there.
    """
    return _Query(call, soql, deleted=deleted).run()


def _query(call: Call, *, deleted: bool) -> Answer:
    records, count, _names = selected(call, call.incoming.query.get("q", ""), deleted=deleted)
    if count is not None:
        return Answer(200, {"totalSize": count, "done": True, "records": []})
    locator = f"01g{call.org.random.getrandbits(60):015x}"
    call.org.kept.cursors[locator] = records
    return Answer(200, _page(call, records, locator=locator, start=0))


def _page(call: Call, records: list[Values], *, locator: str, start: int) -> dict[str, Any]:
    size = _page_size(call)
    end = start + size
    body: dict[str, Any] = {"totalSize": len(records), "done": end >= len(records)}
    if end < len(records):
        body["nextRecordsUrl"] = f"/services/data/{call.path['version']}/query/{locator}-{end}"
    else:
        call.org.kept.cursors.pop(locator, None)
    return {**body, "records": records[start:end]}


def _page_size(call: Call) -> int:
    asked = re.search(r"batchSize=(\d+)", call.incoming.headers.get("sforce-query-options", ""))
    return min(_PAGE, max(_SMALLEST_PAGE, int(asked[1]))) if asked else _PAGE


def _tokens(text: str) -> Iterator[_Token]:
    place = 0
    while text[place:].strip():
        match = _TOKEN.match(text, place)
        if match is None:
            raise _malformed(f"unexpected token at {place}")
        place = match.end()
        if match[1] is not None:
            yield _Token(_ESCAPED.sub(r"\1", match[1]), quoted=True)
        else:
            yield _Token(match[2] or match[3])


class _Query:
    """One query, read from left to right."""

    def __init__(self, call: Call, soql: str, *, deleted: bool) -> None:
        self._call = call
        self._deleted = deleted
        self._tokens = list(_tokens(soql))
        self._place = 0

    def run(self) -> tuple[list[Values], int | None, list[str]]:
        self._expect("select")
        names = self._names()
        self._expect("from")
        given = self._next().text
        object_type = next((known for known in OBJECTS if known.lower() == given.lower()), None)
        if object_type is None:
            raise WholeRefused(refused(400, "INVALID_TYPE", f"sObject type '{given}' is not supported."))
        known = {name.lower(): field for name, field in self._call.org.fields(object_type).items()}
        test = self._conditions(known, object_type) if self._takes("where") else lambda _values: True
        found = [item for item in self._call.org.store.all_of(object_type) if self._deleted or item.deleted_at is None]
        rows = [(item, item.shown()) for item in found]
        rows = [(item, values) for item, values in rows if test(values)]
        if self._takes("order"):
            self._expect("by")
            name = self._field(known, object_type).name
            rows.sort(
                key=lambda row: (row[1].get(name) is not None, str(row[1].get(name))), reverse=self._takes("desc")
            )
            self._takes("asc")
        if self._takes("limit"):
            rows = rows[: int(self._next().text)]
        if self._place < len(self._tokens):
            raise _malformed(f"unexpected token: '{self._tokens[self._place].text}'")
        if names is None:
            return [], len(rows), []
        fields = [self._known(name, known, object_type) for name in names]
        return [self._shown(item, values, fields) for item, values in rows], None, [field.name for field in fields]

    def _shown(self, item: Stored, values: Values, fields: list[Field]) -> Values:
        url = f"/services/data/{self._call.path['version']}/sobjects/{item.object_type}/{item.id}"
        shown = {
            field.name: bool(values.get(field.name)) if field.type == "boolean" else values.get(field.name)
            for field in fields
        }
        return {"attributes": {"type": item.object_type, "url": url}, **shown}

    def _names(self) -> list[str] | None:
        names = [self._next().text]
        if names[0].lower() == "count" and self._takes("("):
            self._expect(")")
            return None
        while self._takes(","):
            names.append(self._next().text)
        return names

    def _conditions(self, known: dict[str, Field], object_type: str) -> Test:
        either = [self._all(known, object_type)]
        while self._takes("or"):
            either.append(self._all(known, object_type))
        return lambda values: any(test(values) for test in either)

    def _all(self, known: dict[str, Field], object_type: str) -> Test:
        every = [self._condition(known, object_type)]
        while self._takes("and"):
            every.append(self._condition(known, object_type))
        return lambda values: all(test(values) for test in every)

    def _condition(self, known: dict[str, Field], object_type: str) -> Test:
        name = self._field(known, object_type).name
        negated = self._takes("not")
        if self._takes("in"):
            wanted = {_folded(item) for item in self._list()}
            return lambda values: (_folded(values.get(name)) in wanted) is not negated
        sign = self._next().text.lower()
        value = self._value()
        return lambda values: _holds(values.get(name), sign, value)

    def _list(self) -> list[Any]:
        self._expect("(")
        items = [self._value()]
        while self._takes(","):
            items.append(self._value())
        self._expect(")")
        return items

    def _value(self) -> Any:
        token = self._next()
        if token.quoted:
            return token.text
        if token.is_word("null"):
            return None
        if token.is_word("true", "false"):
            return token.text.lower() == "true"
        return token.text

    def _field(self, known: dict[str, Field], object_type: str) -> Field:
        return self._known(self._next().text, known, object_type)

    def _known(self, name: str, known: dict[str, Field], object_type: str) -> Field:
        field = known.get(name.lower())
        if field is None:
            raise RecordFault("INVALID_FIELD", f"No such column '{name}' on entity '{object_type}'.")
        return field

    def _next(self) -> _Token:
        if self._place >= len(self._tokens):
            raise _malformed("unexpected end")
        self._place += 1
        return self._tokens[self._place - 1]

    def _takes(self, word: str) -> bool:
        if self._place < len(self._tokens) and self._tokens[self._place].is_word(word):
            self._place += 1
            return True
        return False

    def _expect(self, word: str) -> None:
        if not self._takes(word):
            raise _malformed(f"expecting '{word}'")


def _holds(value: Any, sign: str, wanted: Any) -> bool:
    if sign == "like":
        pattern = re.escape(str(wanted)).replace("%", ".*").replace("_", ".")
        return re.fullmatch(pattern, str(value or ""), re.IGNORECASE | re.DOTALL) is not None
    if sign in ("=", "!=", "<>"):
        return (_folded(value) == _folded(wanted)) is (sign == "=")
    if value is None or sign not in ("<", "<=", ">", ">="):
        return False
    left, right = str(value), str(wanted)
    return {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[sign]


def _folded(value: Any) -> Any:
    """Texts are compared in any case; what is not there is null, and no box that is ticked."""
    if value is None or value is False or value == "":
        return None
    return value if value is True else str(value).lower()


def _malformed(message: str) -> WholeRefused:
    return WholeRefused(refused(400, "MALFORMED_QUERY", message))

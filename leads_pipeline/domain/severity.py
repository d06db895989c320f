"""How urgently a person is needed."""

from collections.abc import Iterable
from enum import StrEnum


class Severity(StrEnum):
    """``page``: now, at any hour. ``ticket``: on a working day."""

    PAGE = "page"
    TICKET = "ticket"

    def at_most(self, highest: "Severity") -> "Severity":
        """This one, or ``highest`` where that is less urgent."""
        return Severity.TICKET if Severity.TICKET in (self, highest) else Severity.PAGE


def most_urgent(severities: Iterable[Severity]) -> Severity | None:
    """The most urgent of them; ``None`` of none."""
    found = set(severities)
    return next((severity for severity in Severity if severity in found), None)

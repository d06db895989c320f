"""Records with one parent are not sent in two requests at once: Salesforce locks the parent, and refuses the second.

Within one process; what another process sends at the same time is refused as locked, and sent again by itself.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from leads_pipeline.crm.port import CrmRecord

# The field of a contact that names its account.
PARENT_FIELD = "AccountId"


class ParentTurns:
    """Lets requests wait that share a parent with one that is under way. Safe to share between threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._busy: set[str] = set()

    @contextmanager
    def turn(self, parents: Iterable[str]) -> Iterator[None]:
        """Hold all of ``parents``, taken at once, so that no two wait for each other."""
        wanted = frozenset(parents)
        with self._changed:
            self._changed.wait_for(lambda: not wanted & self._busy)
            self._busy |= wanted
        try:
            yield
        finally:
            with self._changed:
                self._busy -= wanted
                self._changed.notify_all()


def parents_of(records: Sequence[CrmRecord]) -> frozenset[str]:
    """The parents that the records name."""
    return frozenset(str(value) for record in records if (value := record.properties.get(PARENT_FIELD)))

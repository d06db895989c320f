"""What one delivery came to at each destination, for metadata and the command line. Counts and codes, no values."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why records were not taken: the class of the refusal and the vendor's code. ``dead``: they are given up."""

    dead: bool
    verdict: str
    code: str


@dataclass(frozen=True, slots=True)
class DestinationReport:
    """One destination's part of a delivery, counted as ``SyncReport`` counts; ``breaker`` as it stands afterwards."""

    delivered: int = 0
    unchanged: int = 0
    suppressed: int = 0
    retried: int = 0
    dead: int = 0
    records: int = 0
    requests: int = 0
    throttled: int = 0
    breaker: str = "closed"
    refusals: Mapping[Refusal, int] = field(default_factory=dict)

    @property
    def calls_per_record(self) -> float:
        """Requests for each record that was sent; one for each would be 1."""
        return self.requests / self.records if self.records else 0.0

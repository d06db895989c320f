"""What the sandbox CRM saw: the counts of every sandbox, and how many records were written."""

from leads_pipeline.sandbox.observations import Observations
from leads_pipeline.sandbox.windows import SlidingWindow


class CrmObservations(Observations):
    """Counts since the start or the last reset; contacts may outlive them."""

    def __init__(self, window_seconds: float) -> None:
        super().__init__()
        self.records_created = 0
        self.records_updated = 0
        self.arrivals = SlidingWindow(window_seconds)

    def arrived(self, endpoint: str, *, tick: float) -> None:
        super().arrived(endpoint, tick=tick)
        self.arrivals.add(tick)

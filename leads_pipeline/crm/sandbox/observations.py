"""What the sandbox CRM saw: the counts of every sandbox, and how many records were written."""

from collections import Counter
from collections.abc import Sequence

from leads_pipeline.crm.sandbox.options import Window
from leads_pipeline.sandbox.observations import Observations
from leads_pipeline.sandbox.windows import SlidingWindow


class CrmObservations(Observations):
    """Counts since the start or the last reset; contacts may outlive them."""

    def __init__(self, windows: Sequence[Window]) -> None:
        super().__init__()
        self.records_created = 0
        self.records_updated = 0
        self.arrivals = [SlidingWindow(window.seconds) for window in windows]
        self.applications: Counter[int] = Counter()

    def arrived(self, endpoint: str, *, tick: float) -> None:
        super().arrived(endpoint, tick=tick)
        for window in self.arrivals:
            window.add(tick)

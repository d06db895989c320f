"""Where alerts come from: each source says of everything that it watches whether it is well.

Add a source as a function from ``Watch`` to observations and name it in ``SOURCES``. Each names a playbook that exists
(a test walks them), holds no lead's data and no address, and observes what is well, too: recovery needs evidence. What
it does not name any more, because leads.yaml does not, is closed as such. Keep out: Dagster's runs and checks
(``defs.alert_sensors``), and what follows from what was seen (``domain.alerting``).
"""

from collections.abc import Callable, Mapping, Sequence

from leads_pipeline.domain.alerting import Observation
from leads_pipeline.watching.alert_sources.destinations import look_at_destinations
from leads_pipeline.watching.alert_sources.watch import Watch

SOURCES: Mapping[str, Callable[[Watch], Sequence[Observation]]] = {
    "destination": look_at_destinations,
}

__all__ = ["SOURCES", "Watch"]

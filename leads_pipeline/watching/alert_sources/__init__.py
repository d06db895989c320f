"""Where alerts come from: each source says of everything that it watches whether it is well.

Add a source as a function from ``Watch`` to observations and name it in ``SOURCES``. Each names a playbook that exists
(a test walks them), holds no lead's data and no address, and observes what is well, too: recovery needs evidence. What
it does not name any more, because leads.yaml does not, is closed as such. Keep out: Dagster's runs and checks
(``defs.alert_sensors``), and what follows from what was seen (``domain.alerting``).
"""

from collections.abc import Callable, Mapping, Sequence

from leads_pipeline.domain.alerting import Observation
from leads_pipeline.watching.alert_sources.buffer import look_at_buffer
from leads_pipeline.watching.alert_sources.channels import look_at_channels
from leads_pipeline.watching.alert_sources.destinations import look_at_destinations
from leads_pipeline.watching.alert_sources.looks import look_at_looks
from leads_pipeline.watching.alert_sources.promises import look_at_promises, look_at_staleness
from leads_pipeline.watching.alert_sources.providers import look_at_providers
from leads_pipeline.watching.alert_sources.rules import look_at_rules
from leads_pipeline.watching.alert_sources.watch import Watch

STALENESS, LOOKS = "staleness", "look"
SOURCES: Mapping[str, Callable[[Watch], Sequence[Observation]]] = {
    "promise": look_at_promises,
    STALENESS: look_at_staleness,
    LOOKS: look_at_looks,
    "rule": look_at_rules,
    "destination": look_at_destinations,
    "provider": look_at_providers,
    "buffer": look_at_buffer,
    "channel": look_at_channels,
}

__all__ = ["LOOKS", "SOURCES", "STALENESS", "Watch"]

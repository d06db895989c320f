"""Contacts sent to a sandbox of this process instead of the real destination, to see what a CRM would say of them.

Imported by whoever rehearses and nobody else: it brings a web server. Keep out: the limiter and the books of the real
account, of which nothing may be used up by a rehearsal.
"""

from collections.abc import Sequence

from leads_pipeline.config import Destination
from leads_pipeline.crm.clients import BUILDERS
from leads_pipeline.crm.sandbox.running import running_sandbox
from leads_pipeline.crm.sandbox.vendors import VENDORS
from leads_pipeline.domain.delivery import CrmRecord, RecordVerdict, Verdict
from leads_pipeline.errors import NotFound
from leads_pipeline.outbound.access_tokens import MemoryTokens


def try_in_sandbox(settings: Destination, records: Sequence[CrmRecord]) -> dict[int, RecordVerdict]:
    """What a sandbox of the destination's vendor says of each record, by outbox id. All are upserts.

    The sandbox has no limits, knows nobody, and is gone afterwards.

    Raises:
        ConfigError: the destination's secret is not set.
        NotFound: nobody plays the vendor.
    """
    if settings.vendor not in VENDORS:
        raise NotFound(
            f"there is no sandbox of a {settings.vendor}; there are: {', '.join(sorted(VENDORS))}. "
            "What would be sent is told by --dry-run; to try it, name a destination of leads.yaml that may be filled"
        )
    options = VENDORS[settings.vendor].account_for(settings).without_limits()
    with running_sandbox(options) as sandbox:
        client = BUILDERS[settings.vendor](settings.model_copy(update={"base_url": sandbox.base_url}), MemoryTokens())
        try:
            size = client.traits.max_batch
            verdicts = {
                verdict.outbox_id: verdict
                for start in range(0, len(records), size)
                for verdict in client.deliver(records[start : start + size], courier=client.send)
            }
        finally:
            client.close()
    unsaid = {record.outbox_id: RecordVerdict(record.outbox_id, Verdict.AMBIGUOUS) for record in records}
    return unsaid | verdicts

"""What the door found out about a lead's domain, as it travels in the lead's context: ``context.verification.mx``.

``{"domain_hash": 7, "verdict": "invalid", "reasons": ["null_mx"], "flags": [], "mail_provider": null,
"checked_at": "2026-01-15T12:00:00+00:00"}``

The domain is named by its hash in ``mx_cache``, because an operator may give the lead another address meanwhile. A
failure of DNS is not written down.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from leads_pipeline.config import MxSettings
from leads_pipeline.domain.verification import LookupVerdict, Standing
from leads_pipeline.storage.mx_cache import Remembered, domain_hash
from leads_pipeline.verification.mx import dns_name, holds_for

KEY = "verification"
# So far a door's clock may be ahead of the pipeline's.
_AHEAD = timedelta(minutes=5)


def as_context(name: str, verdict: LookupVerdict, *, checked_at: datetime) -> dict[str, Any]:
    """What is put into a lead's context; ``name`` as ``dns_name`` gives it. Empty if DNS said nothing."""
    if verdict.standing is Standing.UNKNOWN:
        return {}
    mx = {
        "domain_hash": domain_hash(name),
        "verdict": verdict.standing,
        "reasons": verdict.reasons,
        "flags": verdict.flags,
        "mail_provider": verdict.details.get("mail_provider"),
        "checked_at": checked_at.isoformat(),
    }
    return {KEY: {"mx": mx}}


def mx_in_context(context: Mapping[str, Any], domain: str, *, settings: MxSettings, now: datetime) -> Remembered | None:
    """What the door found out about this domain, if it did and it still holds.

    It serves every tenant's leads from then on, and a door's password may be stolen: an hour to come is none.
    """
    mx = context.get(KEY, {}).get("mx")
    name = dns_name(domain)
    if mx is None or name is None or mx["domain_hash"] != domain_hash(name):
        return None
    standing, provider = Standing(mx["verdict"]), mx["mail_provider"]
    checked_at = datetime.fromisoformat(mx["checked_at"])
    expires_at = checked_at + holds_for(standing, settings)
    if expires_at <= now or checked_at > now + _AHEAD:
        return None
    details = {"mail_provider": provider} if provider else {}
    return Remembered(LookupVerdict(standing, tuple(mx["reasons"]), tuple(mx["flags"]), details), expires_at)

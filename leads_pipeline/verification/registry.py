"""The vendors that can be configured. Add one here, and in ``config.verification``, whose tables a test compares."""

from collections.abc import Mapping

from leads_pipeline.verification.port import Provider
from leads_pipeline.verification.providers.hunter import Hunter
from leads_pipeline.verification.providers.kickbox import Kickbox
from leads_pipeline.verification.providers.neverbounce import NeverBounce
from leads_pipeline.verification.providers.reacher import Reacher
from leads_pipeline.verification.providers.twilio import Twilio
from leads_pipeline.verification.providers.zerobounce import ZeroBounce

PROVIDERS: Mapping[str, Provider] = {
    provider.quirks.vendor: provider
    for provider in (ZeroBounce(), NeverBounce(), Kickbox(), Hunter(), Reacher(), Twilio())
}

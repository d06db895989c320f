"""Look-ups about leads and contacts: what is due, and asking for it."""

from collections.abc import Collection

from leads_pipeline.domain.verification import LookupKind
from leads_pipeline.flows.context import FlowContext
from leads_pipeline.steps.reverified_contacts import ask_again
from leads_pipeline.steps.verifications import VerificationReport, kinds_to_look_up, verify_leads
from leads_pipeline.storage.database import translated_errors


def verify(
    context: FlowContext, *, runner_id: str, seconds: float, kinds: Collection[LookupKind] = tuple(LookupKind)
) -> VerificationReport:
    """Look up what is due about validated leads, the most urgent first; after so many seconds nothing new is asked."""
    with translated_errors("verifications looks up what is due"):
        return verify_leads(
            context.engine,
            settings=context.settings.verification,
            clock=context.clock,
            runner_id=runner_id,
            budget_seconds=seconds,
            kinds=kinds,
        )


def reverify(context: FlowContext, *, runner_id: str) -> dict[str, int]:
    """Ask again for contacts' addresses and numbers of which the verdict has expired, if leads.yaml wants that."""
    with translated_errors("reverification asks again for what has expired"):
        return ask_again(
            context.engine, settings=context.settings.verification, clock=context.clock, runner_id=runner_id
        )


def lookups_due(context: FlowContext) -> list[LookupKind]:
    """The kinds of look-ups of which something is due that somebody can be asked for now."""
    with translated_errors("verifications asks what is due"):
        return kinds_to_look_up(context.engine, settings=context.settings.verification, clock=context.clock)

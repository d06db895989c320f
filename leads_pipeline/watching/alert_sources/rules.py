"""Rules that act: what the system does less of, by itself, until the trouble is over.

Told where something is left out or held up. That chunks are widened or workers asked for is no news: `leads policy
history` has it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from leads_pipeline.domain.alerting import Health, Observation, Trouble
from leads_pipeline.domain.severity import Severity
from leads_pipeline.storage.actions_taken import action_words, actions_in_force, undecided
from leads_pipeline.storage.alerts import open_alerts
from leads_pipeline.watching.alert_sources.watch import Watch

# What an action leaves out or holds up.
COSTS: Mapping[str, str] = {
    "shed_enrichment": "leads go on without their look-ups, and are upgraded later",
    "lower_tier": "leads are looked up less thoroughly",
    "refuse_batch": "the door refuses the batch lane; senders are told to come again",
    "pause_lane": "leads of the lane wait",
    "pause_destination": "contacts wait, and nothing is sent to it",
}
# By the measure that a rule is about.
PLAYBOOKS: Mapping[str, str] = {
    "lookups_stopped": "verification-outage",
    "verification_attempts": "verification-outage",
    "verification_success_rate": "verification-outage",
    "buffer_fullness": "buffer-filling",
    "free_disk_bytes": "disk-full",
    "throttled_rate": "crm-rate-limit",
    "breaker_open": "deliveries-late",
    "delivery_failure_rate": "deliveries-late",
    "dead_letters_open": "deliveries-late",
    "bounce_rate": "high-bounce-rate",
    "rejection_rate": "rejections-rising",
    "dedupe_conflict_rate": "duplicates-rising",
    "review_rate": "duplicates-rising",
}
DEFAULT_PLAYBOOK = "campaign-launch"


def look_at_rules(watch: Watch) -> Sequence[Observation]:
    """One observation for each rule and target that acts, or of which an alert tells that it does.

    That an action ended because its time was up, or because nobody renewed it, is no sign of health.
    """
    with watch.engine.connect() as connection:
        in_force = {
            f"rule:{row.policy}:{row.target}": row
            for row in actions_in_force(connection, tenant=None, now=watch.now)
            if row.action in COSTS
        }
        told = {alert.key for alert in open_alerts(connection, sources=["rule"])} - in_force.keys()
        unclear = {f"rule:{policy}:{target}" for policy, target in undecided(connection)} if told else set()
    found = [Observation(key, Health.UNKNOWN if key in unclear else Health.WELL) for key in sorted(told)]
    for key, row in in_force.items():
        measure = str(row.cause.get("measure", ""))
        facts = (
            ("what it does", COSTS[row.action]),
            ("because", _because(row.cause)),
            ("ends", "by itself once that is over, and at the latest after its longest time"),
        )
        title = f"The rule {row.policy} acts: {action_words(row)}"
        playbook = PLAYBOOKS.get(measure, DEFAULT_PLAYBOOK)
        trouble = Trouble(Severity.TICKET, title, facts, playbook, "leads policy list", row.tenant)
        found.append(Observation.of(key, trouble))
    return found


def _because(cause: Mapping[str, Any]) -> str:
    limits = [f"{word} {cause[word]:g}" for word in ("above", "below") if isinstance(cause.get(word), int | float)]
    value = cause.get("value")
    figure = f"{value:,.4g}" if isinstance(value, int | float) else "not measured"
    return f"{cause.get('measure', 'its condition')} is {figure}{', ' + limits[0] if limits else ''}"

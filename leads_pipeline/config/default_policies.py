"""The rules that are shipped. leads.yaml changes one under its name, key by key; `enabled: false` puts it aside."""

from typing import Any

# What waits in front of deliveries waits for a CRM: nothing that is done to the chain hurries it.
_CHAIN = ["raw_leads", "validated_leads", "deduped_leads", "golden_contacts"]
_URGENT = ["real_time", "near_real_time"]

DEFAULT_POLICIES: dict[str, dict[str, Any]] = {
    "lookups_stopped": {
        "description": "No provider of look-ups can be asked: leads go on at once and are upgraded later.",
        "when": {"measure": "lookups_stopped", "above": 0.5, "combine": "lowest", "per": []},
        "for_seconds": 60,
        "recover_seconds": 120,
        "cool_down_seconds": 60,
        "at_most_seconds": 3_600,
        "then": {"action": "shed_enrichment"},
    },
    "backlog_old": {
        "description": "Urgent leads wait too long: they do not wait for their look-ups as well.",
        "when": {"measure": "oldest_seconds", "above": 180, "lane": _URGENT, "stage": _CHAIN},
        "until": {"below": 60},
        "for_seconds": 60,
        "recover_seconds": 120,
        "cool_down_seconds": 300,
        "at_most_seconds": 3_600,
        "then": {"action": "shed_enrichment"},
    },
    "backlog_very_old": {
        "description": "Urgent leads wait far too long: the most thorough tier asks for less.",
        "when": {"measure": "oldest_seconds", "above": 600, "lane": _URGENT, "stage": _CHAIN},
        "until": {"below": 120},
        "for_seconds": 120,
        "recover_seconds": 300,
        "cool_down_seconds": 600,
        "at_most_seconds": 3_600,
        "then": {"action": "lower_tier"},
    },
    "backlog_deep": {
        "description": "A flood: chunks are larger, so that each lead costs less.",
        "when": {"measure": "queue_depth", "above": 5_000, "stage": _CHAIN},
        "until": {"below": 1_000},
        "for_seconds": 30,
        "recover_seconds": 60,
        "cool_down_seconds": 60,
        "at_most_seconds": 14_400,
        "then": {"action": "resize_chunks", "factor": 4},
    },
    "quiet": {
        "description": "Hardly anything waits: chunks are smaller, so that each is through sooner.",
        "when": {"measure": "queue_depth", "below": 50, "combine": "sum", "per": [], "stage": _CHAIN},
        "until": {"above": 200},
        "for_seconds": 300,
        "recover_seconds": 0,
        "cool_down_seconds": 60,
        "at_most_seconds": 86_400,
        "then": {"action": "resize_chunks", "factor": 0.25},
        # A chunk holds no more than what waits, so that this matters only to who fills a quiet pipeline at once.
        "enabled": False,
    },
    "real_time_late": {
        "description": "Real-time leads wait while there is a batch lane to leave out.",
        "when": {"measure": "oldest_seconds", "above": 120, "lane": ["real_time"], "stage": _CHAIN},
        "until": {"below": 30},
        "for_seconds": 60,
        "recover_seconds": 60,
        "cool_down_seconds": 600,
        "at_most_seconds": 1_800,
        "then": {"action": "pause_lane", "lane": "batch"},
    },
    "buffer_filling": {
        "description": "The buffer fills: imports slow down before its bounds make them.",
        "when": {"measure": "buffer_fullness", "above": 0.6},
        "until": {"below": 0.5},
        "for_seconds": 30,
        "recover_seconds": 60,
        "cool_down_seconds": 60,
        "at_most_seconds": 7_200,
        "then": {"action": "slow_imports", "speed": 0.5},
    },
    "buffer_nearly_full": {
        "description": "The buffer is nearly full: the door refuses the batch lane; its senders keep their leads.",
        "when": {"measure": "buffer_fullness", "above": 0.85},
        "until": {"below": 0.75},
        "for_seconds": 30,
        "recover_seconds": 60,
        "cool_down_seconds": 60,
        "at_most_seconds": 3_600,
        "then": {"action": "refuse_batch"},
    },
    "destination_failing": {
        "description": "Most of what a tenant sends there fails: nothing is sent for a while.",
        "when": {"measure": "delivery_failure_rate", "above": 0.5},
        "until": {"below": 0.2},
        "for_seconds": 120,
        "recover_seconds": 60,
        "cool_down_seconds": 300,
        # Nothing is sent, so that nothing is measured: it ends by itself, and what is sent then is the probe.
        "at_most_seconds": 600,
        "then": {"action": "pause_destination"},
    },
    "more_workers": {
        "description": "More waits than this machine works off: the scale signal asks for more workers.",
        "when": {"measure": "queue_depth", "above": 20_000, "combine": "sum", "per": [], "stage": _CHAIN},
        "until": {"below": 5_000},
        "for_seconds": 120,
        "recover_seconds": 300,
        "cool_down_seconds": 120,
        "at_most_seconds": 86_400,
        "then": {"action": "scale_workers", "workers": 3},
    },
}


def with_defaults(rules: dict[str, Any]) -> dict[str, Any]:
    """What leads.yaml says of rules, on top of those that are shipped: of each, key by key."""
    merged: dict[str, Any] = dict(DEFAULT_POLICIES)
    for name, rule in rules.items():
        shipped = DEFAULT_POLICIES.get(name)
        merged[name] = {**shipped, **rule} if shipped is not None and isinstance(rule, dict) else rule
    return merged

"""What the pipeline knows of itself: how long leads took, what was promised of it, what was done and told about it."""

import sqlalchemy as sa

from leads_pipeline.storage.schema.base import (
    count_column,
    int_column,
    json_column,
    table,
    tenant_column,
    text_column,
    uuid_column,
    when_column,
)

# How long the leads of one chunk had taken when it left them in a room: one row a chunk, written in its transaction and
# folded into latency_histograms soon after. What is in neither table was never measured; nothing is in both.
latency_measurements = table(
    "latency_measurements",
    sa.Column("measurement_id", sa.BigInteger, sa.Identity(), primary_key=True),
    tenant_column(),
    text_column("stage"),
    text_column("destination", server_default=""),  # of deliveries
    when_column("measured_at", index=True),
    json_column("counts"),  # {lane: {bucket: leads}}
)

# The same, added up by the minute, later by the hour: adding buckets is all there is to merging.
latency_histograms = table(
    "latency_histograms",
    text_column("tenant", primary_key=True),
    text_column("lane", primary_key=True),
    text_column("stage", primary_key=True),
    text_column("destination", primary_key=True),
    when_column("began_at", primary_key=True),
    int_column("bucket", primary_key=True),
    int_column("span_seconds"),  # of the row: 60, or 3,600 once it is old
    count_column("leads"),
    sa.Index("ix_latency_histograms_span_seconds", "span_seconds", "began_at"),
    sa.Index("ix_latency_histograms_stage_began_at", "stage", "began_at"),  # a promise is about one station
)

# What each promise has come to, as of its last evaluation. An empty tenant or lane: all of them.
slo_verdicts = table(
    "slo_verdicts",
    text_column("slo", primary_key=True),
    text_column("tenant", primary_key=True),
    text_column("lane", primary_key=True),
    text_column("verdict"),  # kept, burning, broken, no_data
    text_column("severity", nullable=True),  # page, ticket
    count_column("good"),  # events within the window of the objective
    count_column("bad"),
    sa.Column("value", sa.Double, nullable=True),  # of the objective's own measure; null: nothing to judge
    sa.Column("budget_left", sa.Double, nullable=True),  # share of the error budget; negative when overspent
    json_column("burn_rates"),  # [{window_seconds, burn, threshold, events}]
    when_column("since"),  # when this verdict began
    when_column("evaluated_at"),
)

# One row an evaluation, thinned out by retention: for plots and marts.
slo_history = table(
    "slo_history",
    text_column("slo", primary_key=True),
    text_column("tenant", primary_key=True),
    text_column("lane", primary_key=True),
    when_column("evaluated_at", primary_key=True),
    text_column("verdict"),
    count_column("good"),
    count_column("bad"),
    sa.Column("value", sa.Double, nullable=True),
    sa.Column("budget_left", sa.Double, nullable=True),
    sa.Column("burn_rate", sa.Double, nullable=True),  # the worst of its windows that were telling
    sa.Index("ix_slo_history_evaluated_at", "evaluated_at"),
)

# Where going on would do harm, a verdict closes a gate and the outbox claim honours it. A closing ends by itself.
quality_gates = table(
    "quality_gates",
    text_column("tenant", primary_key=True),
    text_column("lane", primary_key=True),  # empty: every lane
    text_column("gate", primary_key=True),  # the name of the SLO
    sa.Column("closed", sa.Boolean, nullable=False),
    text_column("reason", nullable=True),
    when_column("changed_at"),
    when_column("decided_at"),
    when_column("until", nullable=True),  # a closing that nobody renews ends then
    text_column("ruling", nullable=True),  # what an operator decided, above any verdict: open, closed
    text_column("ruled_by", nullable=True),
    text_column("ruled_for", nullable=True),  # why
    when_column("ruled_until", nullable=True),
)

# When a verdict or an operator closed or opened a gate, and until when: for journeys. The row above is what holds now.
gate_history = table(
    "gate_history",
    sa.Column("history_id", sa.BigInteger, sa.Identity(), primary_key=True),
    text_column("gate"),
    text_column("tenant"),  # empty: all
    text_column("lane"),
    text_column("state"),  # closed, open
    text_column("ruled_by", nullable=True),  # null: by a verdict
    text_column("reason", nullable=True),
    when_column("began_at"),
    when_column("until"),  # it ended then at the latest
    when_column("ended_at", nullable=True),
    sa.Index(
        "uq_gate_history_closed",
        "gate",
        "tenant",
        "lane",
        unique=True,
        postgresql_where=sa.text("ruled_by is null and ended_at is null"),
    ),
)

# Where each rule stands at each of its targets.
policy_states = table(
    "policy_states",
    text_column("policy", primary_key=True),
    text_column("target", primary_key=True),  # what it is about, as text: tenant=…,lane=…; empty: everything
    text_column("state"),  # idle, holding, acting, recovering, cooling
    when_column("since"),
    when_column("evaluated_at"),
    sa.Column("value", sa.Double, nullable=True),  # as last measured
    uuid_column("action_id", nullable=True),
)

# What a rule did, why, and until when: an open row is an order that its consumers obey until `ends_at`. Decision and
# order are one row, so that no crash comes between them, and an order that nobody renews ends by itself.
policy_actions = table(
    "policy_actions",
    uuid_column("action_id", primary_key=True),
    text_column("policy"),
    text_column("target"),
    text_column("action"),  # pause_lane, lower_tier, refuse_batch …
    text_column("tenant", nullable=True),  # null: every
    text_column("lane", nullable=True),
    text_column("destination", nullable=True),
    json_column("parameters"),  # what the action needs to be told: a factor, a tier
    json_column("cause"),  # the measure, its value, the limit, since when
    text_column("runner_id"),
    when_column("began_at"),
    when_column("ends_at"),  # renewed for as long as the condition holds
    when_column("ended_at", nullable=True),
    text_column("ended_for", nullable=True),  # recovered, longest, expired, paused, rule_gone, operator
    text_column("ended_by", nullable=True),
    sa.Index("ix_policy_actions_began_at", "began_at"),
    sa.Index("uq_policy_actions_open", "policy", "target", unique=True, postgresql_where=sa.text("ended_at is null")),
)

# What was measured, once a minute: one row a measure, so that rules can be tried on what was. Kept for two days.
measure_history = table(
    "measure_history",
    text_column("measure", primary_key=True),
    when_column("measured_at", primary_key=True),
    json_column("series"),  # [[{label: name}, value]]; a measure that could not be taken has no row
    sa.Index("ix_measure_history_measured_at", "measured_at"),
)

# Rules that an operator has put aside.
policy_pauses = table(
    "policy_pauses",
    text_column("policy", primary_key=True),
    when_column("paused_at"),
    when_column("until", nullable=True),
    text_column("actor"),
    text_column("reason"),
)

# What came of the last look at each thing that is watched, so that anybody can tell what keeps failing, whoever looks.
watch_looks = table(
    "watch_looks",
    text_column("kind", primary_key=True),  # part, rule, measure, promise, source
    text_column("name", primary_key=True),
    when_column("looked_at"),
    when_column("failing_since", nullable=True),  # without a look in between that came to something
    text_column("failure", nullable=True),  # the class of an error, or words of ours
)

# What people are told about: one row from its beginning to its end. While it is open, the same trouble adds to it.
alerts = table(
    "alerts",
    uuid_column("alert_id", primary_key=True),
    text_column("alert_key"),
    text_column("source"),  # slo, policy, run, delivery …
    text_column("severity"),  # page, ticket
    text_column("title"),
    json_column("facts"),  # [[name, value]]: names and numbers of ours
    text_column("playbook", nullable=True),  # the file's name below docs/playbooks, without .md
    text_column("command", nullable=True),  # to look with
    text_column("tenant", nullable=True),
    when_column("opened_at"),
    when_column("last_seen_at"),
    when_column("healthy_since", nullable=True),  # seen to be well again since then, without a break
    count_column("occurrences"),
    when_column("closed_at", nullable=True),
    text_column("closed_for", nullable=True),  # recovered, resolved
    text_column("closed_by", nullable=True),
    sa.Index("uq_alerts_open", "alert_key", unique=True, postgresql_where=sa.text("closed_at is null")),
    sa.Index("ix_alerts_opened_at", "opened_at"),
)

# The outbox of alerts: one row per alert, kind and channel, written with the alert itself.
alert_notices = table(
    "alert_notices",
    sa.Column("notice_id", sa.BigInteger, sa.Identity(), primary_key=True),
    uuid_column("alert_id"),
    text_column("kind"),  # opened, escalated, reminder, recovered
    text_column("channel"),
    text_column("state"),  # waiting, sending, sent, dropped
    int_column("attempts", server_default="0"),
    when_column("created_at"),
    when_column("due_at"),
    when_column("claimed_until", nullable=True),
    when_column("sent_at", nullable=True),
    text_column("last_error", nullable=True),  # a class of failure, never an address or an answer
    sa.Index("ix_alert_notices_due", "due_at", postgresql_where=sa.text("state in ('waiting', 'sending')")),
    sa.Index("ix_alert_notices_alert_id", "alert_id"),
)

# What became of leads after delivery, as senders of mail and CRMs tell it.
outcomes = table(
    "outcomes",
    uuid_column("outcome_id", primary_key=True),
    tenant_column(),
    text_column("kind"),  # hard_bounce, soft_bounce, complaint, opportunity, won, lost
    uuid_column("lead_id", nullable=True),
    uuid_column("contact_id", nullable=True),
    sa.Column("key_sha256", sa.LargeBinary, nullable=False),  # of the sender's own id of the event
    sa.Column("amount", sa.Numeric, nullable=True),  # in the tenant's currency
    text_column("key_id", nullable=True),  # of the API key that told
    when_column("occurred_at"),
    when_column("received_at"),
    sa.UniqueConstraint("tenant", "key_sha256"),
    sa.Index("ix_outcomes_tenant_kind_occurred_at", "tenant", "kind", "occurred_at"),
    sa.Index("ix_outcomes_kind_occurred_at", "kind", "occurred_at"),  # rates of all tenants
    sa.Index("ix_outcomes_lead_id", "lead_id", postgresql_where=sa.text("lead_id is not null")),
    sa.Index("ix_outcomes_contact_id", "contact_id", postgresql_where=sa.text("contact_id is not null")),
)

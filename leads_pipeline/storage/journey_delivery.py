"""What a lead's journey tells of delivery and after: attempts, dead letters, what held it up, what became of it.

Each statement gives (at, event, details) of one table for one lead (``:lead_id``) and its contact (``:contact_id``).
"""

CHAPTERS: dict[str, str] = {
    "sync_attempts": """
        select a.sent_at as at, 'sent' as event,
               jsonb_build_object('destination', a.destination, 'version', a.version, 'attempt', a.attempt,
                                  'verdict', coalesce(a.verdict, 'unanswered'), 'code', a.code,
                                  'http_status', b.http_status,
                                  'answered_after_seconds', round(extract(epoch from a.settled_at - a.sent_at), 3),
                                  'correlation', b.correlation_id, 'batch', a.batch_id,
                                  'runner', b.runner_id) as details
        from sync_attempts a left join crm_sync_batches b using (batch_id)
        where a.contact_id = :contact_id""",
    "bulk_jobs": """
        select j.started_at as at, 'sent in a bulk job' as event,
               jsonb_build_object('job', j.job_id, 'destination', j.destination, 'crm_job', j.crm_job_id,
                                  'step', j.step, 'ended_at', j.ended_at) as details
        from outbox o join bulk_jobs j on j.destination = o.destination and j.claimed_by = o.claimed_by
        where o.contact_id = :contact_id and o.claimed_by is not null and j.ended_at is null""",
    "dead_letters": """
        select died_at as at, 'became a dead letter' as event,
               jsonb_build_object('dead_letter', dead_letter_id, 'destination', destination, 'reason', reason,
                                  'code', code, 'attempts', attempts, 'resolution', resolution) as details
        from dead_letters where contact_id = :contact_id""",
    "dead_letter_actions": """
        select a.acted_at as at, 'dead letter: ' || a.action as event,
               jsonb_build_object('dead_letter', a.dead_letter_id, 'actor', a.actor, 'reason', a.reason,
                                  'details', a.details) as details
        from dead_letters l join dead_letter_actions a using (dead_letter_id)
        where l.contact_id = :contact_id
        union all
        select resolved_at, 'the dead letter was closed: ' || coalesce(resolution, ''),
               jsonb_build_object('dead_letter', dead_letter_id)
        from dead_letters where contact_id = :contact_id and resolved_at is not null""",
    "outbox": """
        select updated_at as at, 'outbox as of now: ' || state as event,
               jsonb_build_object('destination', destination, 'operation', operation, 'wanted_version', wanted_version,
                                  'delivered_version', delivered_version, 'lane', lane, 'attempts', attempts,
                                  'suppressed_for', suppressed_for,
                                  'due_at', case when state = 'waiting' then due_at end,
                                  'crm_record', crm_record_id) as details
        from outbox where contact_id = :contact_id""",
    "gate_history": """
        with waited as (  -- since it belongs to a contact, until it was everywhere or for as long as it waits
            select d.tenant, d.deduped_at as began,
                   case when bool_or(o.state in ('waiting', 'in_flight')) then now()
                        else max(case o.state when 'delivered' then o.delivered_at else o.updated_at end)
                   end as ended,
                   array_agg(o.lane) as lanes
            from deduped_leads d join outbox o using (contact_id)
            where d.lead_id = :lead_id group by d.tenant, d.deduped_at
        )
        select greatest(h.began_at, w.began) as at,
               case when h.ruled_by is not null then 'an operator ruled on a gate: ' || h.state
                    when least(h.ended_at, h.until) > now() then 'a gate is closed for it'
                    else 'a gate was closed for it' end as event,
               jsonb_build_object('gate', h.gate, 'lane', nullif(h.lane, ''), 'reason', h.reason,
                                  'since', h.began_at, 'until', least(h.ended_at, h.until),
                                  'ruled_by', h.ruled_by) as details
        from waited w join gate_history h
          on h.tenant in (w.tenant, '') and (h.lane = '' or h.lane = any(w.lanes))
         and h.began_at < w.ended and least(h.ended_at, h.until) > w.began""",
    "policy_actions": """
        with waited as (  -- from its capture until it was everywhere, refused or taken out, or for as long as it waits
            select r.tenant, r.capture_lane, r.received_at as began,
                   case when x.lead_id is not null then x.decided_at
                        when bool_or(o.state in ('waiting', 'in_flight')) then null
                        when count(o.outbox_id) > 0 then
                            max(case o.state when 'delivered' then o.delivered_at else o.updated_at end)
                        when not exists (select from pending p where p.subject_id = r.lead_id) then
                            (select max(j.rejected_at) from rejected_leads j where j.lead_id = r.lead_id)
                   end as ended,
                   array_agg(o.destination) filter (where o.destination is not null) as destinations,
                   array_agg(o.lane) filter (where o.lane is not null) as lanes
            from raw_leads r
            left join outbox o on o.contact_id = :contact_id
            left join lead_dispositions x on x.lead_id = r.lead_id
            where r.lead_id = :lead_id
            group by r.lead_id, r.tenant, r.capture_lane, r.received_at, x.lead_id, x.decided_at
        )
        select greatest(p.began_at, w.began) as at, 'an order was in force: ' || p.action as event,
               jsonb_build_object('rule', p.policy, 'action_id', p.action_id, 'lane', p.lane,
                                  'destination', p.destination, 'parameters', p.parameters,
                                  'measure', p.cause -> 'measure', 'value', p.cause -> 'value',
                                  'until', coalesce(p.ended_at, p.ends_at), 'ended_for', p.ended_for) as details
        from waited w join policy_actions p
          on p.began_at <= coalesce(w.ended, now()) and coalesce(p.ended_at, p.ends_at) > w.began
         and (p.tenant is null or p.tenant = w.tenant)
         and (p.lane is null or p.lane = w.capture_lane or p.lane = any(w.lanes))
         and (p.destination is null or p.destination = any(w.destinations))
        where not p.parameters ? 'dry_run'""",
    "outcomes": """
        select o.occurred_at as at, 'outcome: ' || o.kind as event,
               jsonb_build_object('outcome', o.outcome_id, 'of_contact', o.contact_id, 'amount', o.amount,
                                  'told_at', o.received_at, 'key', o.key_id) as details
        from outcomes o
        where (o.lead_id = :lead_id or o.contact_id = :contact_id
               or o.contact_id in (select contact_id from contacts where merged_into = :contact_id))
          and o.tenant = :tenant""",
    "lead_dispositions": """
        select decided_at as at, state as event, jsonb_build_object('actor', actor, 'reason', reason) as details
        from lead_dispositions where lead_id = :lead_id""",
    "pending": """
        select since as at, 'waits at the door of ' || stage as event,
               jsonb_build_object('lane', lane, 'revision', revision, 'due_at', due_at) as details
        from pending where subject_id in (cast(:lead_id as uuid), cast(:contact_id as uuid))""",
}

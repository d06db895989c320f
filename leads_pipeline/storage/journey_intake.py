"""What a lead's journey tells of its way in: capture, validation, verification, quality.

Each statement gives (at, event, details) of one table for one lead (``:lead_id``), by index; see ``journey``.
"""

CHAPTERS: dict[str, str] = {
    "buffer": """
        select received_at as at, 'captured, waits in the buffer' as event,
               jsonb_build_object('tenant', tenant, 'source', source, 'lane', lane) as details
        from buffer where lead_id = :lead_id""",
    "raw_leads": """
        select received_at as at, 'captured' as event,
               jsonb_build_object('tenant', tenant, 'source', source, 'lane', capture_lane) as details
        from raw_leads where lead_id = :lead_id
        union all
        select moved_at, 'moved out of the buffer', jsonb_build_object('batch', batch_id, 'runner', runner_id)
        from raw_leads where lead_id = :lead_id""",
    "lead_fetches": """
        select since as at, 'waits for its vendor to be asked' as event,
               jsonb_build_object('source', source, 'lane', lane, 'attempts', attempts, 'last_verdict', last_verdict,
                                  'due_at', due_at) as details
        from lead_fetches where lead_id = :lead_id
        union all
        select cast(context ->> 'fetched_at' as timestamptz),
               'its vendor was asked: ' || (context ->> 'fetch_verdict'),
               jsonb_build_object('attempts', context -> 'fetch_attempts')
        from raw_leads where lead_id = :lead_id and context ->> 'fetched_at' is not null""",
    "consent_events": """
        select occurred_at as at, case when granted then 'consent given' else 'consent withdrawn' end as event,
               jsonb_build_object('purpose', purpose, 'channel', channel, 'legal_basis', legal_basis,
                                  'text_version', text_version) as details
        from consent_events where lead_id = :lead_id""",
    "validated_leads": """
        select validated_at as at, 'validated' as event,
               jsonb_build_object('revision', revision, 'rules', rule_version, 'flags', flags, 'tier', tier,
                                  'value', value_score, 'risk', risk_score, 'risk_factors', risk_factors,
                                  'batch', batch_id, 'runner', runner_id) as details
        from validated_leads where lead_id = :lead_id""",
    "verification_switches": """
        select v.validated_at as at, 'a tier was switched down at that time' as event,
               jsonb_build_object('tier', s.tier, 'treated_as', s.down_to, 'actor', s.actor,
                                  'reason', s.reason) as details
        from validated_leads v join verification_switches s
          on s.since <= v.validated_at and v.validated_at < least(s.until, s.ended_at, 'infinity')
        where v.lead_id = :lead_id""",
    "rejected_leads": """
        select rejected_at as at, 'rejected' as event,
               jsonb_build_object('revision', revision, 'rules', rule_version, 'reasons', reasons, 'batch', batch_id,
                                  'runner', runner_id) as details
        from rejected_leads where lead_id = :lead_id""",
    "lead_corrections": """
        select corrected_at as at,
               case action when 'fix' then 'corrected' when 'replay' then 'replayed'
                           else 'to be judged again' end as event,
               jsonb_build_object('revision', revision, 'actor', actor,
                                  case action when 'replay' then 'replay' else 'reason' end, reason,
                                  'fields', (select jsonb_agg(name order by name) from jsonb_object_keys(fields) name),
                                  'released', case when release then true end) as details
        from lead_corrections where lead_id = :lead_id""",
    "verifications": """
        select verified_at as at,
               case when provider = 'skipped' then 'its look-up was let go'
                    when requested_at = verified_at then 'was known already' else 'verified' end as event,
               jsonb_build_object('kind', kind, 'revision', revision, 'tier', tier, 'provider', provider,
                                  'verdict', verdict, 'reasons', reasons, 'flags', flags,
                                  'cost', case when cost_micros > 0 then cost_micros / 1000000.0 end,
                                  'call', call_id, 'batch', batch_id, 'runner', runner_id) as details
        from verifications where lead_id = :lead_id""",
    "verification_requests": """
        select requested_at as at, 'waits to be looked up' as event,
               jsonb_build_object('kind', kind, 'revision', revision, 'tier', tier, 'attempts', attempts,
                                  'last_reason', last_reason, 'waits_for_mx', case when blocked then true end,
                                  'under_way_in_call', call_id, 'due_at', due_at,
                                  'patience_until', patience_until) as details
        from verification_requests where lead_id = :lead_id""",
    "verification_calls": """
        with asked as (
            select call_id from verifications where lead_id = :lead_id and call_id is not null
            union
            select call_id from verification_requests where lead_id = :lead_id and call_id is not null
        )
        select c.sent_at as at, 'a provider was asked' as event,
               jsonb_build_object('call', c.call_id, 'provider', c.provider, 'kind', c.kind, 'lookups', c.lookups,
                                  'outcome', coalesce(c.outcome, 'unanswered'), 'http_status', c.http_status,
                                  'answered_after_seconds', round(extract(epoch from c.answered_at - c.sent_at), 3),
                                  'batch', c.batch_id, 'runner', c.runner_id) as details
        from asked join verification_calls c using (call_id)""",
    "quality_holds": """
        with lead as (  -- the batch lane alone is held, by source and day
            select tenant, source, (received_at at time zone 'UTC')::date as received_on from raw_leads
            where lead_id = :lead_id and capture_lane = 'batch'
        ), held as (select h.* from lead join quality_holds h using (tenant, source, received_on))
        select held_at as at, 'its source and day were held back' as event,
               jsonb_build_object('hold', hold_id, 'rules', rules, 'runner', runner_id) as details
        from held
        union all
        select ended_at, 'the hold ended: ' || resolution,
               jsonb_build_object('hold', hold_id, 'ended_by', ended_by, 'reason', reason)
        from held where ended_at is not null""",
}

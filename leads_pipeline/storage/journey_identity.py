"""What a lead's journey tells of who it was taken for: its contact, decisions, reviews, the golden contact.

Each statement gives (at, event, details) of one table for one lead (``:lead_id``) and its contact (``:contact_id``).
"""

CHAPTERS: dict[str, str] = {
    "deduped_leads": """
        select deduped_at as at, 'assigned to a contact' as event,
               jsonb_build_object('contact', contact_id, 'decision', decision, 'golden_version', golden_version,
                                  'batch', batch_id, 'runner', runner_id) as details
        from deduped_leads where lead_id = :lead_id
        union all
        select d.deduped_at, 'went on unverified', jsonb_build_object('still_to_look_up', jsonb_agg(late.kind))
        from deduped_leads d
        join lateral (
            select r.kind from verification_requests r
            where r.lead_id = d.lead_id and r.revision = d.revision and r.requested_at < d.deduped_at
            union
            select v.kind from verifications v
            where v.lead_id = d.lead_id and v.revision = d.revision and v.requested_at < d.deduped_at
              and v.verified_at > d.deduped_at
            order by kind
        ) late on true
        where d.lead_id = :lead_id
        group by d.deduped_at""",
    "merge_log": """
        with recursive about as (  -- what names its contact or, going back, one that it came from
            select m.* from merge_log m where m.contact_id = :contact_id or m.other_contact_id = :contact_id
            union
            select m.* from about a
            join merge_log m on m.contact_id in (a.contact_id, a.other_contact_id)
                or m.other_contact_id in (a.contact_id, a.other_contact_id)
            where a.other_contact_id is not null
        )
        select m.merged_at as at,
               case m.kind when 'merge' then 'its contacts were merged'
                           when 'join' then 'joined a contact'
                           when 'move' then 'moved to another contact'
                           when 'split' then 'its contact was split'
                           when 'link' then 'called one person with another lead'
                           when 'unlink' then 'called another person than another lead'
                           when 'undo' then 'a decision was taken back' else m.kind end as event,
               jsonb_build_object('decision', m.merge_id, 'kind', m.kind, 'contact', m.contact_id,
                                  'other_contact', m.other_contact_id, 'actor', m.actor, 'reason', m.reason,
                                  'moved', case when m.lead_ids @> lead.named then true end,
                                  'undoes', m.undoes, 'undone_by', (
                                      select u.merge_id from merge_log u where u.undoes = m.merge_id),
                                  'match_weight', round(m.match_weight::numeric, 2),
                                  'compared', case when m.compared_lead_id is not null then jsonb_build_array(
                                      m.compared_lead_id, m.compared_with_lead_id) end,
                                  'evidence', m.evidence) as details
        from about m
        cross join (
            select jsonb_build_array(jsonb_build_object('lead_id', cast(:lead_id as text))) as named
        ) lead
        where m.lead_ids @> lead.named
           or (m.kind in ('merge', 'split', 'link', 'unlink')
               and cast(:contact_id as uuid) in (m.contact_id, m.other_contact_id))
        order by m.number""",
    "identity_links": """
        select l.made_at as at,
               case l.kind when 'must' then 'is to stay together' else 'is to stay apart' end as event,
               jsonb_build_object('link', l.link_id, 'decision', l.merge_id, 'actor', l.actor, 'reason', l.reason,
                                  'other_leads', (
                                      select jsonb_agg(o.lead_id order by o.lead_id) from identity_link_leads o
                                      where o.link_id = l.link_id and o.side <> m.side),
                                  'withdrawn_at', l.withdrawn_at, 'withdrawn_by', l.withdrawn_by) as details
        from identity_link_leads m join identity_links l on l.link_id = m.link_id
        where m.lead_id = :lead_id""",
    "replays": """
        select r.began_at as at, 'its contact was made anew' as event,
               jsonb_build_object('actor', r.actor, 'replay', r.replay) as details
        from replays r join deduped_leads d on d.lead_id = :lead_id and d.tenant = coalesce(r.tenant, d.tenant)
        where r.stage = 'golden_contacts' and d.lead_id <= r.came_to
          and to_timestamp(('x' || left(replace(cast(d.lead_id as text), '-', ''), 12))::bit(48)::bigint / 1000.0)
              >= r.since""",
    "match_reviews": """
        select opened_at as at, 'put before a person' as event,
               jsonb_build_object('review', review_id, 'other_lead',
                                  case when lead_id = :lead_id then other_lead_id else lead_id end,
                                  'cause', cause, 'match_weight', round(match_weight::numeric, 2),
                                  'state', state) as details
        from match_reviews where lead_id = :lead_id or other_lead_id = :lead_id
        union all
        select decided_at, 'review ' || state,
               jsonb_build_object('review', review_id, 'actor', decided_by, 'reason', reason) as details
        from match_reviews where (lead_id = :lead_id or other_lead_id = :lead_id) and decided_at is not null""",
    "golden_contacts": """
        select updated_at as at, 'golden contact as of now' as event,
               jsonb_build_object('contact', contact_id, 'version', version, 'leads', lead_count, 'batch', batch_id,
                                  'runner', runner_id) as details
        from golden_contacts where contact_id = :contact_id""",
}

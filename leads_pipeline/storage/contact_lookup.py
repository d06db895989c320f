"""The contact behind an address, a number, a lead or a contact's id: through indexes, with the role ``leads_lookup``.

An address or a number finds every contact a lead of which gave it, also where another value survived in the golden
contact. One of them is told; what all of them said on marketing comes with it. Statements are for psycopg's own
parameters: the HTTP door sends them without SQLAlchemy.
"""

from collections.abc import Sequence
from typing import Any

from leads_pipeline.domain.consent import DEFAULT_PURPOSE
from leads_pipeline.domain.contact_lookup import AskedBy, KnownContact, Question

# A switchboard's number or an office's mailbox may stand in thousands of leads; of more than these any are looked at.
MOST_LEADS = 200

_NAMED: dict[AskedBy, str] = {
    # The holder first: it must be found however many leads gave the address.
    AskedBy.EMAIL: f"""
        (select contact_id from golden_contacts where tenant = %(tenant)s and email_key = %(value)s)
        union
        (select contact_id from match_records where email_key = %(value)s and tenant = %(tenant)s limit {MOST_LEADS})
    """,  # noqa: S608 - a constant of this module
    AskedBy.PHONE: f"""
        (select contact_id from match_records where phone_key = %(value)s and tenant = %(tenant)s limit {MOST_LEADS})
    """,  # noqa: S608 - a constant of this module
    AskedBy.LEAD_ID: """
        select contact_id from deduped_leads where lead_id = cast(%(value)s as uuid) and tenant = %(tenant)s
    """,
    AskedBy.CONTACT_ID: "select cast(%(value)s as uuid) as contact_id",
}
# Of several, the one in which what was asked for survived, then the one that was heard of last.
_FIRST: dict[AskedBy, str] = {
    AskedBy.EMAIL: "(g.email_key = %(value)s) is true desc, (g.awaited_email_key = %(value)s) is true desc,",
    AskedBy.PHONE: "(g.phone = %(value)s) is true desc,",
    AskedBy.LEAD_ID: "",
    AskedBy.CONTACT_ID: "",
}

_STATEMENTS: dict[AskedBy, str] = {
    by: f"""
    with named as ({named}),
    living as (
        select distinct coalesce(c.merged_into, c.contact_id) as contact_id
        from named join contacts c on c.contact_id = named.contact_id and c.tenant = %(tenant)s
    ),
    found as materialized (
        select l.contact_id, g.first_name, g.last_name, g.company, g.job_title, g.email_verdict, g.phone_verdict,
            g.phone_line_type, g.consent, g.last_seen_at, g.email_key, g.awaited_email_key, g.phone
        from living l left join golden_contacts g on g.contact_id = l.contact_id
    )
    select g.contact_id, g.first_name, g.last_name, g.company, g.job_title, g.email_verdict, g.phone_verdict,
        g.phone_line_type, g.consent, g.last_seen_at, (select count(*) - 1 from found) as more_contacts,
        array(
            select f.consent -> '{DEFAULT_PURPOSE}' from found f where f.consent ? '{DEFAULT_PURPOSE}'
            union all
            -- Until the next run what was merged away a moment ago has not been folded in.
            select m.consent -> '{DEFAULT_PURPOSE}'
            from living l
            join contacts c on c.merged_into = l.contact_id
            join golden_contacts m on m.contact_id = c.contact_id
            where m.consent ? '{DEFAULT_PURPOSE}'
        ) as marketing_of_all
    from found g
    order by {_FIRST[by]} g.last_seen_at desc nulls last, g.contact_id
    limit 1
    """  # noqa: S608 - text of this module
    for by, named in _NAMED.items()
}


def lookup_statement(question: Question, *, tenant: str) -> tuple[str, dict[str, Any]]:
    """The statement that answers a question, with its parameters."""
    return _STATEMENTS[question.by], {"tenant": tenant, "value": question.value}


def known_contact(rows: Sequence[Sequence[Any]]) -> KnownContact | None:
    """What the statement's rows say."""
    return KnownContact(*rows[0]) if rows else None

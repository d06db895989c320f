"""How contacts and decisions about them are put into words. Values are shown only where the caller says so."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from textwrap import wrap
from typing import TYPE_CHECKING, Any
from uuid import UUID

from leads_pipeline.cli._waterfall import as_text, words
from leads_pipeline.domain.identity_log import DecisionKind, LinkKind, standing
from leads_pipeline.domain.survivorship import GOLDEN_FIELDS

if TYPE_CHECKING:
    from leads_pipeline.domain.identity_log import Decision, Link
    from leads_pipeline.domain.ids import LeadId
    from leads_pipeline.matching.explanation import Explanation
    from leads_pipeline.matching.silent_comparisons import Silence
    from leads_pipeline.steps.contact_explanations import ExplainedContact, ExplainedPair
    from leads_pipeline.storage.contact_deciding import Decided
    from leads_pipeline.storage.contact_reading import ContactCard

Titled = "tuple[str, Explanation]"

_KINDS = {
    DecisionKind.JOIN: "joined",
    DecisionKind.MERGE: "merged",
    DecisionKind.MOVE: "moved",
    DecisionKind.SPLIT: "split",
    DecisionKind.LINK: "linked",
    DecisionKind.UNLINK: "unlinked",
    DecisionKind.UNDO: "undone",
}


def card_lines(card: "ContactCard", *, values: bool) -> list[str]:
    """A contact as it stands. Its leads are numbered, so that others lines can name them."""
    golden = card.golden
    number_of = {str(lead.lead_id): number for number, lead in enumerate(card.leads, start=1)}
    lines = [
        f"contact  {card.contact_id} (tenant {card.tenant})",
        f"since    {card.created_at:%Y-%m-%d %H:%M} UTC, founded by {_named(card.founding_lead_id, number_of)}",
    ]
    lines += [f"merged   {other} was merged into it" for other in card.merged]
    lines += [
        f"{f'lead {number_of[str(lead.lead_id)]}':7}  {lead.lead_id}  {lead.source}, {_stamp(lead.received_at)}, "
        f"{lead.decision}{'' if lead.golden_version is not None else ', not in the golden row yet'}"
        for lead in card.leads
    ]
    if golden is None:
        lines.append("golden   no row yet")
    else:
        lines.append(f"golden   version {golden['version']}, {_stamp(golden['updated_at'])}")
    if card.waits:
        lines.append("         waits to be made anew")
    if golden is not None:
        lines += _fields(golden, number_of, values=values)
        if golden["awaited_email_key"] is not None:
            holder = f"contact {card.email_holder} holds" if card.email_holder else "nobody holds"
            lines.append(f"awaits   its e-mail address, which {holder}: it is delivered without one until then")
        lines += _consent(golden["consent"], number_of)
    for item in card.destinations:
        record = f", record {item.crm_record_id}" if item.crm_record_id else ""
        has = f"has version {item.delivered_version}" if item.delivered_version is not None else "has none"
        lines.append(
            f"sent to  {item.destination}: {item.operation} of version {item.wanted_version} is {item.state}, "
            f"{has}{record}"
        )
    lines += [f"link     {_link(link)}" for link in card.links]
    lines += [f"review   {review} asks whether it is another contact too" for review in card.open_reviews]
    return lines


def _named(lead: object, number_of: Mapping[str, int]) -> str:
    """A lead of this contact by its number, another by its id."""
    number = number_of.get(str(lead))
    return f"lead {lead}" if number is None else f"lead {number}"


def _fields(golden: Mapping[str, Any], number_of: Mapping[str, int], *, values: bool) -> list[str]:
    provenance = golden["provenance"]
    lines = []
    for name in GOLDEN_FIELDS:
        if golden[name] is None:
            continue
        origin = provenance.get(name)
        source = ""
        if origin:
            received = origin["received_at"][:16].replace("T", " ")
            source = f"{_named(origin['lead_id'], number_of)}, {received}, {origin['rule']}"
        lines.append(f"  {name:13}  {source}".rstrip())
        if values:
            lines.append(f"  {'':13}  {golden[name]}")
    if not values:
        lines.append("  (values with --values)")
    return lines


def _consent(consent: Mapping[str, Mapping[str, Mapping[str, Any]]], number_of: Mapping[str, int]) -> list[str]:
    return [
        f"consent  {purpose} by {channel}: {'granted' if item['granted'] else 'withdrawn'} "
        f"{str(item['as_of'])[:16].replace('T', ' ')}, {_named(item['lead_id'], number_of)}"
        for purpose, channels in sorted(consent.items())
        for channel, item in sorted(channels.items())
    ] or ["consent  nobody said anything"]


def history_lines(decisions: Sequence["Decision"]) -> list[str]:
    """Every decision, oldest first."""
    undone = standing(decisions)
    lines = []
    for item in decisions:
        lines.append(f"{_stamp(item.merged_at)}  {_KINDS[item.kind]:8}  {item.merge_id}")
        lines.append(f"    {_said(item)}")
        by = f"by {item.actor}"
        if item.match_weight is not None:
            by += f", weight {item.match_weight:.2f}"
        if item.reason:
            by += f": {item.reason}"
        lines.append(f"    {by}")
        if item.compared is not None:
            lines.append(f"    {_compared(item, item.compared)}")
        if item.merge_id in undone:
            lines.append(f"    taken back by {undone[item.merge_id]}")
        elif item.inverse is None:
            lines.append("    cannot be undone: from before inverses were kept")
    return lines or ["no decision: its leads came without being joined to anybody"]


def _compared(decision: "Decision", leads: "tuple[LeadId, LeadId]") -> str:
    """Which two were compared, the one that moved first."""
    first, second = _moved_first(decision, leads)
    return f"lead {first} was compared with lead {second}"


def _moved_first(decision: "Decision", leads: "tuple[LeadId, LeadId]") -> "tuple[LeadId, LeadId]":
    return leads if leads[0] in decision.moved else (leads[1], leads[0])


def _said(item: "Decision") -> str:
    leads = f"{len(item.moved)} lead(s)" if len(item.moved) != 1 else f"lead {next(iter(item.moved))}"
    match item.kind:
        case DecisionKind.JOIN:
            return f"{leads} joined {item.contact_id}"
        case DecisionKind.MERGE:
            return f"{item.other_contact_id} was merged into {item.contact_id}, with {leads}"
        case DecisionKind.MOVE:
            return f"{leads} went from {item.other_contact_id} to {item.contact_id}"
        case DecisionKind.SPLIT:
            own = "its" if len(item.moved) == 1 else "their"
            return f"{leads} went from {item.contact_id} into a contact of {own} own, {item.other_contact_id}"
        case DecisionKind.LINK:
            merged = f"; {item.other_contact_id} was merged into {item.contact_id}" if item.moved else ""
            return f"two leads were called one person's{merged}"
        case DecisionKind.UNLINK:
            apart = f"; {leads} went to {item.other_contact_id}" if item.moved else ""
            return f"two leads were called two persons'{apart}"
        case DecisionKind.UNDO:
            return f"took back {item.undoes}; {leads} moved"


def decided_lines(decided: "Decided") -> list[str]:
    """What a decision did, or would do."""
    if decided.merge_id is None:
        return ["it was so already: nothing to do"]
    lines = []
    for owner, leads in sorted(decided.leads_of.items()):
        role = "is new" if owner in decided.founded else "lives again" if owner in decided.returned else "stays"
        lines.append(f"contact  {owner} {role}, with {len(leads)} lead(s)")
    lines += [f"contact  {gone} is merged into {into}" for gone, into in sorted(decided.merged_away.items())]
    lines += [f"lead     {lead} goes to {owner}" for lead, owner in sorted(decided.moved.items())]
    lines += [f"link     {_link(link)}" for link in decided.links_made]
    lines += [f"link     {link} is withdrawn" for link in decided.links_withdrawn]
    if decided.carried:
        lines.append(f"consent  {decided.carried} withdrawal(s) hold for both parts from now on")
    if decided.dry_run:
        lines.append("nothing was changed: a dry run")
    else:
        lines.append(f"decision {decided.merge_id} (leads contact undo takes it back)")
    return lines


def _link(link: "Link") -> str:
    sides = " and ".join(_side(side) for side in link.sides)
    what = "are one person" if link.kind is LinkKind.MUST else "are kept apart"
    return f"{link.link_id}: {sides} {what}, by {link.actor}"


def _side(side: Iterable[UUID]) -> str:
    leads = sorted(side)
    return f"lead {leads[0]}" if len(leads) == 1 else f"{len(leads)} leads ({leads[0]} …)"


def pair_explained(pair: "ExplainedPair") -> "tuple[list[str], list[tuple[str, Explanation]]]":
    """Two leads: lines, and what to draw."""
    one, other = pair.explanation.leads or (None, None)
    lines = [f"lead {one}, contact {pair.contacts[0]}", f"lead {other}, contact {pair.contacts[1]}", ""]
    together = pair.contacts[0] == pair.contacts[1]
    lines.append("They are one contact." if together else "They are two contacts.")
    lines += [f"Decided by {_link(link)}" for link in pair.links]
    if together:
        lines += [f"{_stamp(item.merged_at)}: {_said(item)}, by {item.actor}" for item in pair.decisions]
    for item in pair.reviews:
        asked = "votes or sizes spoke against it" if item.cause == "refused" else "between the two cut-offs"
        by = f" by {item.decided_by}" if item.decided_by else ""
        lines.append(f"Review {item.review_id} is {item.state}{by}: weight {item.match_weight:.2f}, {asked}")
    lines += ["", f"As {pair.explanation.model} weighs them now:", *explained_lines(pair.explanation)]
    return lines, [(f"lead {one} and lead {other}", pair.explanation)]


def contact_explained(contact: "ExplainedContact") -> "tuple[list[str], list[tuple[str, Explanation]]]":
    """A contact: lines, and what to draw of each decision that was weighed."""
    lines = [f"contact {contact.contact_id} (tenant {contact.tenant}), {contact.leads} lead(s)"]
    charts: list[tuple[str, Explanation]] = []
    for item in contact.decisions:
        decision, explanation = item.decision, item.explanation
        lines += ["", f"{_stamp(decision.merged_at)}: {_said(decision)}"]
        lines.append(f"  decided by {decision.actor}{f': {decision.reason}' if decision.reason else ''}")
        if explanation is None:
            continue
        first = None
        if explanation.leads:
            first = _moved_first(decision, explanation.leads)[0]
            lines.append(f"  {_compared(decision, explanation.leads)}")
        lines += explained_lines(explanation, first=first, then=True)
        charts.append((f"{_said(decision)}, by {decision.actor}", explanation))
    if not contact.decisions:
        lines.append("nothing was ever decided about it: its lead founded it and nobody joined")
    lines += ["", *_agreement(contact)]
    if contact.left_out:
        lines.append(f"  ({contact.left_out} of its leads were not weighed: every pair would be too many)")
    lines += [f"link     {_link(link)}" for link in contact.links]
    return lines, charts


_SHOWN_AGAINST = 5


def _agreement(contact: "ExplainedContact") -> list[str]:
    if not contact.weighed:
        return []
    verdict = (
        f"Of {contact.weighed} pair(s) of its leads, {contact.in_favour} would be merged by weight alone, and "
        f"{len(contact.against)} speak against it{':' if contact.against else '.'}"
    )
    lines = [verdict]
    lines += [
        f"  {weight:+7.2f}  lead {one} and lead {other}" for one, other, weight in contact.against[:_SHOWN_AGAINST]
    ]
    return lines


def explained_lines(explanation: "Explanation", *, first: "LeadId | None" = None, then: bool = False) -> list[str]:
    """The waterfall, the rules, what spoke against and what said nothing.

    ``first``: the lead that was named first, where it is not that of the smaller id. ``then``: it is about a day past.
    """
    lines = as_text(explanation)
    today = " today" if then else ""
    for rule in explanation.rules:
        vetoed = f", but vetoed: {', '.join(words(veto) for veto in rule.vetoes)}" if rule.vetoes else ": it decides"
        lines.append(f"  rule {rule.rule} agrees{today}{vetoed}")
    against = ", ".join(
        f"{words(item.name)}{f' ({words(item.level)})' if item.level else ''} {item.weight:+.2f}"
        for item in explanation.against
    )
    lines.append(f"  against it: {against or 'nothing that was compared'}")
    if explanation.silent:
        lines.append("  not compared:")
        lines += [f"    {words(item.name):16}  {_silence(item, explanation, first)}" for item in explanation.silent]
    return lines


def _silence(silence: "Silence", explanation: "Explanation", first: "LeadId | None") -> str:
    if len(silence.lacking) > 1:
        return f"neither has {_a(silence.needed)}"
    if silence.lacking:
        first = first or min(explanation.leads or silence.lacking)
        return f"the {'first' if silence.lacking[0] == first else 'second'} has no {silence.needed}"
    return silence.why


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


_VALUE_WIDTH = 29


def side_by_side(given: "Mapping[LeadId, Mapping[str, Any]]", order: "Iterable[LeadId]") -> list[str]:
    """What each lead gave, two side by side, in this order: personal data."""
    leads = [lead for lead in dict.fromkeys(order) if lead in given]
    lines: list[str] = []
    for place in range(0, len(leads), 2):
        pair = leads[place : place + 2]
        lines += ["", *(f"  {f'lead {number}':13}  {lead}" for number, lead in enumerate(pair, start=place + 1))]
        lines += _row("", [f"lead {number}" for number in range(place + 1, place + 1 + len(pair))])
        for name in GOLDEN_FIELDS:
            row = [str(given[lead].get(name) or "") for lead in pair]
            if any(row):
                lines += _row(name, row)
    return lines


def _row(name: str, values: Sequence[str]) -> list[str]:
    """A line, or more where a value is long."""
    columns = [wrap(value, _VALUE_WIDTH) for value in values]
    return [
        f"  {'' if place else name:13}  {'  '.join(part.ljust(_VALUE_WIDTH) for part in parts)}".rstrip()
        for place, parts in enumerate(zip_longest(*columns, fillvalue=""))
    ]


def _stamp(at: Any) -> str:
    return f"{at:%Y-%m-%d %H:%M}"

"""One contact at a time: create, read, update, archive, list, merge, erase."""

from leads_pipeline.crm.sandbox.hubspot.answers import Refusal, already_exists, invalid
from leads_pipeline.crm.sandbox.hubspot.calls import Call, Refused, required, selected, sent_values, whole, written
from leads_pipeline.crm.sandbox.hubspot.properties import EMAIL
from leads_pipeline.crm.sandbox.hubspot.store import Contact
from leads_pipeline.crm.sandbox.hubspot.writing import OBJECT_ID, create_contact, find_contact, update_contact
from leads_pipeline.sandbox.answers import Answer

MAX_MERGES = 250
MAX_PAGE = 100


def create_record(call: Call) -> Answer:
    """201, or 409 if the e-mail belongs to another contact."""
    values = sent_values(call.document())
    with call.account.store.transaction():
        verdict = create_contact(call, values)
    if isinstance(verdict, Refusal):
        return call.refuse(_single(verdict))
    call.account.observations.records_created += 1
    return Answer(201, whole(verdict.contact))


def read_record(call: Call) -> Answer:
    """A contact by record id or by ``idProperty``; archived ones only with ``archived=true``."""
    if _asks_for_archived(call):
        contact = call.account.store.by_id(call.path["id"], archived=True)
        if contact is None:
            return call.refuse(_no_such(call.path["id"]))
    else:
        contact = _addressed(call)
    return Answer(200, selected(contact, _names(call), call.account.store.properties))


def update_record(call: Call) -> Answer:
    """Set the values that were sent."""
    values = sent_values(call.document())
    with call.account.store.transaction():
        verdict = update_contact(call, _addressed(call), values)
    if isinstance(verdict, Refusal):
        return call.refuse(_single(verdict))
    call.account.observations.records_updated += 1
    return Answer(200, written(verdict.contact, verdict.sent))


def archive_record(call: Call) -> Answer:
    """204, whether or not the contact was there."""
    store = call.account.store
    with store.transaction():
        contact = store.by_id(call.path["id"])
        if contact is not None:
            store.archive(contact, now=call.now)
    return Answer(204)


def list_records(call: Call) -> Answer:
    """A page of contacts in the order of ids."""
    limit = whole_number(call.query.get("limit"), default=10, most=MAX_PAGE)
    after = whole_number(call.query.get("after"), default=0, most=None)
    store = call.account.store
    found = store.page(after=after, limit=limit + 1, archived=_asks_for_archived(call))
    body = {"results": [selected(contact, _names(call), store.properties) for contact in found[:limit]]}
    if len(found) > limit:
        return Answer(200, body | {"paging": {"next": {"after": found[limit - 1].id}}})
    return Answer(200, body)


def merge_records(call: Call) -> Answer:
    """Make one contact of two; the id is a new one unless the account keeps the primary's."""
    document = call.document()
    required(document, "primaryObjectId", "objectIdToMerge")
    store = call.account.store
    primary_id, other_id = str(document["primaryObjectId"]), str(document["objectIdToMerge"])
    with store.transaction():
        primary, other = store.by_id(primary_id), store.by_id(other_id)
        for contact, named in ((primary, primary_id), (other, other_id)):
            if contact is None:
                return call.refuse(_no_such(named))
        assert primary is not None
        assert other is not None
        if primary.id == other.id:
            return call.refuse(invalid("A contact cannot be merged with itself"))
        if primary.merges + other.merges + 1 > MAX_MERGES:
            refusal = Refusal(414, "VALIDATION_ERROR", f"Cannot have more than {MAX_MERGES} identities on a profile")
            return call.refuse(refusal)
        keep = call.account.options.merge_keeps_primary_id
        survivor = store.merge(primary, other, keep_primary_id=keep, now=call.now)
    return Answer(200, whole(survivor))


def erase_record(call: Call) -> Answer:
    """Remove a contact for good and block its e-mail; an unknown e-mail is blocked too."""
    document = call.document()
    required(document, "objectId")
    store = call.account.store
    key, id_property = str(document["objectId"]), str(document.get("idProperty") or OBJECT_ID)
    with store.transaction():
        contact = find_contact(call, key, id_property=id_property)
        if isinstance(contact, Refusal):
            return call.refuse(contact)
        if contact is None and id_property == OBJECT_ID:
            contact = store.by_id(key, archived=True)
        if contact is not None:
            emails = [contact.properties.get(EMAIL, ""), *contact.properties.get("hs_additional_emails", "").split(";")]
            store.erase(contact)
        elif id_property == EMAIL:
            emails = [key]
        else:
            return call.refuse(_no_such(key))
        for email in filter(None, emails):
            store.identities.block(email)
    return Answer(204)


def whole_number(value: object, *, default: int, most: int | None) -> int:
    """A number of a query or a body; else the request is refused."""
    if value is None or value == "":
        return default
    text = str(value)
    if not text.isdigit() or len(text) > 18 or (most is not None and not 0 < int(text) <= most):
        raise Refused(invalid(f"{text} is not a number between 1 and {most}" if most else f"{text} is not a number"))
    return int(text)


def _asks_for_archived(call: Call) -> bool:
    return call.query.get("archived", "").lower() == "true"  # HubSpot's client for Python writes True


def _addressed(call: Call) -> Contact:
    key = call.path["id"]
    contact = find_contact(call, key, id_property=call.query.get("idProperty") or OBJECT_ID)
    if isinstance(contact, Refusal):
        raise Refused(contact)
    if contact is None:
        raise Refused(_no_such(key))
    return contact


def _no_such(key: str) -> Refusal:
    return Refusal(404, "OBJECT_NOT_FOUND", "Object not found.  objectId are usually numeric.", {"id": [key]})


def _single(refusal: Refusal) -> Refusal:
    """A lone conflict names the existing record in its message only."""
    if refusal.status != 409:
        return refusal
    return Refusal(409, refusal.category, already_exists(refusal.context["existingId"][0]).message)


def _names(call: Call) -> list[str]:
    return [name for name in call.query.get("properties", "").split(",") if name]

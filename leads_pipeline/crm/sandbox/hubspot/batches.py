"""Batches of up to 100 inputs.

All or nothing unless every input carries an ``objectWriteTraceId`` of its own; then each input has its own verdict and
the answer is a 207. Duplicate ids refuse the whole batch either way. Results do not come in the order of the inputs.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from leads_pipeline.crm.sandbox.hubspot.answers import (
    Refusal,
    batch_answer,
    invalid,
    invalid_properties,
    not_found,
    refused_input,
)
from leads_pipeline.crm.sandbox.hubspot.calls import (
    Call,
    Refused,
    names_in,
    required,
    selected,
    sent_values,
    whole,
    written,
)
from leads_pipeline.crm.sandbox.hubspot.properties import EMAIL
from leads_pipeline.crm.sandbox.hubspot.writing import (
    OBJECT_ID,
    Written,
    create_contact,
    find_contact,
    update_contact,
    upsert_contact,
)
from leads_pipeline.sandbox.answers import Answer
from leads_pipeline.sandbox.faults import FaultKind, FaultRule

MAX_INPUTS = 100


@dataclass(frozen=True, slots=True)
class _Input:
    """One input; ``key`` is empty where the operation needs none."""

    key: str
    id_property: str
    values: dict[str, str | None]
    trace_id: str | None


_Write = Callable[[Call, _Input], Written | Refusal]


def upsert_batch(call: Call) -> Answer:
    """Create or update by e-mail or by a unique property; results say which in ``new``."""

    def write(call: Call, item: _Input) -> Written | Refusal:
        return upsert_contact(call, item.key, item.values, id_property=item.id_property)

    return _write_batch(call, write, keyed=True, status=200, tells_new=True)


def create_batch(call: Call) -> Answer:
    """Create; 201, or 409 as soon as one e-mail exists."""
    return _write_batch(call, lambda call, item: create_contact(call, item.values), keyed=False, status=201)


def update_batch(call: Call) -> Answer:
    """Update by record id or unique value; an unknown one never stops the others."""

    def write(call: Call, item: _Input) -> Written | Refusal:
        found = find_contact(call, item.key, id_property=item.id_property)
        if found is None:
            return not_found(item.key)
        return found if isinstance(found, Refusal) else update_contact(call, found, item.values)

    return _write_batch(call, write, keyed=True, status=200)


def archive_batch(call: Call) -> Answer:
    """Archive by record id; an unknown or archived one is no error."""
    store = call.account.store
    inputs = _inputs(call, keyed=True, has_values=False)
    with store.transaction():
        for item in inputs:
            found = find_contact(call, item.key, id_property=item.id_property)
            if isinstance(found, Refusal):
                raise Refused(found)
            if found is not None:
                store.archive(found, now=call.now)
    return Answer(204)


def read_batch(call: Call) -> Answer:
    """Read by record id or unique value; 207 if some are not there."""
    document = call.document()
    names = names_in(document, "properties")
    id_property = str(document.get("idProperty") or OBJECT_ID)
    results, missing = [], []
    for item in _inputs(call, keyed=True, has_values=False):
        found = find_contact(call, item.key, id_property=id_property)
        if isinstance(found, Refusal):
            return call.refuse(found)
        if found is None:
            missing.append(item.key)
        else:
            results.append(selected(found, names, call.account.store.properties))
    call.account.random.shuffle(results)
    errors = [refused_input(not_found(*missing), trace_id=None)] if missing else []
    return batch_answer(results, errors, status=200, started=call.now, completed=call.now)


def _write_batch(call: Call, write: _Write, *, keyed: bool, status: int, tells_new: bool = False) -> Answer:
    inputs = _inputs(call, keyed=keyed, has_values=True)
    traced = _all_traced(inputs)
    done: list[tuple[_Input, Written]] = []
    told: list[tuple[_Input, Written]] = []  # without those that a fault rule keeps back
    errors: list[dict[str, Any]] = []
    fatal: list[Refusal] = []
    with call.account.store.transaction():
        for item in inputs:
            verdict: Written | Refusal
            rule = _fault_of(call, item)
            if rule is not None and rule.kind is FaultKind.PER_RECORD_ERROR:
                verdict = Refusal(400, rule.category, "This record was refused by a fault rule of the sandbox")
            else:
                verdict = write(call, item)
            if isinstance(verdict, Written):
                done.append((item, verdict))
                told += [(item, verdict)] if rule is None else []
            elif traced or verdict.spares_neighbours:
                errors.append(refused_input(verdict, trace_id=item.trace_id))
            else:
                fatal.append(verdict)
        if fatal:
            raise Refused(_whole_refusal(fatal))
    call.account.observations.records_created += sum(item.new for _, item in done)
    call.account.observations.records_updated += sum(not item.new for _, item in done)
    results = [_result(call, item, verdict, tells_new=tells_new) for item, verdict in told]
    call.account.random.shuffle(results)
    return batch_answer(results, errors, status=status, started=call.now, completed=call.now)


def _result(call: Call, item: _Input, verdict: Written, *, tells_new: bool) -> dict[str, Any]:
    record = whole(verdict.contact) if verdict.new else written(verdict.contact, verdict.sent)
    if tells_new:
        record["new"] = verdict.new
        if item.trace_id is not None and call.account.options.echo_trace_ids:
            record["objectWriteTraceId"] = item.trace_id
    return record


def _inputs(call: Call, *, keyed: bool, has_values: bool) -> list[_Input]:
    document = call.document()
    required(document, "inputs")
    entries = document["inputs"]
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise Refused(invalid("Invalid input JSON on line 1, column 2: inputs must be a list of objects"))
    if not entries:
        raise Refused(invalid("The batch holds no inputs"))
    if len(entries) > MAX_INPUTS:
        raise Refused(invalid(f"The batch holds {len(entries)} inputs; at most {MAX_INPUTS} are allowed"))
    inputs = [_input(entry, keyed=keyed, has_values=has_values) for entry in entries]
    repeated = _repeated(inputs) if keyed else []
    if repeated:
        shown = ", ".join(repeated)
        raise Refused(invalid(f"Duplicate IDs found in batch input: [{shown}]. IDs must be unique", ids=repeated))
    return inputs


def _input(entry: dict[str, Any], *, keyed: bool, has_values: bool) -> _Input:
    if keyed:
        required(entry, "id")
    trace_id = entry.get("objectWriteTraceId")
    return _Input(
        key=str(entry["id"]) if keyed else "",
        id_property=str(entry.get("idProperty") or OBJECT_ID),
        values=sent_values(entry) if has_values else {},
        trace_id=None if trace_id is None else str(trace_id),
    )


def _repeated(inputs: Iterable[_Input]) -> list[str]:
    folded = (item.key.strip().lower() if item.id_property == EMAIL else item.key for item in inputs)
    return [key for key, times in Counter(folded).items() if times > 1]


def _all_traced(inputs: list[_Input]) -> bool:
    traces = {item.trace_id for item in inputs}
    return None not in traces and len(traces) == len(inputs)


def _fault_of(call: Call, item: _Input) -> FaultRule | None:
    texts = [text for text in (item.key, *item.values.values()) if text] or [""]
    rule = call.account.faults.for_record(call.endpoint, texts)
    if rule is not None:
        call.account.observations.faults[rule.kind] += 1
    return rule


def _whole_refusal(fatal: list[Refusal]) -> Refusal:
    """One answer for all: every wrong value is listed; else the first refusal speaks, without naming who it was."""
    faults = [fault for refusal in fatal for fault in refusal.faults]
    if faults:
        return invalid_properties(faults)
    first = fatal[0]
    if first.status == 409:
        return Refusal(409, first.category, "Contact already exists")
    return first

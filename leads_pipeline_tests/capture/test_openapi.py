"""The OpenAPI document is true: schemathesis posts to a running service what it promises, and the opposite."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import schemathesis
import sqlalchemy as sa
from hypothesis import HealthCheck
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from schemathesis import GenerationMode
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.definitions import OPENAPI_31

from leads_pipeline.capture.contact_lookup import LOOKUP_PATH
from leads_pipeline.capture.openapi import REFUSED, openapi_document
from leads_pipeline.capture.openapi_lookup import ASKED_BY
from leads_pipeline.capture.outcome_posts import OUTCOMES_PATH
from leads_pipeline.capture.refusals import REFUSALS, Code
from leads_pipeline.clock import FrozenClock, SystemClock
from leads_pipeline.config import Settings, parse_settings
from leads_pipeline.domain import contact_lookup, outcomes
from leads_pipeline.storage.api_keys import create_lookup_key, create_outcomes_key
from leads_pipeline_tests.capture.running import Capture, make_key, running_service
from leads_pipeline_tests.conftest import LEADS_YAML

EXAMPLES = 25
METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method in METHODS & item.keys():
            yield path, method, item[method]


def test_the_document_is_valid_openapi_3_1_and_every_reference_leads_somewhere(settings: Settings):
    document = openapi_document(settings)
    assert [error.message for error in Draft202012Validator(OPENAPI_31).iter_errors(document)] == []
    for reference in re.findall(r"#/components/schemas/(\w+)", str(document)):
        Draft202012Validator.check_schema(document["components"]["schemas"][reference])
    ids = [operation["operationId"] for _path, _method, operation in operations(document)]
    assert len(ids) == len(set(ids))


def test_every_refusal_stands_in_the_document(settings: Settings):
    assert {code for codes in REFUSED.values() for code in codes} == set(Code)
    for _path, _method, operation in operations(openapi_document(settings)):
        for code in REFUSED.get(operation["operationId"], ()):
            refusal = REFUSALS[code]
            answer = operation["responses"][str(refusal.status)]
            schema = answer["content"]["application/json"]["schema"]
            assert code in schema["properties"]["error"]["properties"]["code"]["enum"]
            assert ("Retry-After" in answer["headers"]) == (refusal.retry_after_seconds is not None)


def test_every_example_of_a_lead_is_one(capture: Capture):
    document = capture.client.get("/openapi.json").json()
    for lead in document["components"]["schemas"]["Lead"]["examples"]:
        assert capture.post(lead).status_code == 202


def test_what_is_served_is_the_document_of_these_settings(capture: Capture):
    answer = capture.client.get("/openapi.json")
    assert answer.json() == openapi_document(capture.settings)
    assert answer.headers["content-type"] == "application/json"


def test_every_address_of_the_document_answers_as_it_says(capture: Capture):
    document = capture.client.get("/openapi.json").json()
    for path, method, operation in operations(document):
        if method != "get" or "{" in path or "security" in operation:
            continue
        answer = capture.client.get(path)
        (media_type,) = operation["responses"]["200"]["content"]
        assert answer.status_code == 200, path
        assert answer.headers["content-type"].partition(";")[0] == media_type, path


def test_what_the_settings_switch_off_is_not_in_the_document(settings: Settings):
    bare = settings.model_copy(
        update={"capture": settings.capture.model_copy(update={"example_page": False, "metrics": False})}
    )
    assert openapi_document(settings)["paths"].keys() - openapi_document(bare)["paths"].keys() == {
        "/example",
        "/metrics",
    }


def test_what_a_contact_is_asked_by_and_told_is_the_code_s(settings: Settings):
    schemas = openapi_document(settings)["components"]["schemas"]
    assert list(ASKED_BY) == list(contact_lookup.AskedBy)
    assert schemas["ContactQuestion"]["properties"].keys() == {*contact_lookup.AskedBy, "country"}
    assert schemas["ContactAnswer"]["properties"].keys() == contact_lookup.answer(None).keys()
    assert tuple(sorted(schemas["Outcome"]["properties"])) == tuple(sorted(outcomes.FIELDS))


# --- schemathesis ------------------------------------------------------------------------------------------------


def test_other_methods_are_answered_with_405_and_those_that_are_allowed(capture: Capture):
    document = capture.client.get("/openapi.json").json()
    for path, item in document["paths"].items():
        if "{" in path:
            continue
        known = {method.upper() for method in METHODS & item.keys()}
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "TRACE"):
            if method in known:
                continue
            answer = capture.client.request(method, path)
            assert answer.status_code == 405, (method, path)
            assert answer.json()["error"]["code"] == "method_not_allowed"
            assert known <= {name.strip() for name in answer.headers["allow"].split(",")}


def test_the_running_service_keeps_every_promise_of_the_document(
    tmp_path: Path, database_url: str, engine: sa.Engine, clock: FrozenClock
):
    """Statuses, media types, headers and bodies are the documented ones, no answer is a 5xx, what the document does
    not allow is refused, and so is every request without its key."""
    with_a_form = LEADS_YAML.replace("webinar: {", "webinar: {kind: form, ", 1)
    settings = parse_settings(with_a_form + "capture: {max_batch_leads: 20}", path=tmp_path / "leads.yaml")
    with running_service(settings, database_url=database_url, clock=SystemClock()) as url:
        keys = {source: make_key(engine, clock, source=source) for source in ("website", "webinar")}
        with engine.begin() as connection:
            lookup_key = create_lookup_key(connection, tenant="acme", now=clock.now()).text
            outcomes_key = create_outcomes_key(connection, tenant="acme", now=clock.now()).text
        of_path = {LOOKUP_PATH: {"website": lookup_key}, OUTCOMES_PATH: {"website": outcomes_key}}
        found: Counter[tuple[str, str, int]] = Counter()
        for result in _described(url).get_all_operations():
            operation = result.ok()
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                # Only where something is sent that the document restricts.
                if mode is GenerationMode.POSITIVE or operation.path in ("/v1/leads", "/v1/leads/batch", *of_path):
                    found += _hold_to_its_word(operation, mode, url=url, keys=of_path.get(operation.path, keys))
    positive, negative = "positive", "negative"
    assert found["/v1/leads", positive, 202]
    assert found["/v1/leads/batch", positive, 202]
    assert found["/v1/in/{tenant}/{source}", positive, 202]
    assert sum(found[LOOKUP_PATH, positive, status] for status in (200, 422))
    assert sum(found[LOOKUP_PATH, negative, status] for status in (400, 415, 422))
    assert found[OUTCOMES_PATH, positive, 202]
    assert sum(found[OUTCOMES_PATH, negative, status] for status in (400, 415, 422))
    assert sum(found["/v1/leads", negative, status] for status in (400, 415, 422))
    assert not {status for _path, _mode, status in found if status >= 500}


# 4xx that no schema can tell: a source that leads.yaml does not hold, a lead nested too deep, a body that is no form,
# the same Idempotency-Key again.
_CONFIG = {
    "generation": {"deterministic": True, "allow-x00": False},
    "checks": {
        "positive_data_acceptance": {"expected-statuses": ["2xx", 303, 400, 401, 403, 404, 405, 409, 415, 422]},
        "negative_data_rejection": {"expected-statuses": [400, 401, 403, 404, 405, 413, 415, 422]},
    },
}


def _described(url: str) -> Any:
    return schemathesis.openapi.from_url(f"{url}/openapi.json", config=SchemathesisConfig.from_dict(_CONFIG))


def _hold_to_its_word(
    operation: Any, mode: GenerationMode, *, url: str, keys: dict[str, str]
) -> Counter[tuple[str, str, int]]:
    """How often each status was answered."""
    found: Counter[tuple[str, str, int]] = Counter()

    @hypothesis.settings(
        max_examples=EXAMPLES,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(
        case=operation.as_strategy(generation_mode=mode),
        source=st.sampled_from(sorted(keys)),
        names_a_source=st.integers(1, 10).map(lambda number: number == 1),
    )
    def try_it(case: schemathesis.Case, source: str, names_a_source: bool) -> None:
        # Else nearly all would be refused before their body is looked at: as not found, or as an unknown source.
        if not names_a_source:
            case.query.pop("source", None)
            case.headers.pop("X-Leads-Source", None)
        if "{source}" in operation.path:
            case.path_parameters = {"tenant": "acme", "source": source}
        else:
            source = "website"
        answer = case.call_and_validate(base_url=url, headers={"Authorization": f"Bearer {keys[source]}"})
        found[operation.path, mode.value, answer.status_code] += 1

    try_it()
    return found

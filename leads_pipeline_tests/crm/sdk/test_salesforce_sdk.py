"""simple-salesforce, unmodified, with a requests session that takes *.salesforce.com to the sandbox.

What it sends and how it reads the answers keeps the sandbox honest. It speaks https to Salesforce's own names only, so
that the session's adapter changes the address of each request; nothing of the client is changed. It is a dependency of
the tests alone.
"""

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from leads_pipeline.clock import SystemClock
from leads_pipeline.crm.sandbox.running import SandboxServer, running_sandbox
from leads_pipeline.crm.sandbox.salesforce.options import SalesforceOptions
from leads_pipeline.sandbox.faults import FaultKind

SECRET, CONSUMER = "a-secret", "3MVG9.consumer"
Connect = Callable[..., Any]


@pytest.fixture(scope="module")
def key_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A private key, and its public one."""
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
    folder = tmp_path_factory.mktemp("keys")
    private, public = folder / "private.pem", folder / "public.pem"
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


@pytest.fixture
def sandbox(key_files: tuple[Path, Path]) -> Iterator[SandboxServer]:
    options = SalesforceOptions(
        token=SECRET, consumer_key=CONSUMER, certificate=key_files[1], requests=1000, duplicate_rule=True
    )
    with running_sandbox(options) as server:
        yield server


def session_to(base_url: str) -> Any:
    """A session for which every https address is the sandbox's."""
    import requests
    from requests.adapters import HTTPAdapter

    class ToSandbox(HTTPAdapter):
        def send(self, request: Any, *args: Any, **keywords: Any) -> Any:
            there = urlsplit(base_url)
            request.url = urlunsplit((there.scheme, there.netloc, *urlsplit(request.url)[2:]))
            return super().send(request, *args, **keywords)

    session = requests.Session()
    session.trust_env = False
    session.mount("https://", ToSandbox())
    return session


@pytest.fixture
def connect(sandbox: SandboxServer) -> Connect:
    """Signs in; importing the client takes a second."""
    from simple_salesforce import Salesforce

    def connected(**credentials: Any) -> Any:
        given = credentials or {"consumer_key": CONSUMER, "consumer_secret": SECRET, "domain": "acme.my"}
        return Salesforce(session=session_to(sandbox.base_url), version="66.0", **given)

    return connected


@pytest.fixture
def sf(connect: Connect) -> Any:
    return connect()


def lead(number: int = 1, **fields: Any) -> dict[str, Any]:
    return {"LastName": "Byron", "Company": "Engines", "Email": f"person{number}@example.com", **fields}


def refused(call: Callable[[], Any]) -> Any:
    """The client's own exception."""
    from simple_salesforce.exceptions import SalesforceError

    with pytest.raises(SalesforceError) as raised:
        call()
    return raised.value


def test_it_signs_in_with_client_credentials_and_calls_with_the_token(sf: Any) -> None:
    assert sf.session_id
    assert sf.limits()["DailyApiRequests"]["Max"] == 1000


def test_it_signs_in_with_a_jwt_whose_signature_is_checked(
    connect: Connect, key_files: tuple[Path, Path], tmp_path: Path
) -> None:
    by_jwt = {"username": "integration@acme.com", "consumer_key": CONSUMER, "domain": "login"}
    sf = connect(**by_jwt, privatekey_file=str(key_files[0]))
    assert sf.query("SELECT COUNT() FROM Lead")["totalSize"] == 0

    other = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
    stranger = tmp_path / "stranger.pem"
    stranger.write_bytes(
        other.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    assert "invalid_grant" in str(refused(lambda: connect(**by_jwt, privatekey_file=str(stranger))))


@pytest.mark.parametrize(
    ("changed", "error"),
    [({"consumer_secret": "wrong"}, "invalid_client"), ({"consumer_key": "x"}, "invalid_client_id")],
)
def test_wrong_credentials_are_refused_in_salesforces_words(
    connect: Connect, changed: dict[str, str], error: str
) -> None:
    given = {"consumer_key": CONSUMER, "consumer_secret": SECRET, "domain": "acme.my", **changed}
    assert error in str(refused(lambda: connect(**given)))


def test_a_session_that_has_expired_is_known_by_its_code_and_renewed_by_the_client(
    sf: Any, connect: Connect, sandbox: SandboxServer
) -> None:
    before = sf.session_id
    sandbox.expire_tokens()
    assert sf.limits()  # it reads INVALID_SESSION_ID, and signs in once more
    assert sf.session_id != before
    assert sandbox.report()["unauthorized"] == 1
    stranger = connect(session_id="nobody-s", instance="acme.my.salesforce.com")
    unknown = refused(stranger.limits)
    assert (unknown.status, unknown.content[0]["errorCode"]) == (401, "INVALID_SESSION_ID")


def test_a_record_is_created_read_changed_and_deleted(sf: Any) -> None:
    made = sf.Lead.create(lead(FirstName="Ada"))
    assert made["success"] is True
    assert sf.Lead.get(made["id"])["Name"] == "Ada Byron"
    assert sf.Lead.update(made["id"], {"FirstName": "Augusta"}) == 204
    assert sf.Lead.get(made["id"])["FirstName"] == "Augusta"
    assert sf.Lead.delete(made["id"]) == 204
    gone = refused(lambda: sf.Lead.get(made["id"]))
    assert (gone.status, gone.content[0]["errorCode"]) == (404, "ENTITY_IS_DELETED")
    assert refused(lambda: sf.Lead.delete(made["id"])).content[0]["errorCode"] == "ENTITY_IS_DELETED"


def test_an_upsert_by_our_key_creates_and_then_changes(sf: Any) -> None:
    assert sf.Lead.upsert("Lead_Key__c/k-1", lead(FirstName="Ada")) == 201
    assert sf.Lead.upsert("Lead_Key__c/k-1", {"FirstName": "Augusta"}) == 200
    held = sf.Lead.get_by_custom_id("Lead_Key__c", "k-1")
    assert (held["FirstName"], held["Lead_Key__c"], held["Company"]) == ("Augusta", "k-1", "Engines")


def test_a_key_that_several_records_hold_is_told_with_their_addresses() -> None:
    from simple_salesforce import Salesforce

    with running_sandbox(SalesforceOptions(token=SECRET, unique_key=False)) as sandbox:
        sf = Salesforce(
            session=session_to(sandbox.base_url), consumer_key="any", consumer_secret=SECRET, domain="acme.my"
        )
        for number in (1, 2):
            sf.Lead.create(lead(number, Lead_Key__c="k-1"))
        several = refused(lambda: sf.Lead.upsert("Lead_Key__c/k-1", {"FirstName": "Ada"}))
        assert (several.status, len(several.content)) == (300, 2)


@pytest.mark.parametrize(
    ("values", "code", "fields"),
    [
        ({"LastName": "Byron"}, "REQUIRED_FIELD_MISSING", ["Company"]),
        (lead(Email="not-an-address"), "INVALID_EMAIL_ADDRESS", ["Email"]),
        (lead(LastName="x" * 81), "STRING_TOO_LONG", ["LastName"]),
        (lead(Status="No such status"), "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", ["Status"]),
        (lead(No_Such__c="x"), "INVALID_FIELD", None),
        (lead(IsConverted=True), "INVALID_FIELD_FOR_INSERT_UPDATE", ["IsConverted"]),
    ],
)
def test_what_cannot_be_is_refused_with_its_code(
    sf: Any, values: dict[str, Any], code: str, fields: list[str] | None
) -> None:
    refusal = refused(lambda: sf.Lead.create(values))
    assert refusal.status == 400
    assert (refusal.content[0]["errorCode"], refusal.content[0].get("fields")) == (code, fields)


def test_a_duplicate_rule_names_the_record_that_it_means(sf: Any) -> None:
    first = sf.Lead.create(lead(1))
    refusal = refused(lambda: sf.Lead.create(lead(1, LastName="Lovelace"))).content[0]
    assert refusal["errorCode"] == "DUPLICATES_DETECTED"
    [match] = refusal["duplicateResult"]["matchResults"][0]["matchRecords"]
    assert match["record"]["Id"] == first["id"]


def test_collections_tell_of_each_record_in_their_order(sf: Any) -> None:
    def entry(key: str, **fields: Any) -> dict[str, Any]:
        return {"attributes": {"type": "Lead"}, "Lead_Key__c": key, **fields}

    records = [entry("a", **lead(1)), entry("b", LastName="Byron"), entry("a", **lead(3)), entry("c", **lead(4))]
    found = sf.restful(
        "composite/sobjects/Lead/Lead_Key__c", method="PATCH", json={"allOrNone": False, "records": records}
    )
    assert [item["success"] for item in found] == [True, False, False, True]
    assert [item.get("created") for item in found] == [True, None, None, True]
    assert [item["errors"][0]["statusCode"] for item in found[1:3]] == ["REQUIRED_FIELD_MISSING", "DUPLICATE_VALUE"]

    rolled_back = sf.restful(
        "composite/sobjects/Lead/Lead_Key__c", method="PATCH",
        json={"allOrNone": True, "records": [entry("d", **lead(5)), entry("e", LastName="Byron")]},
    )  # fmt: skip
    codes = [item["errors"][0]["statusCode"] for item in rolled_back]
    assert codes == ["ALL_OR_NONE_OPERATION_ROLLED_BACK", "REQUIRED_FIELD_MISSING"]
    assert sf.query("SELECT COUNT() FROM Lead")["totalSize"] == 2


def test_more_than_200_records_or_none_are_refused_whole(sf: Any) -> None:
    def upsert(count: int) -> Any:
        records = [{"attributes": {"type": "Lead"}, "Lead_Key__c": str(n), **lead(n)} for n in range(count)]
        return sf.restful("composite/sobjects/Lead/Lead_Key__c", method="PATCH", json={"records": records})

    assert refused(lambda: upsert(201)).status == 400
    assert refused(lambda: upsert(0)).content[0]["errorCode"] == "REQUIRED_FIELD_MISSING"


def test_collections_are_deleted_by_their_ids(sf: Any) -> None:
    ids = [sf.Lead.create(lead(number))["id"] for number in (1, 2)]
    found = sf.restful("composite/sobjects", method="DELETE", params={"ids": ",".join(ids), "allOrNone": "false"})
    assert [item["success"] for item in found] == [True, True]
    again = sf.restful("composite/sobjects", method="DELETE", params={"ids": ids[0]})
    assert again[0]["errors"][0]["statusCode"] == "ENTITY_IS_DELETED"


def test_queries_filter_sort_count_and_turn_pages(sf: Any) -> None:
    for number in range(3):
        sf.Lead.create(lead(number, FirstName=f"Ada{number}", Lead_Key__c=f"k-{number}"))
    found = sf.query("SELECT Id, FirstName FROM Lead WHERE Lead_Key__c IN ('k-0','k-2') ORDER BY FirstName DESC")
    assert [item["FirstName"] for item in found["records"]] == ["Ada2", "Ada0"]
    assert sf.query("SELECT Id FROM Lead WHERE FirstName LIKE 'Ada%' AND Lead_Key__c != null LIMIT 2")["totalSize"] == 2
    assert sf.query("SELECT COUNT() FROM Lead WHERE IsConverted = false")["totalSize"] == 3
    sf.bulk2.Contact.insert(records=[{"LastName": f"Byron{number}"} for number in range(450)])
    pages = sf.query("SELECT Id FROM Contact", headers={"Sforce-Query-Options": "batchSize=200"})
    assert (pages["done"], len(pages["records"]), pages["totalSize"]) == (False, 200, 450)
    assert len(sf.query_all("SELECT Id FROM Contact")["records"]) == 450
    assert refused(lambda: sf.query("SELECT Nothing FROM Lead")).content[0]["errorCode"] == "INVALID_FIELD"
    assert refused(lambda: sf.query("SELEC Id FROM Lead")).content[0]["errorCode"] == "MALFORMED_QUERY"


def test_deleted_records_are_found_by_query_all_only(sf: Any) -> None:
    made = sf.Lead.create(lead())["id"]
    sf.Lead.delete(made)
    assert sf.query("SELECT Id FROM Lead")["totalSize"] == 0
    assert sf.query("SELECT Id, IsDeleted FROM Lead", include_deleted=True)["records"][0]["IsDeleted"] is True
    assert [item["id"] for item in sf.Lead.deleted(*_now())["deletedRecords"]] == [made]


def test_it_describes_the_objects_and_their_fields(sf: Any) -> None:
    assert {item["name"] for item in sf.describe()["sobjects"]} == {"Lead", "Contact"}
    fields = {item["name"]: item for item in sf.Lead.describe()["fields"]}
    assert (fields["Lead_Key__c"]["externalId"], fields["Lead_Key__c"]["unique"]) == (True, True)
    assert (fields["LastName"]["length"], fields["LastName"]["nillable"]) == (80, False)
    assert sf.Lead.metadata()["objectDescribe"]["keyPrefix"] == "00Q"


def test_a_bulk_job_upserts_and_tells_of_each_row(sf: Any) -> None:
    sf.Lead.upsert("Lead_Key__c/k-0", lead(0))
    records = [{"Lead_Key__c": f"k-{n}", "LastName": f"Byron{n}", "Company": "Engines"} for n in range(4)]
    records.append({"Lead_Key__c": "bad", "LastName": "x" * 81, "Company": "Engines"})
    [job] = sf.bulk2.Lead.upsert(records=records, external_id_field="Lead_Key__c")
    assert (job["numberRecordsTotal"], job["numberRecordsFailed"]) == (5, 1)

    successful = _rows(sf.bulk2.Lead.get_successful_records(job["job_id"]))
    assert {row["Lead_Key__c"]: row["sf__Created"] for row in successful} == {
        "k-0": "false", "k-1": "true", "k-2": "true", "k-3": "true",
    }  # fmt: skip
    [failed] = _rows(sf.bulk2.Lead.get_failed_records(job["job_id"]))
    assert (failed["Lead_Key__c"], failed["sf__Error"].partition(":")[0]) == ("bad", "STRING_TOO_LONG")
    assert _rows(sf.bulk2.Lead.get_unprocessed_records(job["job_id"])) == []
    [page] = sf.bulk2.Lead.query("SELECT Id, Lead_Key__c FROM Lead WHERE Lead_Key__c LIKE 'k-%'")
    assert {row["Lead_Key__c"] for row in _rows(page)} == {"k-0", "k-1", "k-2", "k-3"}


def test_a_column_that_the_object_has_not_fails_the_whole_job(sf: Any) -> None:
    from simple_salesforce.exceptions import SalesforceOperationError

    with pytest.raises(SalesforceOperationError, match="Field name not found : No_Such__c"):
        sf.bulk2.Lead.insert(records=[{"LastName": "Byron", "Company": "Engines", "No_Such__c": "x"}])


def test_what_is_used_is_told_with_every_answer_and_a_spent_limit_is_a_403() -> None:
    from simple_salesforce import Salesforce

    with running_sandbox(SalesforceOptions(token=SECRET, requests=3)) as sandbox:
        sf = Salesforce(
            session=session_to(sandbox.base_url), consumer_key="any", consumer_secret=SECRET, domain="acme.my"
        )
        sf.limits()
        assert (sf.api_usage["api-usage"].used, sf.api_usage["api-usage"].total) == (1, 3)
        sf.limits()
        sf.limits()
        refusal = refused(sf.limits)
        assert type(refusal).__name__ == "SalesforceRefusedRequest"
        assert (refusal.status, refusal.content[0]["errorCode"]) == (403, "REQUEST_LIMIT_EXCEEDED")
        assert sandbox.report()["max_accepted_in_any_window"] == 3


def test_a_locked_row_is_a_400_with_its_code(sf: Any, sandbox: SandboxServer) -> None:
    sandbox.set_faults([{"kind": FaultKind.LOCKED_423, "count": 1}])
    locked = refused(lambda: sf.Lead.create(lead()))
    assert (locked.status, locked.content[0]["errorCode"]) == (400, "UNABLE_TO_LOCK_ROW")


def _rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def _now() -> tuple[Any, Any]:
    return SystemClock().now(), SystemClock().now()

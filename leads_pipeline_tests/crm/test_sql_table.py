"""Rows of somebody's table: what is written, what is left alone, and what PostgreSQL's refusals come to."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any
from uuid import UUID

import psycopg
import pytest
from pydantic import SecretStr

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import SecretRef, SqlSettings
from leads_pipeline.crm.clients import BUILDERS
from leads_pipeline.crm.mapping import mapping_rules
from leads_pipeline.crm.port import CrmClient, CrmRecord, CrmRequest, CrmResponse, RecordVerdict
from leads_pipeline.crm.sql_table.client import build
from leads_pipeline.crm.sql_table.sessions import readable_url
from leads_pipeline.crm.sql_table.sqlstates import Fault
from leads_pipeline.domain.delivery import PropertyValue, Verdict
from leads_pipeline.domain.destination_schema import FieldType
from leads_pipeline.domain.mapping import mapping_faults
from leads_pipeline.domain.stage import Operation
from leads_pipeline.errors import ConfigError, CrmError
from leads_pipeline.outbound.access_tokens import MemoryTokens
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.crm.contract import Sending
from leads_pipeline_tests.crm.played_table import PASSWORD, PlayedTable

Make = Callable[..., PlayedTable]


@pytest.fixture
def make(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes the played table, with settings of the destination."""
    with ExitStack() as stack:
        yield lambda **settings: PlayedTable(empty_database_url, stack, monkeypatch, **settings)


@pytest.fixture
def table(make: Make) -> PlayedTable:
    return make()


def record(number: int = 1, *, version: int = 1, operation: Operation = Operation.UPSERT,
           **properties: PropertyValue) -> CrmRecord:  # fmt: skip
    given = {"last_name": "Byron", **properties} if operation is Operation.UPSERT else {}
    return CrmRecord(number, "acme", UUID(int=number), version, operation, properties=given)


def write(table: PlayedTable, *records: CrmRecord, **options: Any) -> dict[int, RecordVerdict]:
    sending = Sending(table.client(**options))
    verdicts = sending.client.deliver(records, courier=sending)
    assert len(sending.asked) == 1  # one transaction, whatever some rows are
    return {item.outbox_id: item for item in verdicts}


def test_an_older_version_changes_nothing_and_is_told(table: PlayedTable) -> None:
    write(table, record(version=5, company="Engines"))
    before = table.rows()
    verdicts = write(table, record(version=4, company="Older"), record(2))
    assert (verdicts[1].verdict, verdicts[1].code) == (Verdict.CONFLICT, "NEWER_VERSION")
    assert "newer version" in (verdicts[1].explanation or "")
    assert verdicts[2].verdict is Verdict.DELIVERED
    assert table.rows()[:1] == before
    assert write(table, record(version=4, operation=Operation.ARCHIVE))[1].code == "NEWER_VERSION"
    assert write(table, record(version=4, operation=Operation.ERASE))[1].verdict is Verdict.DELIVERED
    assert [row["version"] for row in table.rows()] == [1]


def test_what_we_do_not_know_stays_as_the_tables_people_have_it(table: PlayedTable) -> None:
    write(table, record(1, email="a@example.com"), record(2, email="b@example.com", company="Engines"))
    table.owner.execute(f"update {table.table} set company = 'by hand', stage = 'won'")
    write(table, record(1, version=2, email="c@example.com"), record(2, version=2, email="d@example.com", company=""))
    assert [(row["email"], row["company"], row["stage"]) for row in table.rows()] == [
        ("c@example.com", "by hand", "won"), ("d@example.com", None, "won"),
    ]  # fmt: skip


def test_values_reach_columns_of_every_type(table: PlayedTable) -> None:
    values = {"stage": "new", "when": "2026-01-15T12:00:00.000Z", "company": "Robert'); drop table x; -- %s {0} \\"}
    assert write(table, record(1, **values))[1].verdict is Verdict.DELIVERED
    [row] = table.rows()
    assert (row["stage"], row["when"].isoformat(), row["company"]) == (
        "new", row["when"].isoformat(), values["company"],
    )  # fmt: skip
    assert row["when"].timestamp() == 1768478400


def test_each_row_has_its_own_verdict_and_the_good_ones_are_there(table: PlayedTable) -> None:
    table.owner.execute(f"create unique index on {table.table} (company)")
    table.owner.execute(
        f"""
        create function refuse() returns trigger language plpgsql as $$ begin
            if new.company = 'Refused' then raise exception 'not this one'; end if; return new; end $$;
        create trigger refuses before insert on {table.table} for each row execute function refuse();
        """
    )
    write(table, record(100, company="Taken"))
    bad = {
        3: record(3, last_name="x" * 21),
        7: record(7, email="not-an-address"),
        8: record(8, company="Taken"),
        15: record(15, when="no date"),
        20: record(20, company="nul \x00 byte"),
        21: record(21, company="Refused"),
        30: record(30, stage="lost"),
    }
    verdicts = write(table, *[bad.get(number) or record(number) for number in range(1, 31)])
    assert {number: (item.verdict, item.code) for number, item in verdicts.items() if number in bad} == {
        3: (Verdict.INVALID, "STRING_DATA_RIGHT_TRUNCATION"),
        7: (Verdict.INVALID, "CHECK_VIOLATION"),
        8: (Verdict.CONFLICT, "UNIQUE_VIOLATION"),
        15: (Verdict.INVALID, "INVALID_DATETIME_FORMAT"),
        20: (Verdict.INVALID, "UNTRANSLATABLE_CHARACTER"),
        21: (Verdict.INVALID, "RAISE_EXCEPTION"),
        30: (Verdict.INVALID, "INVALID_TEXT_REPRESENTATION"),
    }
    assert all(verdicts[number].explanation for number in bad)
    assert {item.verdict for number, item in verdicts.items() if number not in bad} == {Verdict.DELIVERED}
    assert len(table.rows()) == 1 + 30 - len(bad)


POLICY = """
alter table {table} enable row level security;
create policy ours on {table} using (true) with check (company is distinct from 'Refused');
"""
REFUSES = """
create function refuse() returns trigger language plpgsql as $$ declare found text; begin
    if new.company = 'Refused' then {trouble}; end if; return new; end $$;
create trigger refuses before insert on {table} for each row execute function refuse();
"""


@pytest.mark.parametrize(
    ("change", "trouble", "code"),
    [
        (POLICY, "", "INSUFFICIENT_PRIVILEGE"),
        (REFUSES, "raise exception 'no' using errcode = 'LD001'", "SQLSTATE_LD001"),
        (REFUSES, "raise exception 'no' using errcode = '42501'", "INSUFFICIENT_PRIVILEGE"),
        (REFUSES, "select oid into strict found from pg_class where false", "NO_DATA_FOUND"),
        (REFUSES, "select nothing_of_the_name()", "UNDEFINED_FUNCTION"),
    ],
)
def test_what_a_policy_or_a_trigger_refuses_is_of_its_row(
    table: PlayedTable, change: str, trouble: str, code: str
) -> None:
    table.owner.execute(change.format(table=table.table, trouble=trouble))
    verdicts = write(table, *[record(number, company="Refused" if number == 7 else "") for number in range(1, 21)])
    assert (verdicts[7].verdict, verdicts[7].code) == (Verdict.INVALID, code)
    assert [item.verdict for item in verdicts.values()].count(Verdict.DELIVERED) == len(table.rows()) == 19


@pytest.mark.parametrize(("change", "trouble"), [(POLICY, ""), (REFUSES, "raise exception using errcode = '42501'")])
def test_a_row_that_is_refused_alone_is_still_at_fault_itself(table: PlayedTable, change: str, trouble: str) -> None:
    table.owner.execute(change.format(table=table.table, trouble=trouble))
    assert write(table, record(company="Refused"))[1].verdict is Verdict.INVALID


def test_what_is_checked_at_the_commit_is_told_row_by_row_as_well(table: PlayedTable) -> None:
    table.owner.execute(
        f"""
        create table companies (name text primary key);
        insert into companies values ('Engines');
        alter table {table.table} add foreign key (company) references companies deferrable initially deferred;
        """
    )
    verdicts = write(table, record(1, company="Engines"), record(2, company="Unknown"), record(3))
    assert {number: item.code for number, item in verdicts.items()} == {
        1: None, 2: "FOREIGN_KEY_VIOLATION", 3: None,
    }  # fmt: skip


def test_a_contact_to_whom_other_rows_refer_is_not_taken_for_erased(table: PlayedTable) -> None:
    write(table, record(1), record(2))
    table.owner.execute(
        f"create table orders (contact uuid references {table.table}); insert into orders values ('{UUID(int=1)}')"
    )
    erasures = [record(number, version=2, operation=Operation.ERASE) for number in (1, 2)]
    verdicts = write(table, *erasures)
    assert (verdicts[1].verdict, verdicts[1].code) == (Verdict.INVALID, "FOREIGN_KEY_VIOLATION")
    assert "foreign key" in (verdicts[1].explanation or "")
    assert verdicts[2].verdict is Verdict.DELIVERED


def test_a_row_that_somebody_works_on_holds_up_no_other(table: PlayedTable) -> None:
    write(table, *[record(number, email=f"{number}@") for number in range(1, 11)])
    with closing(psycopg.connect(table.owner_url)) as somebody:
        somebody.execute(f"select from {table.table} where version = 1 and email = '4@' for update")
        verdicts = write(table, *[record(number, version=2) for number in range(1, 11)])
    assert {number for number, item in verdicts.items() if item.verdict is Verdict.LOCKED} == {4}
    assert [row["version"] for row in table.rows()] == [2, 2, 2, 1, 2, 2, 2, 2, 2, 2]


def test_a_statement_that_takes_too_long_is_ended_and_nothing_is_written(table: PlayedTable) -> None:
    table.owner.execute(
        f"""
        create function dawdle() returns trigger language plpgsql as
            $$ begin perform pg_sleep(60); return new; end $$;
        create trigger dawdles before insert on {table.table} for each row execute function dawdle();
        """
    )
    verdict = write(table, record(), timeout_seconds=0.5)[1]
    assert (verdict.verdict, verdict.code) == (Verdict.TRANSIENT, "QUERY_CANCELED")
    assert table.rows() == []


def test_a_batch_that_takes_longer_than_the_time_out_goes_in_parts(table: PlayedTable) -> None:
    table.owner.execute(
        f"""
        create function dawdle() returns trigger language plpgsql as
            $$ begin perform pg_sleep(0.1); return new; end $$;
        create trigger dawdles before insert on {table.table} for each row execute function dawdle();
        """
    )
    sending = Sending(table.client(timeout_seconds=1.5))
    records = [record(number) if number % 2 else record(number, company="Engines") for number in range(1, 17)]
    verdicts = sending.client.deliver(records, courier=sending)
    assert {(item.verdict, item.code) for item in verdicts} == {(Verdict.DELIVERED, None)}
    assert len(table.rows()) == 16
    # Either kind of row alone would have been in time: the statements of one transaction share it.
    assert [(request.records, answer.status) for request, answer in zip(sending.asked, sending.answered, strict=True)][
        :2
    ] == [(16, 503), (8, 200)]


def test_a_database_that_takes_nothing_is_not_asked_for_each_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEADS_TABLE_URL", "postgresql://nobody@127.0.0.1:9/nowhere")
    settings = SqlSettings(vendor="sql", account="a", url=SecretRef(env="LEADS_TABLE_URL"), table="contacts")
    clock = FrozenClock(NOW)
    asked: list[int] = []

    def hangs(request: CrmRequest) -> CrmResponse:
        asked.append(request.records)
        clock.sleep(settings.timeout_seconds)
        return CrmResponse(status=503, body={"fault": Fault("57014"), "missing": ()})

    verdicts = build(settings, MemoryTokens(), clock=clock).deliver(
        [record(number) for number in range(1, 501)], courier=hangs
    )
    assert {item.verdict for item in verdicts} == {Verdict.TRANSIENT}
    assert asked == [500, 250, 125, 62, 63, 125, 250]


def test_a_column_that_is_not_sent_may_refuse_nothing(table: PlayedTable) -> None:
    table.owner.execute(
        f"create domain kind as text not null default 'x'; alter table {table.table} add column kind kind default 'x'"
    )
    assert write(table, record(company="Engines"))[1].verdict is Verdict.DELIVERED
    table.owner.execute(f"update {table.table} set kind = 'theirs'")
    for operation in (Operation.UPSERT, Operation.ARCHIVE):
        assert write(table, record(version=2, operation=operation))[1].verdict is Verdict.DELIVERED
        assert [row["kind"] for row in table.rows()] == ["theirs"]
    assert write(table, record(version=2, operation=Operation.ERASE))[1].verdict is Verdict.DELIVERED


def test_a_column_that_is_changed_meanwhile_is_written_as_it_is_then(table: PlayedTable) -> None:
    sending = Sending(table.client())
    assert [item.verdict for item in sending.client.deliver([record(1)], courier=sending)] == [Verdict.DELIVERED]
    table.owner.execute(
        f"alter table {table.table} drop column full_name, alter last_name type varchar(40), "
        "alter company type integer using null"
    )
    long = record(2, last_name="x" * 30, company="7")
    assert [item.verdict for item in sending.client.deliver([long], courier=sending)] == [Verdict.DELIVERED]
    assert [row["company"] for row in table.rows()] == [None, 7]


def test_a_connection_that_the_server_has_closed_since_is_nobodys_fault(table: PlayedTable) -> None:
    sending = Sending(table.client())
    sending.client.deliver([record()], courier=sending)
    ended = table.owner.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where usename = %s", [table.role]
    )
    assert ended.fetchall() == [(True,)]
    [verdict] = sending.client.deliver([record(version=2)], courier=sending)
    assert verdict.verdict is Verdict.DELIVERED


def test_a_connection_is_used_again(table: PlayedTable) -> None:
    sending = Sending(table.client())
    for version in (1, 2, 3):
        sending.client.deliver([record(version=version), record(2, email="bad", version=version)], courier=sending)
    [(count,)] = table.owner.execute(
        "select count(*) from pg_stat_activity where usename = %s", [table.role]
    ).fetchall()
    assert count == 1


def test_an_archived_row_keeps_when_it_was_archived_and_is_deleted_with_the_person(table: PlayedTable) -> None:
    write(table, record())
    write(table, record(version=2, operation=Operation.ARCHIVE))
    [archived] = [row["Archived %s"] for row in table.rows()]
    write(table, record(version=2, operation=Operation.ARCHIVE))
    assert [(row["version"], row["Archived %s"]) for row in table.rows()] == [(2, archived)]
    write(table, record(version=3, operation=Operation.ERASE))
    assert table.rows() == []


def test_a_table_of_several_tenants_says_whose_a_contact_is(make: Make) -> None:
    table = make(tenant_column="tenant")
    table.owner.execute(f"alter table {table.table} add column tenant text not null")
    write(table, record())
    assert [row["tenant"] for row in table.rows()] == ["acme"]


@pytest.mark.parametrize(
    ("sqlstate", "verdict"),
    [
        ("08006", Verdict.TRANSIENT), ("57P01", Verdict.TRANSIENT), ("57014", Verdict.TRANSIENT),
        ("53100", Verdict.TRANSIENT), ("53300", Verdict.TRANSIENT), ("25006", Verdict.TRANSIENT),
        ("40001", Verdict.LOCKED), ("40P01", Verdict.LOCKED), ("55P03", Verdict.LOCKED),
        ("22001", Verdict.INVALID), ("23502", Verdict.INVALID), ("23514", Verdict.INVALID), ("44000", Verdict.INVALID),
        ("23505", Verdict.CONFLICT),
        ("28000", Verdict.AUTH), ("28P01", Verdict.AUTH), ("3D000", Verdict.AUTH), ("42501", Verdict.AUTH),
        ("42P01", Verdict.AUTH), ("42P10", Verdict.AUTH), ("42804", Verdict.AUTH), ("0A000", Verdict.AUTH),
        ("P0002", Verdict.INVALID), ("LD001", Verdict.INVALID), ("ZZ123", Verdict.INVALID),
    ],
)  # fmt: skip
def test_each_code_is_of_a_class(sqlstate: str, verdict: Verdict) -> None:
    fault = Fault(sqlstate, "Key (email)=(ada@example.com) already exists")
    assert fault.verdict is verdict
    assert fault.code.replace("_", "").isalnum()
    assert "ada@" not in repr(fault)


def described(table: PlayedTable) -> Any:
    client = table.client()
    return client.describe(courier=Sending(client))


def test_the_columns_are_told_as_a_mapping_needs_them(table: PlayedTable) -> None:
    fields = described(table).fields
    assert (fields["last_name"].required, fields["last_name"].max_length) == (True, 20)
    assert (fields["version"].required, fields["made_at"].required) == (False, False)  # filled in without a mapping
    assert (fields["full_name"].read_only, fields["when"].type) == (True, FieldType.DATETIME)
    assert (fields["stage"].type, fields["stage"].options) == (FieldType.CHOICE, frozenset({"new", "won"}))
    assert {name for name, item in fields.items() if item.unique} == {"Contact Id"}


def test_a_mapping_that_does_not_fit_the_table_is_found(table: PlayedTable) -> None:
    settings = SqlSettings(
        vendor="sql", account="a", url=SecretRef(env="X"), table="CRM.Contacts EU", key_column="company",
        archived_column="Archived %s", mapping={"email": "e_mail", "first_name": "full_name"},
    )  # fmt: skip
    faults = mapping_faults(mapping_rules(settings), described(table), key=settings.key())
    assert {(item.name, str(item.fault)) for item in faults} == {
        ("e_mail", "unknown_property"), ("full_name", "read_only"), ("company", "key_not_unique"),
        ("last_name", "required_unmapped"), ("Contact Id", "required_unmapped"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "settings", "said"),
    [
        ("drop table {table}", {}, "any column Contact Id, version, Archived %s"),
        ('alter table {table} drop column "Archived %s"', {}, "any column Archived %s"),
        ("revoke all on {table} from {role}", {}, "any column Contact Id, version"),
        ("alter role {role} password 'other'", {}, "INVALID_AUTHORIZATION_SPECIFICATION.*name and password"),
    ],
)
def test_a_table_that_cannot_be_written_to_says_what_to_do(
    table: PlayedTable, change: str, settings: dict[str, Any], said: str
) -> None:
    table.owner.execute(change.format(table=table.table, role=table.role))
    with pytest.raises(CrmError, match=f"did not tell.*{said}") as caught:
        described(table)
    for secret in (PASSWORD, "correct%20horse", table.role, str(table.middleman.port)):
        assert secret not in str(caught.value)


def test_columns_of_ours_that_are_of_another_type_are_named(make: Make) -> None:
    table = make(version_column="full_name", key_column="made_at")
    with pytest.raises(CrmError, match=r"made_at .key_column. must be uuid or text .*full_name .version_column. must"):
        described(table)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("drop table {table}", "UNDEFINED_TABLE"),
        ('alter table {table} drop column "Archived %s"', "UNDEFINED_COLUMN"),
        ('alter table {table} drop constraint "Contacts EU_pkey"', "INVALID_COLUMN_REFERENCE"),
        ("alter table {table} alter version type timestamptz using now()", "DATATYPE_MISMATCH"),
        ('alter table {table} alter "Archived %s" type text', "DATATYPE_MISMATCH"),
        ("revoke insert on {table} from {role}", "INSUFFICIENT_PRIVILEGE"),
        ("create rule nothing as on insert to {table} do instead nothing", "FEATURE_NOT_SUPPORTED"),
    ],
)
def test_a_table_that_is_not_as_leads_yaml_says_blames_no_contact(table: PlayedTable, change: str, code: str) -> None:
    table.owner.execute(change.format(table=table.table, role=table.role))
    verdicts = write(table, record(1), record(2))
    assert {(item.verdict, item.code) for item in verdicts.values()} == {(Verdict.AUTH, code)}
    assert all("What helps" in (item.explanation or "") for item in verdicts.values())


@pytest.mark.parametrize(
    "url",
    ["", "s3cret", "mysql://root:s3cret@host/db", "postgresql://u:s3cret@host:port/db", "host=h password=s3cret",
     "postgresql://u:s3cret@host/db?nonsense=1"],
)  # fmt: skip
def test_what_is_no_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigError, match=r"TABLE_URL.*postgresql://user:password@host") as caught:
        readable_url(SecretStr(url), variable="TABLE_URL")
    assert "s3cret" not in str(caught.value)


def test_the_url_shows_nowhere(table: PlayedTable, caplog: pytest.LogCaptureFixture) -> None:
    sending = Sending(table.client())
    shown = sending.client.deliver([record(company="Engines"), record(2, email="bad")], courier=sending)
    text = repr([sending.client, vars(sending.client), sending.asked, sending.answered, shown]) + caplog.text
    for secret in (PASSWORD, "correct%20horse", "Engines"):
        assert secret not in text


def test_nothing_is_connected_before_the_first_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEADS_TABLE_URL", "postgresql://nobody@127.0.0.1:9/nowhere")
    settings = SqlSettings(vendor="sql", account="a", url=SecretRef(env="LEADS_TABLE_URL"), table="contacts")
    client: CrmClient = BUILDERS["sql"](settings, MemoryTokens())
    client.close()

"""Files of contacts: whole or not at all, once however often they are sent, harmless in a spreadsheet, without the
erased."""

import csv
import errno
import fcntl
import io
import json
import os
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leads_pipeline.config import FileSettings
from leads_pipeline.crm.files.client import Files, build
from leads_pipeline.crm.files.folder import Folder, NotWritten
from leads_pipeline.crm.files.lines import text_of, without
from leads_pipeline.crm.port import CrmRecord, RecordVerdict
from leads_pipeline.domain.delivery import PropertyValue, Verdict
from leads_pipeline.domain.stage import Operation
from leads_pipeline.errors import CrmError
from leads_pipeline.outbound.access_tokens import MemoryTokens
from leads_pipeline_tests.crm.contract import Sending
from leads_pipeline_tests.crm.played_folder import current, full_disk, lines

FORMATS: tuple[Literal["ndjson", "csv"], ...] = ("ndjson", "csv")


def files(folder: Path, format_: str = "ndjson") -> Files:
    return build(FileSettings(vendor="file", account="a", directory=str(folder), format=format_), MemoryTokens())


def record(
    number: int, *, version: int = 1, operation: Operation = Operation.UPSERT, **properties: PropertyValue
) -> CrmRecord:
    return CrmRecord(number, "acme", UUID(int=number), version, operation, properties=properties)


def write(client: Files, *records: CrmRecord) -> list[RecordVerdict]:
    return client.deliver(records, courier=Sending(client))


def names(folder: Path) -> list[str]:
    """What a reader and nobody else sees: hidden files, too."""
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("format_", FORMATS)
def test_a_batch_is_a_file_and_the_same_batch_is_the_same_file(tmp_path: Path, format_: str) -> None:
    records = [record(number, email=f"{number}@example.com") for number in range(1, 6)]
    write(files(tmp_path, format_), *records)
    once = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    write(files(tmp_path, format_), *reversed(records))
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == once
    assert len(once) == 1
    write(files(tmp_path, format_), *records[:2])  # claimed anew, in another company
    assert len(names(tmp_path)) == 2
    assert len(current(tmp_path)) == 5


def test_two_processes_that_write_the_same_leave_one(tmp_path: Path) -> None:
    records = [record(number, email="a" * 10_000) for number in range(1, 50)]
    with ThreadPoolExecutor(8) as pool:
        verdicts = list(pool.map(lambda _: write(files(tmp_path), *records), range(16)))
    assert {item.verdict for batch in verdicts for item in batch} == {Verdict.DELIVERED}
    assert (len(names(tmp_path)), len(lines(tmp_path))) == (1, 49)


def test_a_line_says_what_the_contact_is(tmp_path: Path) -> None:
    write(files(tmp_path), record(7, version=3, email="zoë@example.com", company="", score=0.5))
    assert lines(tmp_path) == [
        {
            "contact_id": "00000000-0000-0000-0000-000000000007", "tenant": "acme", "version": 3,
            "operation": "upserted", "properties": {"email": "zoë@example.com", "company": None, "score": 0.5},
        }
    ]  # fmt: skip
    [name] = names(tmp_path)
    assert stat.S_IMODE((tmp_path / name).stat().st_mode) & 0o007 == 0  # nobody else reads it


def test_every_csv_file_has_the_columns_of_the_mapping(tmp_path: Path) -> None:
    write(files(tmp_path, "csv"), record(1, email="a@example.com"))
    write(files(tmp_path, "csv"), record(2, last_name="Byron", added="by hand"))
    headers = [(tmp_path / name).read_text(encoding="utf-8").partition("\n")[0] for name in names(tmp_path)]
    usual = (
        "contact_id,tenant,version,operation,email,phone,first_name,last_name,company,job_title,address,city,state,"
        "postcode,country"
    )
    assert sorted(headers) == [usual, f"{usual},added"]


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ('=cmd|" /C calc"!A0', '\'=cmd|" /C calc"!A0'), ("@SUM(1)", "'@SUM(1)"), ("+1+cmd()", "'+1+cmd()"),
        ("-2+3+cmd()", "'-2+3+cmd()"), ("\t=1+1", "'\t=1+1"), ("  =1+1", "'  =1+1"), ("＝1+1", "'＝1+1"),
        ("+436641234567", "+436641234567"), ("-1.5", "-1.5"), (-3, "-3"), (True, "true"), (None, ""),
        ("a=b", "a=b"), ("", ""),
    ],
)  # fmt: skip
def test_no_cell_is_a_formula(tmp_path: Path, value: PropertyValue, cell: str) -> None:
    write(files(tmp_path, "csv"), record(1, company=value))
    [name] = names(tmp_path)
    [row] = csv.DictReader(io.StringIO((tmp_path / name).read_bytes().decode(), newline=""))
    assert row["company"] == cell


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@given(values=st.lists(TEXTS, min_size=1, max_size=4))
def test_whatever_a_value_holds_a_line_of_json_is_one_record(values: Sequence[str]) -> None:
    records = [record(number, company=value, email="x") for number, value in enumerate(values)]
    text = text_of(records, format_="ndjson", properties=()).decode()
    found = [json.loads(line)["properties"]["company"] for line in text.splitlines()]
    assert found == [value or None for value in values]


@given(values=st.lists(TEXTS.filter(lambda text: "\0" not in text), min_size=1, max_size=4))
def test_whatever_a_value_holds_a_row_of_csv_is_one_record_and_begins_no_formula(values: Sequence[str]) -> None:
    records = [record(number, company=value) for number, value in enumerate(values)]
    text = text_of(records, format_="csv", properties=["company"]).decode()
    rows = [row["company"] for row in csv.DictReader(io.StringIO(text, newline=""))]
    assert [row.removeprefix("'") if row != value else row for row, value in zip(rows, values, strict=True)] == values
    assert not any(row.startswith(("=", "@", "\t", "\r")) for row in rows)


@given(values=st.lists(TEXTS.filter(lambda text: "\0" not in text), min_size=2, max_size=5), gone=st.integers(0, 4),
       format_=st.sampled_from(FORMATS))  # fmt: skip
def test_a_file_without_somebody_is_as_if_they_had_never_been_in_it(
    values: Sequence[str], gone: int, format_: Literal["ndjson", "csv"]
) -> None:
    records = [record(number + 1, company=value) for number, value in enumerate(values)]
    text = text_of(records, format_=format_, properties=["company"])
    left = [item for item in records if item.outbox_id != gone + 1]
    found = without(text, {str(UUID(int=gone + 1))}, format_=format_)
    assert found == (None if len(left) == len(records) else text_of(left, format_=format_, properties=["company"]))


@pytest.mark.parametrize("format_", FORMATS)
def test_who_is_erased_is_in_no_file_any_more_and_named_to_those_who_copied(tmp_path: Path, format_: str) -> None:
    client = files(tmp_path, format_)
    write(client, record(1, email="ada@example.com"), record(2, email="bob@example.com"))
    write(client, record(1, version=2, email="ada@example.com", company="Engines"))
    write(client, record(3, email="eve@example.com"))
    both = next(tmp_path / name for name in names(tmp_path) if b"bob@" in (tmp_path / name).read_bytes())
    os.utime(both, ns=(1, 1_000_000_000))
    for _ in range(2):  # again, as after a kill before it was known
        assert {item.verdict for item in write(client, record(1, version=3, operation=Operation.ERASE))} == {
            Verdict.DELIVERED
        }
        everything = b"".join((tmp_path / name).read_bytes() for name in names(tmp_path))
        assert b"ada@example.com" not in everything
        assert b"Engines" not in everything
        assert current(tmp_path).keys() == {str(UUID(int=2)), str(UUID(int=3))}
        assert [(line["contact_id"], line["operation"]) for line in lines(tmp_path) if line["version"] == 3] == [
            (str(UUID(int=1)), "erased")
        ]
        assert both.stat().st_mtime_ns == 1_000_000_000  # of equal versions the last file counts
        assert len(names(tmp_path)) == 3


def test_a_full_disk_loses_nothing_and_leaves_nothing_half(tmp_path: Path) -> None:
    client = files(tmp_path)
    records = [record(1, email="ada@example.com"), record(2, email="bob@example.com")]
    write(client, records[0])
    before = names(tmp_path)
    with full_disk():
        verdicts = write(client, *records)
    assert {(item.verdict, item.code) for item in verdicts} == {(Verdict.TRANSIENT, "EFBIG")}
    assert "make room" in (verdicts[0].explanation or "")
    assert names(tmp_path) == before
    assert {item.verdict for item in write(client, *records)} == {Verdict.DELIVERED}
    erasure = record(1, version=2, operation=Operation.ERASE)
    with full_disk():
        assert write(client, erasure)[0].verdict is not Verdict.DELIVERED  # its line is not there
    assert write(client, erasure)[0].verdict is Verdict.DELIVERED
    assert current(tmp_path).keys() == {str(UUID(int=2))}
    assert [line["operation"] for line in lines(tmp_path) if line["contact_id"] == str(UUID(int=1))] == ["erased"]


def test_a_file_is_on_the_disk_before_it_is_seen_and_its_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[tuple[bool, list[str]]] = []
    really = os.fsync

    def fsync(descriptor: int) -> None:
        really(descriptor)
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        flushed.append((is_folder, [name for name in names(tmp_path) if not name.startswith(".")]))

    monkeypatch.setattr(os, "fsync", fsync)
    write(files(tmp_path), record(1))
    assert flushed == [(False, []), (True, names(tmp_path))]


def test_a_file_that_may_vanish_with_the_power_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, "input/output error")
        really(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        [verdict] = write(files(tmp_path), record(1, email="ada@example.com"))
    assert (verdict.verdict, verdict.code) == (Verdict.AMBIGUOUS, "EIO")
    write(files(tmp_path), record(1, email="ada@example.com"))
    assert len(lines(tmp_path)) == 1


def test_what_a_killed_process_left_is_unseen_and_taken_away_and_what_is_being_written_is_not(tmp_path: Path) -> None:
    dead, alive = tmp_path / ".writing-dead", tmp_path / ".writing-alive"
    client = files(tmp_path)
    with alive.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        dead.write_bytes(b'{"contact_id": ')
        assert lines(tmp_path) == []
        client.describe(courier=Sending(client))
        assert names(tmp_path) == [alive.name]


def test_who_is_erased_is_not_in_what_a_killed_process_left(tmp_path: Path) -> None:
    write(files(tmp_path), record(1, email="ada@example.com"))
    [name] = names(tmp_path)
    (tmp_path / ".writing-0123456789abcdef").write_bytes((tmp_path / name).read_bytes())
    write(files(tmp_path), record(1, version=2, operation=Operation.ERASE))
    assert b"ada@" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


def test_a_file_that_is_taken_for_a_dead_ones_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really, taken = fcntl.flock, list[str]()

    def flock(descriptor: int, operation: int) -> None:
        really(descriptor, operation)
        if not taken:
            taken.append(names(tmp_path)[0])
            (tmp_path / taken[0]).unlink()

    monkeypatch.setattr(fcntl, "flock", flock)
    [verdict] = write(files(tmp_path), record(1, email="ada@example.com"))
    assert (verdict.verdict, taken[0][:9], len(lines(tmp_path))) == (Verdict.DELIVERED, ".writing-", 1)


HALF_LINES = {
    "ndjson": (b'{"contact_id":"%s","properties":{"email":"eve@', b'{"contact_id":"%s"\xff\n', b'["%s"]\n'),
    "csv": (b"%s,acme,1", b'%s,acme,1,upserted,"eve@', b"%s,\xff\r\n"),
}


@pytest.mark.parametrize(("format_", "half"), [(name, half) for name, halves in HALF_LINES.items() for half in halves])
def test_a_damaged_line_goes_with_whom_it_names_and_keeps_nobody_else_from_being_erased(
    tmp_path: Path, format_: str, half: bytes
) -> None:
    client = files(tmp_path, format_)
    write(client, record(1, email="ada@example.com"), record(2, email="bob@example.com"))
    [name] = names(tmp_path)
    with (tmp_path / name).open("ab") as file:
        file.write(half % str(UUID(int=3)).encode())
    for number, left in ((1, (False, True, True)), (3, (False, True, False))):
        assert write(client, record(number, version=2, operation=Operation.ERASE))[0].verdict is Verdict.DELIVERED
        text = (tmp_path / name).read_bytes()
        assert tuple(mark in text for mark in (b"ada@", b"bob@", str(UUID(int=3)).encode())) == left


def test_a_file_that_nobody_can_read_is_named(tmp_path: Path) -> None:
    client = files(tmp_path, "csv")
    write(client, record(1, email="ada@example.com"))
    [name] = names(tmp_path)
    write(client, record(2, email="bob@example.com"), record(1, version=2, email="ada@example.org"))
    with (tmp_path / name).open("ab") as file:
        file.write(b'"' + b"x" * 200_000)
    [verdict] = write(client, record(1, version=3, operation=Operation.ERASE))
    assert (verdict.verdict, verdict.code) == (Verdict.INVALID, "EBADMSG")
    assert name in (verdict.explanation or "")
    assert b"ada@example.org" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


@pytest.mark.parametrize(
    ("number", "verdict", "status"),
    [(errno.ENOENT, Verdict.AUTH, 404), (errno.ENOTDIR, Verdict.AUTH, 404), (errno.EACCES, Verdict.AUTH, 403),
     (errno.EROFS, Verdict.AUTH, 403), (errno.ENOSPC, Verdict.TRANSIENT, 507), (errno.EDQUOT, Verdict.TRANSIENT, 507),
     (errno.EIO, Verdict.TRANSIENT, 503), (errno.EMFILE, Verdict.TRANSIENT, 503)],
)  # fmt: skip
def test_each_failure_of_a_disk_is_of_a_class_and_says_what_to_do(number: int, verdict: Verdict, status: int) -> None:
    failure = NotWritten(OSError(number, "/srv/secret/ada@example.com"))
    assert (failure.verdict, failure.status, failure.code) == (verdict, status, errno.errorcode[number])
    assert failure.explanation
    assert "ada@" not in failure.explanation + str(failure)
    assert NotWritten(OSError(number, ""), uncertain=True).verdict is Verdict.AMBIGUOUS


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    client = files(tmp_path / "unmounted")
    [verdict] = write(client, record(1))
    assert (verdict.verdict, verdict.code) == (Verdict.AUTH, "ENOENT")
    assert "mount its disk" in (verdict.explanation or "")
    with pytest.raises(CrmError, match=r"did not take a file.*mount its disk"):
        client.describe(courier=Sending(client))
    assert names(tmp_path) == []


def test_a_file_that_its_reader_takes_away_meanwhile_is_no_trouble(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    first, second = f"contacts-{'1' * 24}.ndjson", f"contacts-{'2' * 24}.ndjson"
    for name in (first, second):
        folder.put(name, b"x")

    def take_away(name: str, _content: bytes) -> bytes | None:
        (tmp_path / second).unlink(missing_ok=True)
        return b"y" if name == first else None

    assert folder.rewrite(take_away) == 1
    assert (tmp_path / first).read_bytes() == b"y"


def test_erasures_at_once_bring_nobody_back(tmp_path: Path) -> None:
    people = [record(number, email=f"{number}@example.com") for number in range(1, 41)]
    for _ in range(5):
        for start in range(0, 40, 8):
            write(files(tmp_path), *people[start : start + 8])
        write(files(tmp_path, "csv"), *people)
        with ThreadPoolExecutor(8) as pool:
            erasures = [record(item.outbox_id, version=2, operation=Operation.ERASE) for item in people]
            list(pool.map(lambda erasure: write(files(tmp_path), erasure), erasures))
        assert b"@example.com" not in b"".join((tmp_path / name).read_bytes() for name in names(tmp_path))


@pytest.mark.parametrize("format_", FORMATS)
def test_who_is_erased_leaves_files_of_either_format_and_nobody_elses_file_is_touched(
    tmp_path: Path, format_: str
) -> None:
    for each in FORMATS:
        write(files(tmp_path, each), record(1, email="ada@example.com"), record(2, email="bob@example.com"))
    theirs = tmp_path / "contacts-of-sales.ndjson"
    theirs.write_text(f"not ours {UUID(int=1)}\n")
    write(files(tmp_path, format_), record(1, version=2, operation=Operation.ERASE))
    ours = [(tmp_path / name).read_bytes() for name in names(tmp_path) if name != theirs.name]
    assert [b"ada@" in text for text in ours] == [False] * 3
    assert [b"bob@" in text for text in ours].count(True) == 2
    assert theirs.read_text() == f"not ours {UUID(int=1)}\n"


def test_nothing_that_is_sent_shows(tmp_path: Path) -> None:
    client = files(tmp_path)
    sending = Sending(client)
    verdicts: Any = client.deliver([record(1, email="ada@example.com")], courier=sending)
    assert "ada@" not in repr([client, sending.asked, sending.answered, verdicts])
    assert str(tmp_path) not in repr([request.path for request in sending.asked])

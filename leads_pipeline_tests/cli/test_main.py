"""The command line as a whole: every group loads, errors are printed and not traced."""

import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import psycopg
import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from leads_pipeline.cli import _GROUPS, cli, main
from leads_pipeline.cli._audit import WORDS


@pytest.mark.parametrize("name", sorted(_GROUPS))
def test_every_command_loads_and_says_what_it_does(name: str):
    command = cli.get_command(click.Context(cli), name)

    assert command is not None
    assert command.help
    assert command.help.splitlines()[0].endswith((".", ":"))


def modules_of(command: click.Command) -> Iterator[str]:
    """Where a command and those below it are written."""
    if command.callback is not None:
        yield inspect.unwrap(command.callback).__module__
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            below = command.get_command(click.Context(command), name)
            assert below is not None, name
            yield from modules_of(below)


def test_every_module_of_commands_can_be_reached():
    package = Path(sys.modules["leads_pipeline.cli"].__file__ or "").parent
    modules = {f"leads_pipeline.cli.{path.stem}" for path in package.glob("[a-z]*.py")}

    assert modules <= set(modules_of(cli))


def test_a_wrong_configuration_exits_with_2_and_no_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "leads.yaml"
    path.write_text("tenants: {}", encoding="utf-8")

    with pytest.raises(SystemExit) as ended:
        main(["--config", str(path), "status"])

    assert ended.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ")
    assert "tenants" in printed
    assert "Traceback" not in printed


def test_a_drivers_words_are_not_repeated(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def refuse(**_options: object) -> None:
        raise sa.exc.IntegrityError("insert", None, psycopg.errors.UniqueViolation("Key (email)=(ada@b.co) exists"))

    monkeypatch.setattr(cli, "main", refuse)

    with pytest.raises(SystemExit) as ended:
        main(["status"])

    assert ended.value.code == 1
    printed = capsys.readouterr().err
    assert "UniqueViolation (23505)" in printed
    assert "ada" not in printed


def test_a_fault_of_ours_is_traced(monkeypatch: pytest.MonkeyPatch):
    def break_down(**_options: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "main", break_down)

    with pytest.raises(ZeroDivisionError):
        main(["status"])


def test_help_does_not_import_what_only_some_commands_need():
    code = (
        "import sys; from leads_pipeline.cli import cli; cli(['--help'], standalone_mode=False); "
        "print(sorted({'dagster', 'sqlalchemy', 'pandas', 'starlette'} & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "[]"


IDLE_VERIFICATION = """
tenants: {acme: {sources: {website: {}}}}
verification:
  providers: {zb: {vendor: zerobounce, key: {env: PATH}}}
  value: [{points: 10, when: {source: [websit], flag: [disposible]}}, {points: 10, when: {flag: [role_mailbox]}}]
  triage: [{tier: full, when: {tenant: [acme]}}, {tier: minimal}, {tier: none}]
"""


def test_what_can_never_have_an_effect_is_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "leads.yaml"
    path.write_text(IDLE_VERIFICATION, encoding="utf-8")

    result = CliRunner().invoke(cli, ["--config", str(path), "config", "check"])

    assert result.exit_code == 0
    warnings = [line.strip() for line in result.output.splitlines() if "warning" in line]
    assert [line.partition("; known")[0] for line in warnings] == [
        "warning: verification.providers.zb: nobody asks it: verification.mailbox does not name it",
        "warning: verification.triage.2: no lead comes so far: triage.1 takes every one",
        "warning: verification.value.0.when.source: there is no 'websit': the rule never holds for it",
        "warning: verification.value.0.when.flag: there is no 'disposible': the rule never holds for it",
    ]


@pytest.mark.parametrize(
    "command",
    [
        ["verification", "switch", "full", "--to", "none", "--actor", " ", "--reason", "test"],
        ["verification", "switch", "full", "--to", "none", "--actor", "ann", "--reason", ""],
        ["rejected", "discard", "01a2017b-31a9-7173-929e-f96699aeac2a", "--actor", "", "--reason", "test"],
    ],
)
def test_who_decides_and_why_must_be_said(command: list[str]) -> None:
    result = CliRunner().invoke(cli, command)

    assert result.exit_code == 2
    assert "it must not be empty: it is kept with the decision" in result.output


@pytest.mark.parametrize(
    "words",
    [
        "anna@northwind.com says so",
        "anna\uff20northwind.com says so",
        "she called from +1 415 555-2671",
        "she called from (415) 555.2671",
        "call 0301234 back",
        "born 1984\u201102\u201129",
        "ssn 078\u00a005\u00a01120",
        "born 2004-02-29",
        "called on 2026-01-15-4155552671",
        "called 415-2026-01-15",
    ],
)
def test_why_is_kept_and_so_holds_no_address_and_no_number(words: str) -> None:
    said = {"--actor": "grace@example.com", "--reason": words}

    result = CliRunner().invoke(cli, ["quality", "release", "7", *(item for pair in said.items() for item in pair)])

    assert result.exit_code == 2
    shown = " ".join(result.output.replace("│", " ").split())
    assert "must not hold personal data: no @ and no number of 7 or more digits; name a ticket instead" in shown
    assert words not in shown


@pytest.mark.parametrize(
    "words",
    [
        "ticket 123456",
        "tickets 123456, 234567",
        "OPS-4821: two people after all",
        "same as lead 01a2017b-31a9-7173-929e-f96699aeac2a",
        "better than 2026-01-15.1",
        "asked on 2026-01-15, again on 2026-02-01.",
        "  down since 14:30  ",
    ],
)
def test_why_may_name_tickets_ids_and_models(words: str) -> None:
    assert WORDS.convert(words, None, None) == words.strip()

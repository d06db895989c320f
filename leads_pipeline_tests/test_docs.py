"""The docs say what the code does: settings, commands, links."""

import re
import runpy
from pathlib import Path

import pytest

from leads_pipeline import __version__

ROOT = Path(__file__).resolve().parent.parent
write_docs = runpy.run_path(str(ROOT / "scripts/write_docs.py"))


@pytest.mark.parametrize("name", sorted(write_docs["PARTS"]))
def test_what_follows_from_the_code_is_up_to_date(name: str):
    written = (ROOT / name).read_text(encoding="utf-8")

    assert write_docs["with_generated"](written, write_docs["PARTS"][name]()) == written, "run: make docs"


def test_the_json_schema_for_editors_is_up_to_date():
    import json

    from leads_pipeline.config import json_schema

    assert json.loads((ROOT / "docs/leads.schema.json").read_text(encoding="utf-8")) == json_schema()


def test_every_setting_says_what_it_means():
    silent = [path for path, _allowed, _default, meaning in write_docs["setting_rows"]() if not meaning]

    assert silent == []


def markdown_files() -> list[Path]:
    return sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


@pytest.mark.parametrize("path", markdown_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(path: Path):
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", path.read_text(encoding="utf-8"))

    assert [target for target in targets if not (path.parent / target).exists()] == []


def test_the_make_targets_that_the_docs_name_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    named = {
        target
        for path in markdown_files()
        for target in re.findall(r"`make ([a-z-]+)", path.read_text(encoding="utf-8"))
    }

    assert named <= targets


def test_the_commands_that_the_docs_name_exist():
    from leads_pipeline.cli import cli

    known = set(cli.list_commands(None))  # type: ignore[arg-type]
    named = {
        command
        for path in markdown_files()
        for command in re.findall(r"`(?:\.venv/bin/)?leads (?:--config \S+ )?([a-z][a-z-]*)", path.read_text("utf-8"))
    }

    assert named - known - {"pipeline"} == set()


def test_the_changelog_knows_the_version():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")

    assert "## [Unreleased]" in changelog or f"## [{__version__}]" in changelog


def test_no_lock_file_names_an_index():
    for path in ROOT.glob("requirements/*.lock"):
        text = path.read_text(encoding="utf-8")
        assert "://" not in text
        assert "--index" not in text

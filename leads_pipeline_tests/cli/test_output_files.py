"""Files that commands write are checked before the work begins."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from leads_pipeline.cli import cli

WRITING = (
    ("matching", "report", "shipped", "--output"),
    ("matching", "rebuild", "--json"),
    ("contact", "explain", "01a2027a-213b-7592-8000-000000000000", "--chart"),
)


@pytest.mark.parametrize("command", WRITING, ids=" ".join)
def test_a_directory_that_does_not_exist_is_told_before_anything_is_done(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    told = CliRunner().invoke(cli, [*command, str(tmp_path / "nowhere" / "file.html")])
    assert told.exit_code == 2
    assert f"the directory '{tmp_path / 'nowhere'}' does not exist" in told.output

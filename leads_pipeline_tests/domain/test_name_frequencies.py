"""How common names are among people at large."""

import runpy
from pathlib import Path

from leads_pipeline.domain.name_frequencies import COMMON_NAMES, expected_share
from leads_pipeline.domain.text import letters_key

SCRIPT = Path(__file__).parents[2] / "scripts" / "write_name_shares.py"


def test_a_common_name_is_known_by_its_field_and_a_rare_one_is_not() -> None:
    assert expected_share("first_name", "james") == 0.01664
    assert expected_share("last_name", "smith") == 0.01006
    assert expected_share("last_name", "kowalczyk") is None
    assert expected_share("city", "james") is None


def test_names_stand_as_they_are_compared_and_are_shares_of_all_people() -> None:
    for names in COMMON_NAMES.values():
        assert all(letters_key(name) == name for name in names)
        assert 0.2 < sum(names.values()) < 1.0
        assert max(names.values()) < 0.02


def test_the_script_reads_the_bureaus_files_and_leaves_out_who_is_rare(tmp_path: Path) -> None:
    (tmp_path / "dist.all.last").write_text("SMITH          1.006  1.006      1\nQUIST  0.001  1.007  2\n")
    (tmp_path / "dist.male.first").write_text("JAMES          3.318  3.318      1\n")
    (tmp_path / "dist.female.first").write_text("MARY           2.629  2.629      1\nJAMES  0.010  2.639  2\n")

    text = runpy.run_path(str(SCRIPT))["module"](tmp_path)

    assert "james 1664 mary 1314" in text
    assert "smith 1006\n" in text
    assert "quist" not in text

"""Write leads_pipeline/domain/data/name_shares.py: how common the commonest names are.

    python scripts/write_name_shares.py FOLDER

FOLDER holds ``dist.all.last``, ``dist.male.first`` and ``dist.female.first`` of the United States Census Bureau
(1990): a name and its share in percent on each line. What the federal government publishes is in the public domain.
Names below ``LEAST`` are left out: of those a model's average is as good.
"""

import sys
import textwrap
from pathlib import Path

TARGET = Path(__file__).parents[1] / "leads_pipeline" / "domain" / "data" / "name_shares.py"
LEAST = 0.0005
PER = 100_000
HEADER = '''"""How many of 100,000 people have a name, of the commonest: census of the USA, 1990, public domain.

Written by ``scripts/write_name_shares.py``; given names are counted over both sexes alike.
"""
'''


def shares(path: Path) -> dict[str, float]:
    """Name → share, of a file of the bureau."""
    found = {}
    for line in path.read_text(encoding="ascii").splitlines():
        if fields := line.split():
            found[fields[0].lower()] = float(fields[1]) / 100
    return found


def module(folder: Path) -> str:
    """The module's text."""
    men, women = shares(folder / "dist.male.first"), shares(folder / "dist.female.first")
    given = {name: (men.get(name, 0.0) + women.get(name, 0.0)) / 2 for name in men | women}
    return "\n".join(
        (
            HEADER,
            _table("GIVEN_NAMES", given),
            _table("FAMILY_NAMES", shares(folder / "dist.all.last")),
        )
    )


def _table(title: str, found: dict[str, float]) -> str:
    common = sorted((-share, name) for name, share in found.items() if share >= LEAST)
    text = " ".join(f"{name} {round(-share * PER)}" for share, name in common)
    lines = textwrap.fill(text, width=116, initial_indent="    ", subsequent_indent="    ")
    return f'{title} = """\n{lines}\n"""\n'


if __name__ == "__main__":
    TARGET.write_text(module(Path(sys.argv[1])), encoding="utf-8")

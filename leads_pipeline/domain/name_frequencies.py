"""How common a name is among people at large: what a tenant with few contacts cannot know from them yet.

Among a hundred contacts James is as rare as any name, and two of one common name would be taken for one person. Only
names that are common are known here, after the census of the United States; of others the contacts tell.
"""

from leads_pipeline.domain.data.name_shares import FAMILY_NAMES, GIVEN_NAMES

_PER = 100_000


def _read(table: str) -> dict[str, float]:
    words = table.split()
    return {name: int(count) / _PER for name, count in zip(words[::2], words[1::2], strict=True)}


COMMON_NAMES: dict[str, dict[str, float]] = {"first_name": _read(GIVEN_NAMES), "last_name": _read(FAMILY_NAMES)}
"""Field → name, as it is compared → share of people."""


def expected_share(field: str, value: str) -> float | None:
    """The share of people who have ``value`` as their ``field``; ``None`` if it is no name, or none that is common."""
    return COMMON_NAMES.get(field, {}).get(value)

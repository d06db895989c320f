"""Short lists that the rules of validation look things up in, written and kept by hand.

They hold what changes a decision often, not everything there is: a list that nobody reads rots. Keep out: logic.
"""


def words(text: str) -> frozenset[str]:
    """The words of a list that is laid out as text."""
    return frozenset(text.split())

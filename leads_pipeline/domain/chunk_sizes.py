"""How large a tenant's next chunk is: it begins small and doubles while chunks come full.

In a quiet minute the little that waits is through each stage at once; in a flood the cost of a transaction is shared by
many leads after a few steps. Nobody has to count what waits: a full chunk says that there is more. Pure.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ChunkSizes:
    """``first``: of a drain's first chunk; ``most``: what it grows to."""

    first: int
    most: int

    def begin(self) -> int:
        """The size of the first chunk."""
        return min(self.first, self.most)

    def after(self, size: int, *, was_full: bool) -> int:
        """The size of the chunk after one of ``size``."""
        return min(size * 2, self.most) if was_full else size

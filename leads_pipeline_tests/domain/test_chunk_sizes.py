"""Chunks begin small and grow with the backlog."""

from leads_pipeline.domain.chunk_sizes import ChunkSizes


def sizes_of(chunks: ChunkSizes, waiting: int) -> list[int]:
    """The leads of each chunk when so many wait."""
    taken, size = [], chunks.begin()
    while waiting:
        taken.append(min(size, waiting))
        waiting -= taken[-1]
        size = chunks.after(size, was_full=taken[-1] == size)
    return taken


def test_a_quiet_minute_runs_small_and_a_flood_runs_large():
    chunks = ChunkSizes(first=250, most=1_000)
    assert sizes_of(chunks, 20) == [20]
    assert sizes_of(chunks, 600) == [250, 350]
    assert sizes_of(chunks, 5_000)[:4] == [250, 500, 1_000, 1_000]
    assert max(sizes_of(chunks, 50_000)) == 1_000


def test_a_chunk_that_is_not_full_does_not_grow():
    chunks = ChunkSizes(first=10, most=100)
    assert chunks.after(10, was_full=False) == 10
    assert chunks.after(80, was_full=True) == 100


def test_a_ceiling_below_the_first_size_holds():
    assert ChunkSizes(first=250, most=1).begin() == 1

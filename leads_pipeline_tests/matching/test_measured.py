"""What a stretch of work took."""

from leads_pipeline.clock import FrozenClock
from leads_pipeline.matching.measured import measured, peak_memory_mib
from leads_pipeline_tests.conftest import NOW

HUGE = 200 * 1024 * 1024


def test_the_clock_says_how_long_and_the_process_how_much_cpu() -> None:
    clock = FrozenClock(NOW)
    with measured(clock) as meter:
        clock.sleep(12.5)
        sum(range(300_000))
    cost = meter.read()
    assert cost.seconds == 12.5
    assert 0 < cost.cpu_seconds < 12.5


def test_the_peak_is_of_the_work_and_not_of_what_was_before() -> None:
    clock = FrozenClock(NOW)
    bytes(HUGE)  # came and went before
    before = peak_memory_mib()
    with measured(clock) as small:
        pass
    with measured(clock) as large:
        memory = bytearray(HUGE)
        memory[::4096] = b"x" * len(memory[::4096])  # every page is touched
        del memory
    assert small.read().peak_memory_mib <= before
    assert large.read().peak_memory_mib > small.read().peak_memory_mib + 150

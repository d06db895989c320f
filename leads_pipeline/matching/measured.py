"""What a stretch of work takes of this process: wall time, CPU time, the most memory that was resident."""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from leads_pipeline.clock import Clock
from leads_pipeline.matching.evaluation_report import Cost

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
# Linux: the high-water mark of resident memory begins anew (proc_pid_clear_refs(5)).
_RESET_PEAK = "5"
_KIB_PER_MIB = 1024


class Meter:
    """Filled in when the work is done."""

    cost: Cost | None = None

    def read(self) -> Cost:
        """What the work took; it must be done."""
        assert self.cost is not None
        return self.cost


@contextmanager
def measured(clock: Clock) -> Iterator[Meter]:
    """Measure what happens inside. Where the peak cannot be reset, it is that of the whole process so far."""
    meter = Meter()
    reset_peak_memory()
    began, cpu = clock.monotonic(), time.process_time()
    yield meter
    meter.cost = Cost(clock.monotonic() - began, time.process_time() - cpu, peak_memory_mib())


def reset_peak_memory() -> None:
    """Let the peak begin anew, where the system can."""
    try:
        _CLEAR_REFS.write_text(_RESET_PEAK, encoding="ascii")
    except OSError:
        return


def peak_memory_mib() -> float:
    """The most memory that was resident in this process since it began, or since it was reset.

    Not ``ru_maxrss`` where it can be helped: a child has that of the process that started it.
    """
    try:
        for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / _KIB_PER_MIB
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _KIB_PER_MIB

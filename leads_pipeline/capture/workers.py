"""Several capture processes on one port, and who looks after them.

The supervisor opens the sockets, forks the workers and then only watches: it starts a worker again that died, with
growing pauses if it dies at once, kills one whose event loop has stopped, passes SIGTERM on and ends when the last
worker has finished what it accepted. It holds the sockets and the counts, so that neither is lost with a worker.
"""

import contextlib
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType

from leads_pipeline.capture.counts import Gauge, SharedCounts
from leads_pipeline.capture.systemd import Notifier
from leads_pipeline.clock import Clock
from leads_pipeline.telemetry import get_logger

# The first restart is at once, as most deaths have a cause outside; a worker that keeps dying is tried ever rarer.
FIRST_PAUSE_SECONDS = 0.5
MAX_PAUSE_SECONDS = 30.0
# A worker that lived so long is sound: its next death starts the pauses anew.
SOUND_SECONDS = 30.0
# A worker says ten times a second that it lives. Its loop was never seen to stand for more than a second.
SILENT_SECONDS = 30.0
_LOOK_SECONDS = 0.25

_log = get_logger(__name__)
_SIGNALS = (signal.SIGTERM, signal.SIGINT)

Run = Callable[[int, Callable[[], None], int], None]


@dataclass
class _Worker:
    slot: int
    pid: int = 0  # 0: does not run
    started_at: float = 0.0
    is_ready: bool = False
    pause_seconds: float = 0.0
    start_at: float = field(default=0.0)
    ready: int = -1  # where it says that it serves


class Workers:
    """Runs ``run(slot, on_ready, supervisor_pid)`` in ``shared.slots`` processes until SIGTERM or SIGINT.

    ``run`` returns when its process is to end. ``on_ready`` of the constructor is called once, when all serve.
    ``patience_seconds`` is what a worker may take to finish after SIGTERM; then it is killed.
    """

    def __init__(
        self,
        run: Run,
        *,
        shared: SharedCounts,
        clock: Clock,
        notify: Notifier,
        on_ready: Callable[[], None],
        patience_seconds: float,
    ) -> None:
        self._run = run
        self._shared = shared
        self._clock = clock
        self._notify = notify
        self._on_ready = on_ready
        self._patience_seconds = patience_seconds
        self._workers = [_Worker(slot) for slot in range(shared.slots)]
        self._announced = False
        self._stop_asked = False

    def supervise(self) -> None:
        """Return when the workers have ended because they were asked to."""
        with self._woken_by_signals() as wake:
            while not self._stop_asked:
                for worker in self._workers:
                    if not worker.pid and self._clock.monotonic() >= worker.start_at:
                        self._start(worker)
                self._look(wake)
                self._reap()
                self._announce_once()
                self._kill_silent()
                self._notify.alive()
            self._notify.stopping()
            self._stop(wake)

    def _start(self, worker: _Worker) -> None:
        reading, writing = os.pipe()
        supervisor = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            self._become_worker(worker.slot, writing, supervisor)
        os.close(writing)
        worker.pid, worker.ready, worker.is_ready = pid, reading, False
        worker.started_at = self._clock.monotonic()

    def _become_worker(self, slot: int, writing: int, supervisor: int) -> None:
        """In the child: run, and end without what the supervisor's callers would do on their way out."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (*_SIGNALS, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)

            def on_ready() -> None:
                os.write(writing, b"1")

            self._run(slot, on_ready, supervisor)
            code = 0
        except BaseException as error:  # noqa: BLE001 - a process's last words: the class, as elsewhere
            _log.error("capture worker failed", slot=slot, error_class=type(error).__name__)
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.flush()
            os._exit(code)

    def _look(self, wake: int) -> None:
        """Wait for a signal, for a worker that says that it serves, or for the next look round."""
        waiting = [worker for worker in self._workers if worker.ready >= 0]
        found, _, _ = select.select([wake, *(worker.ready for worker in waiting)], [], [], _LOOK_SECONDS)
        if wake in found:
            with contextlib.suppress(BlockingIOError):
                os.read(wake, 4096)
        for worker in waiting:
            if worker.ready in found:
                worker.is_ready = os.read(worker.ready, 1) == b"1"
                os.close(worker.ready)
                worker.ready = -1

    def _reap(self) -> None:
        for worker in self._workers:
            if not worker.pid:
                continue
            ended, status = os.waitpid(worker.pid, os.WNOHANG)
            if not ended:
                continue
            worker.pid = 0
            self._shared.clear_gauges(worker.slot)
            if worker.ready >= 0:
                os.close(worker.ready)
                worker.ready = -1
            if self._stop_asked:
                continue
            now = self._clock.monotonic()
            worker.start_at = now + worker.pause_seconds
            _log.error(
                "capture worker ended",
                slot=worker.slot,
                exit_code=os.waitstatus_to_exitcode(status),
                again_in_seconds=worker.pause_seconds,
            )
            if now - worker.started_at >= SOUND_SECONDS:
                worker.pause_seconds, worker.start_at = 0.0, now
            else:
                worker.pause_seconds = min(MAX_PAUSE_SECONDS, max(FIRST_PAUSE_SECONDS, worker.pause_seconds * 2))

    def _announce_once(self) -> None:
        if not self._announced and all(worker.is_ready for worker in self._workers):
            self._announced = True
            self._on_ready()

    def _kill_silent(self) -> None:
        alive_at = self._shared.each(self._shared.layout.gauges[Gauge.ALIVE_AT])
        for worker in self._workers:
            silent = self._clock.monotonic() - alive_at[worker.slot] / 1_000
            if worker.pid and worker.is_ready and alive_at[worker.slot] and silent > SILENT_SECONDS:
                _log.error("capture worker does not answer", slot=worker.slot, silent_seconds=round(silent))
                os.kill(worker.pid, signal.SIGKILL)

    def _stop(self, wake: int) -> None:
        for worker in self._workers:
            if worker.pid:
                os.kill(worker.pid, signal.SIGTERM)
        deadline = self._clock.monotonic() + self._patience_seconds
        while any(worker.pid for worker in self._workers):
            self._look(wake)
            self._reap()
            if self._clock.monotonic() > deadline:
                for worker in self._workers:
                    if worker.pid:
                        _log.error("capture worker did not finish", slot=worker.slot)
                        os.kill(worker.pid, signal.SIGKILL)

    @contextlib.contextmanager
    def _woken_by_signals(self) -> Iterator[int]:
        def ask(_number: int, _frame: FrameType | None) -> None:
            self._stop_asked = True

        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        os.set_blocking(writing, False)
        woken_before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        before = {number: signal.signal(number, ask) for number in _SIGNALS}
        before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        try:
            yield reading
        finally:
            for number, disposition in before.items():
                signal.signal(number, disposition)
            signal.set_wakeup_fd(woken_before)
            os.close(reading)
            os.close(writing)

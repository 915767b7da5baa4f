"""``python -m dataset_svc.hub``: one ingest task, from standard input to standard output.

The first line of the input is the task; its end is the end of the service, and this process ends with it.
"""

import os
import resource
import sys
import threading
import time

from dataset_svc.hub.protocol import HubFailure, HubMessage, HubTask, Progress

_REPORT_EVERY_S = 0.25
_CHECK_MEMORY_EVERY_S = 0.1
_PEAK_UNIT = 1 if sys.platform == "darwin" else 1024


class _Reporter:
    """Writes messages; progress not more often than the service can use it."""

    def __init__(self, descriptor: int) -> None:
        self._out = os.fdopen(descriptor, "w", encoding="utf-8")
        self._lock = threading.Lock()
        self._phase = ""
        self._told = 0.0

    def progress(self, progress: Progress) -> None:
        now = time.monotonic()
        if progress.phase != self._phase or now - self._told >= _REPORT_EVERY_S:
            self._phase, self._told = progress.phase, now
            self.send(progress)

    def send(self, message: HubMessage) -> None:
        with self._lock:
            self._out.write(message.model_dump_json() + "\n")
            self._out.flush()


def _end_with_the_service() -> None:
    while os.read(0, 1 << 16):
        pass
    os._exit(3)


def _watch_memory(limit: int, reporter: _Reporter) -> None:
    while resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _PEAK_UNIT <= limit:
        time.sleep(_CHECK_MEMORY_EVERY_S)
    reporter.send(
        HubFailure(
            code="memory-exceeded",
            message=f"the data need more than {limit} bytes of memory (ASSAY_HUB_MEMORY_BYTES); the files' "
            "row groups or rows are very large",
        )
    )
    os._exit(0)


def main() -> None:
    """Carry the task out and report its end."""
    # What the libraries print must not be taken for messages.
    reporter = _Reporter(os.dup(1))
    os.dup2(2, 1)
    task = HubTask.model_validate_json(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_the_service, daemon=True).start()
    threading.Thread(target=_watch_memory, args=(task.max_memory_bytes, reporter), daemon=True).start()
    reporter.progress(Progress(phase="resolving"))
    # Loading the libraries takes seconds; the service has heard from this process before.
    from dataset_svc.hub.failures import failure_of
    from dataset_svc.hub.work import carry_out

    try:
        message: HubMessage = carry_out(task, reporter.progress)
    except Exception as error:  # noqa: BLE001 - every failure is reported, and judged by the failures module
        message = failure_of(error, task)
    reporter.send(message)
    # Threads of the libraries may still wait for something; there is nothing left to wait for.
    os._exit(0)


if __name__ == "__main__":
    main()

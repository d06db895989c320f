"""The process that loads apprise: reads an address and messages from its input, says of each what became of it.

Started by ``notifier`` only. It logs nothing: apprise's own words name the address.
"""

import json
import logging
import re
import sys

from leads_pipeline.domain.alerting import SendFailure

_STATUS = re.compile(r"error=(\d{3})\b")


class _LastWords(logging.Handler):
    """Keeps the HTTP status of what apprise logs of a failure, and whether there was an answer; nothing else."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.failure = str(SendFailure.REFUSED)

    def emit(self, record: logging.LogRecord) -> None:
        words = record.getMessage()
        status = _STATUS.search(words)
        if status is not None:
            self.failure = f"http_{status[1]}"
        elif "onnection error" in words:
            self.failure = str(SendFailure.NO_ANSWER)


def main() -> None:
    import apprise  # noqa: PLC0415 - only this process pays for it

    words = _LastWords()
    logger = logging.getLogger("apprise")
    logger.handlers, logger.propagate = [words], False
    account = json.loads(sys.stdin.readline())
    asset = apprise.AppriseAsset(app_id="leads_pipeline", async_mode=False, allow_templates=False)
    channel = apprise.Apprise.instantiate(account["address"], asset=asset)  # reads all of its plug-ins
    sender = apprise.Apprise(asset=asset)
    if channel is not None:
        sender.add(channel)
    print("ready", flush=True)  # noqa: T201 - its output is what the parent reads
    for line in sys.stdin:
        message = json.loads(line)
        words.failure = str(SendFailure.REFUSED)
        if channel is None:
            answer = str(SendFailure.UNREADABLE)
        else:
            sent = sender.notify(title=message["title"], body=message["body"], notify_type=message["tone"])
            answer = "sent" if sent else words.failure
        print(answer, flush=True)  # noqa: T201 - as above


if __name__ == "__main__":
    main()

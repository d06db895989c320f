"""The keys that `leads dev` made up for its sandboxes, for a command in another terminal."""

import os

from leads_pipeline.config import Settings


def lend_sandbox_keys(settings: Settings) -> None:
    """Put them into this process's environment, where leads.yaml looks for them, unless something stands there."""
    from leads_pipeline.services.stack import Stack

    for name, key in Stack(settings).known_sandbox_keys().items():
        os.environ.setdefault(name, key)

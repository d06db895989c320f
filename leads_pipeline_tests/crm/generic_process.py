"""A process that delivers as a leads.yaml says, and kills itself on the way, as kill -9 does.

python -m leads_pipeline_tests.crm.generic_process DATABASE_URL LEADS_YAML WHEN

``WHEN`` is one of those of ``deliver_process``.
"""

import sys
from pathlib import Path

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import parse_settings
from leads_pipeline.crm.clients import build_clients
from leads_pipeline.storage.database import engine_for
from leads_pipeline.telemetry import configure_logging
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.crm.deliver_process import Dies
from leads_pipeline_tests.crm.delivering import sync


def main(database_url: str, leads_yaml: str, when: str) -> None:
    configure_logging(as_json=True)
    settings = parse_settings(Path(leads_yaml).read_text(encoding="utf-8"), path=Path(leads_yaml))
    clients = {name: Dies(client, when=when) for name, client in build_clients(settings).items()}
    sync(engine_for(database_url), settings, FrozenClock(NOW), clients=clients)


if __name__ == "__main__":
    main(*sys.argv[1:])

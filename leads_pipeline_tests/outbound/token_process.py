"""One of several processes that share an account's access token: sends one request once all of them are there."""

import os
import sys

import sqlalchemy as sa

from leads_pipeline.outbound.access_tokens import AccessTokens
from leads_pipeline.outbound.transport import HttpAnswer, Transport
from leads_pipeline.storage.access_tokens import TokenTable
from leads_pipeline.storage.database import engine_for
from leads_pipeline_tests.outbound.token_vendor import grant


def main(url: str, processes: int) -> None:
    """Print the status that the request was answered."""
    engine = engine_for(os.environ["TOKENS_DATABASE_URL"], pool_size=2)
    tokens = AccessTokens(grant(url), account="acme", store=TokenTable(engine), timeout_seconds=20)
    transport = Transport(url, credentials=tokens, timeout_seconds=20, connections=1)
    with engine.begin() as connection:
        connection.execute(sa.text("insert into ready values (:process)"), {"process": os.getpid()})
    ready = 0
    while ready < processes:
        with engine.begin() as connection:
            ready = connection.execute(sa.text("select count(*) from ready")).scalar_one()
    answer = transport.send("GET", "/leads")
    print(answer.status if isinstance(answer, HttpAnswer) else answer)  # noqa: T201 - what its parent reads


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

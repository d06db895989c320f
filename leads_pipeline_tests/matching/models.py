"""Models that a test may keep: the shipped one, changed."""

from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from leads_pipeline.matching.model import Parameters, shipped_parameters
from leads_pipeline.storage.match_models import add_activation, add_model


def changed(version: str, *, prior_factor: float = 1.0) -> Parameters:
    """The shipped model under another name; with a smaller prior everything weighs less."""
    shipped = shipped_parameters()
    return replace(shipped, version=version, prior=shipped.prior * prior_factor)


def document_of(parameters: Parameters) -> dict[str, Any]:
    """As the database holds it."""
    import json

    document: dict[str, Any] = json.loads(parameters.to_json())
    return document


def keep(
    engine: sa.Engine,
    parameters: Parameters | dict[str, Any],
    *,
    now: datetime,
    tenant: str = "acme",
    active: bool = False,
) -> str:
    """Keep a model for a tenant and let it serve."""
    document = parameters if isinstance(parameters, dict) else document_of(parameters)
    version: str = document["version"]
    with engine.begin() as connection:
        assert add_model(
            connection, tenant, version=version, parameters=document, trained={"records": 1_000}, actor="ada", now=now
        )
        if active:
            add_activation(connection, tenant, version=version, actor="ada", reason=None, now=now)
    return version

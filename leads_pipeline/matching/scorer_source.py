"""Which model scores a tenant's pairs now: read for every chunk, loaded when it changes.

Whoever activates a model or rolls one back need not restart anything: the next chunk of the tenant is scored with it.
"""

from collections import OrderedDict

import sqlalchemy as sa

from leads_pipeline.matching.model import Parameters, shipped_parameters
from leads_pipeline.matching.pairs import Scorer
from leads_pipeline.matching.stored_models import ModelUnusable, parameters_of
from leads_pipeline.storage.match_models import active_version, read_model
from leads_pipeline.telemetry import get_logger

log = get_logger(__name__)

# Each scorer owns a DuckDB. Tenants with the shipped model share one.
_MOST_SCORERS = 8


def parameters_for(connection: sa.Connection, tenant: str) -> Parameters:
    """The parameters of the tenant's active model.

    A stored model that this version cannot use (the code moved on) is replaced by the shipped one, with a warning in
    the log: a lead must not wait for somebody to train.
    """
    version = active_version(connection, tenant)
    return shipped_parameters() if version is None else _stored(connection, tenant, version)


def _stored(connection: sa.Connection, tenant: str, version: str) -> Parameters:
    model = read_model(connection, tenant, version)
    why = "there is no such model any more"
    if model is not None:
        try:
            return parameters_of(model.parameters)
        except ModelUnusable as error:
            why = str(error)
    shipped = shipped_parameters()
    log.warning("matching_model_unusable", tenant=tenant, version=version, used_instead=shipped.version, why=why)
    return shipped


class ScorerSource:
    """Scorers by tenant. Not for several threads at once, as a scorer is not."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        # Tenant and version, as two tenants may have trained on one day; no tenant for the shipped model.
        self._scorers: OrderedDict[tuple[str, str] | None, Scorer] = OrderedDict()

    def scorer_of(self, tenant: str) -> Scorer:
        """The scorer with the tenant's active model. One indexed read if the model is the one of the last time."""
        with self._engine.connect() as connection:
            version = active_version(connection, tenant)
            key = None if version is None else (tenant, version)
            if key not in self._scorers:
                parameters = shipped_parameters() if version is None else _stored(connection, tenant, version)
                self._scorers[key] = _scorer(parameters)
                if len(self._scorers) > _MOST_SCORERS:
                    self._scorers.popitem(last=False)
        self._scorers.move_to_end(key)
        return self._scorers[key]


def _scorer(parameters: Parameters) -> Scorer:
    # Splink and DuckDB cost a second to import: only a run that has leads to match pays for them.
    from leads_pipeline.matching.scoring import PairScorer  # noqa: PLC0415

    return PairScorer(parameters)

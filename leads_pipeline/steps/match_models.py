"""Which model scores a tenant's pairs: list what was trained, let one serve, go back to the one before.

Nothing is ever removed; every decision is kept with who took it and why. Training is ``steps.trained_match_model``,
and never activates what it made: that is for somebody who has read its report.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from leads_pipeline.config import MatchingSettings
from leads_pipeline.errors import LeadsError, NotFound
from leads_pipeline.matching.model import Parameters, shipped_parameters
from leads_pipeline.matching.model_comparison import CutOffs
from leads_pipeline.matching.report import ReportSubject, model_report
from leads_pipeline.matching.stored_models import ModelUnusable, parameters_of
from leads_pipeline.storage import match_models
from leads_pipeline.storage.match_models import Activation, StoredModel
from leads_pipeline.telemetry import get_logger

log = get_logger(__name__)

# What a person calls the model that comes with the package; no trained one is called so.
SHIPPED = "shipped"


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model that could serve the tenant. ``stored`` of ``None`` is the shipped one; ``fault``: why it cannot."""

    version: str
    active: bool
    since: datetime | None
    stored: StoredModel | None
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What serves the tenant from its next chunk on, and what did before."""

    version: str
    before: str


def list_models(engine: sa.Engine, tenant: str) -> list[KnownModel]:
    """The shipped model and all that were trained for ``tenant``, the newest first."""
    with engine.connect() as connection:
        stored = match_models.read_models(connection, tenant)
        decided = match_models.read_activations(connection, tenant)
    active = decided[-1].version if decided else None
    since = decided[-1].activated_at if decided else None
    models = [
        KnownModel(
            model.version, model.version == active, since if model.version == active else None, model, _fault(model)
        )
        for model in stored
    ]
    return [*models, KnownModel(SHIPPED, active is None, since if active is None else None, None)]


def model_parameters(engine: sa.Engine, tenant: str, version: str) -> tuple[Parameters, StoredModel | None]:
    """The parameters of one model, and how it was made; ``shipped`` names the one that comes with the package.

    Raises:
        NotFound: the tenant has no such model.
        ModelUnusable: it does not fit this version's comparisons.
    """
    if version == SHIPPED:
        return shipped_parameters(), None
    with engine.connect() as connection:
        model = _required(connection, tenant, version)
    return parameters_of(model.parameters), model


def report(engine: sa.Engine, tenant: str, version: str, *, settings: MatchingSettings) -> str:
    """What a model believes, as one HTML document; ``shipped`` names the one that comes with the package.

    Raises as ``model_parameters`` does.
    """
    parameters, stored = model_parameters(engine, tenant, version)
    with engine.connect() as connection:
        active = match_models.active_version(connection, tenant)
    return model_report(
        ReportSubject(
            parameters=parameters,
            shipped=shipped_parameters(),
            cut_offs=CutOffs(settings.merge_weight, settings.review_weight),
            tenant=tenant,
            active=_name(active) == version,
            actor=stored.actor if stored else None,
            trained_at=stored.trained_at if stored else None,
            figures=stored.trained if stored else {},
        )
    )


def activate(engine: sa.Engine, tenant: str, version: str, *, actor: str, reason: str | None, now: datetime) -> Change:
    """Let ``version`` serve ``tenant`` from its next chunk on.

    Raises:
        NotFound: the tenant has no such model.
        ModelUnusable: it does not fit this version's comparisons.
        LeadsError: it serves already.
    """
    with engine.begin() as connection:
        match_models.lock_models(connection, tenant)
        wanted = None if version == SHIPPED else version
        if wanted is not None:
            parameters_of(_required(connection, tenant, wanted).parameters)
        active = match_models.active_version(connection, tenant)
        if active == wanted:
            raise LeadsError(f"the model {version} serves the tenant {tenant} already; nothing was changed")
        match_models.add_activation(connection, tenant, version=wanted, actor=actor, reason=reason, now=now)
    return _told("matching_model_activated", tenant, Change(_name(wanted), _name(active)), actor)


def rollback(engine: sa.Engine, tenant: str, *, actor: str, reason: str | None, now: datetime) -> Change:
    """Let the model serve again that served before the last activation; doing so twice goes back twice.

    Raises:
        ModelUnusable: that model does not fit this version's comparisons any more.
        LeadsError: there was none before.
    """
    with engine.begin() as connection:
        match_models.lock_models(connection, tenant)
        standing = _standing(match_models.read_activations(connection, tenant))
        if not standing:
            raise LeadsError(
                f"there is nothing to go back to: the shipped model serves the tenant {tenant}, and no activation "
                "stands; `leads matching list` shows what could be activated"
            )
        before = standing[-2].version if len(standing) > 1 else None
        if before is not None:
            parameters_of(_required(connection, tenant, before).parameters)
        match_models.add_activation(
            connection,
            tenant,
            version=before,
            undoes=standing[-1].activation_id,
            actor=actor,
            reason=reason,
            now=now,
        )
    return _told("matching_model_rolled_back", tenant, Change(_name(before), _name(standing[-1].version)), actor)


def _standing(activations: Sequence[Activation]) -> list[Activation]:
    """The activations that no rollback has taken back."""
    undone = {item.undoes for item in activations}
    return [item for item in activations if item.undoes is None and item.activation_id not in undone]


def _required(connection: sa.Connection, tenant: str, version: str) -> StoredModel:
    model = match_models.read_model(connection, tenant, version)
    if model is None:
        known = ", ".join([SHIPPED, *(found.version for found in match_models.read_models(connection, tenant))])
        raise NotFound(f"the tenant {tenant} has no matching model {version!r}; there are: {known}")
    return model


def _fault(model: StoredModel) -> str | None:
    try:
        parameters_of(model.parameters)
    except ModelUnusable as error:
        return str(error)
    return None


def _name(version: str | None) -> str:
    return SHIPPED if version is None else version


def _told(event: str, tenant: str, change: Change, actor: str) -> Change:
    log.info(event, tenant=tenant, version=change.version, before=change.before, actor=actor)
    return change

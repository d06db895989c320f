"""How the stored posts of one configured source are read: fields by its kind, canonical ones by its mapping."""

from collections.abc import Mapping
from typing import Any

from leads_pipeline.config import SourceSettings
from leads_pipeline.domain.field_mapping import FieldPlan, plan_fields
from leads_pipeline.domain.lead import FIELD_NAMES
from leads_pipeline.domain.schema_drift import CONSENT, LANE
from leads_pipeline.sources.json_posts import JsonPosts
from leads_pipeline.sources.port import SourceKind
from leads_pipeline.sources.registry import KINDS

# Posts of a source mostly have the same fields and share a plan. Who invents fields gets a plan a post, unkept.
_MAX_PLANS = 256


class PostReader:
    """One source's posts. A source that leads.yaml does not know (any more) is read as kind ``json``.

    ``uses`` gathers what the fields that came so far are for: a canonical field, ``consent``, ``lane``.
    """

    def __init__(self, settings: SourceSettings | None) -> None:
        self.settings = settings or SourceSettings()
        self.kind: SourceKind = KINDS[self.settings.kind]
        # In our own names already: nothing is to be mapped, and most leads are of this sort.
        self._canonical = isinstance(self.kind, JsonPosts) and not self.settings.mapping
        self._plans: dict[tuple[str, ...], FieldPlan] = {}
        self.uses = self._uses_at_the_door()
        if self._canonical:
            self.uses |= {name: name for name in FIELD_NAMES}

    def read(self, payload: dict[str, Any]) -> tuple[Mapping[str, Any], tuple[str, ...]]:
        """The canonical fields of a post, and the names of all its fields."""
        if self._canonical:
            nested = any(isinstance(value, dict | list) for value in payload.values())
            return payload, tuple(self.kind.fields(payload) if nested else payload)
        fields = self.kind.fields(payload)
        names = tuple(fields)
        return self.plan(names).apply(fields).lead, names

    def plan(self, names: tuple[str, ...]) -> FieldPlan:
        """How posts with these fields are read."""
        plan = self._plans.get(names)
        if plan is None:
            plan = plan_fields(names, self.settings.mapping, usual=self.kind.usual, usual_names=self.kind.usual_names)
            self.uses |= {name: meaning for name, meaning in plan.meanings.items() if meaning is not None}
            if len(self._plans) < _MAX_PLANS:
                self._plans[names] = plan
        return plan

    def _uses_at_the_door(self) -> dict[str, str]:
        uses = {rule.field: LANE for rule in self.settings.lane_rules}
        for statement in self.settings.consent:
            uses |= {path: CONSENT for path in (statement.path, statement.text_version_path) if path is not None}
        return uses

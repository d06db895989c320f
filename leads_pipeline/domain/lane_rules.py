"""Which lane a lead takes, by what it says."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from leads_pipeline.domain.field_tests import FieldTest, meets
from leads_pipeline.domain.stage import Lane


class LaneRule(FieldTest, Protocol):
    """What ``config.LaneRule`` says."""

    @property
    def lane(self) -> str: ...
    @property
    def field(self) -> str: ...


def lane_of(fields: Mapping[str, Any], rules: Sequence[LaneRule], *, default: Lane) -> Lane:
    """The lane of the first rule that holds, else ``default``. A field that is missing or a list meets no rule."""
    for rule in rules:
        if meets(fields.get(rule.field), rule):
            return Lane(rule.lane)
    return default

"""From what a database holds to a model that can score, or why it cannot.

A stored model may be older than the code: a comparison that was added, renamed or removed since makes its parameters
incomplete. Light: Splink is not imported.
"""

import json
from collections.abc import Mapping
from typing import Any

from leads_pipeline.errors import LeadsError
from leads_pipeline.matching.model import COMPARISONS, Parameters

_MOST_NAMED = 3
_MOST_CONTACTS = 10**12  # what is beyond can be no count, and soon no float


class ModelUnusable(LeadsError):
    """Parameters that this version of the code cannot score with; the message says which and what to do."""


def parameters_of(document: Mapping[str, Any]) -> Parameters:
    """The parameters in ``document``, checked against the comparisons of this version.

    Raises:
        ModelUnusable: they are not whole, or hold what is no number or name.
    """
    try:
        parameters = Parameters.from_json(json.dumps(document))
        faults = faults_of(parameters)
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise ModelUnusable(f"the stored parameters cannot be read: {type(error).__name__}; train again") from error
    if faults:
        more = f" and {len(faults) - _MOST_NAMED} more" if len(faults) > _MOST_NAMED else ""
        raise ModelUnusable(
            f"the model {parameters.version} does not fit this version's comparisons: "
            f"{'; '.join(faults[:_MOST_NAMED])}{more}; train again"
        )
    return parameters


def faults_of(parameters: Parameters) -> list[str]:
    """What of ``parameters`` this version does not know, or lacks, or is no probability."""
    faults = []
    if not (isinstance(parameters.version, str) and parameters.version):
        faults.append("its version must be a name")
    wanted = {comparison.name: [level.name for level in comparison.levels] for comparison in COMPARISONS}
    faults += [f"it has no comparison {name}" for name in wanted if name not in parameters.levels]
    faults += [f"there is no comparison {name} any more" for name in parameters.levels if name not in wanted]
    for name, levels in wanted.items():
        if name not in parameters.levels:
            continue
        known = parameters.levels[name]
        faults += [f"{name} has no level {level}" for level in levels if level not in known]
        faults += [f"{name} has no level {level} any more" for level in known if level not in levels]
        faults += [
            f"{name}, {level}: m and u must lie between 0 and 1"
            for level, pair in known.items()
            if not all(_is_number(share) and 0 < share <= 1 for share in pair)
        ]
    if not (_is_number(parameters.prior) and 0 < parameters.prior < 1):
        faults.append("the prior must lie between 0 and 1")
    if not (_is_number(parameters.prior_contacts) and 0 < parameters.prior_contacts <= _MOST_CONTACTS):
        faults.append(f"the number of contacts that the prior is for must be above 0 and at most {_MOST_CONTACTS:,}")
    return faults


def _is_number(value: object) -> bool:
    """Whether it can be compared with one: a database holds whatever JSON was put into it."""
    return isinstance(value, int | float) and not isinstance(value, bool)

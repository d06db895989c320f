"""From what a database holds to a model that can score, or why it cannot.

A stored model may be older than the code: a comparison that was added, renamed or removed since makes its parameters
incomplete. Light: Splink is not imported.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

from leads_pipeline.errors import LeadsError
from leads_pipeline.matching.model import COMPARISONS, Parameters

_MOST_NAMED = 3


class ModelUnusable(LeadsError):
    """Parameters that this version of the code cannot score with; the message says which and what to do."""


def parameters_of(document: Mapping[str, Any]) -> Parameters:
    """The parameters in ``document``, checked against the comparisons of this version.

    Raises:
        ModelUnusable: they are not whole.
    """
    try:
        parameters = Parameters.from_json(json.dumps(document))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelUnusable(f"the stored parameters cannot be read: {type(error).__name__}; train again") from error
    if faults := faults_of(parameters):
        more = f" and {len(faults) - _MOST_NAMED} more" if len(faults) > _MOST_NAMED else ""
        raise ModelUnusable(
            f"the model {parameters.version} does not fit this version's comparisons: "
            f"{'; '.join(faults[:_MOST_NAMED])}{more}; train again"
        )
    return parameters


def faults_of(parameters: Parameters) -> list[str]:
    """What of ``parameters`` this version does not know, or lacks, or is no probability."""
    faults = []
    wanted = {comparison.name: [level.name for level in comparison.levels] for comparison in COMPARISONS}
    faults += [f"it has no comparison {name}" for name in wanted if name not in parameters.levels]
    faults += [f"there is no comparison {name} any more" for name in parameters.levels if name not in wanted]
    for name, levels in wanted.items():
        known = parameters.levels.get(name, {})
        if not known:
            continue
        faults += [f"{name} has no level {level}" for level in levels if level not in known]
        faults += [f"{name} has no level {level} any more" for level in known if level not in levels]
        faults += [
            f"{name}, {level}: m and u must lie between 0 and 1"
            for level, pair in known.items()
            if not all(math.isfinite(share) and 0 < share <= 1 for share in pair)
        ]
    if not (math.isfinite(parameters.prior) and 0 < parameters.prior < 1):
        faults.append("the prior must lie between 0 and 1")
    if not parameters.prior_contacts > 0:
        faults.append("the number of contacts that the prior is for must be above 0")
    return faults

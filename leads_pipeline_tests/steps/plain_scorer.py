"""A scorer for tests that are not about weights: nothing to load, nothing shared between threads."""

from collections.abc import Sequence

from leads_pipeline.domain.match_keys import MatchFields
from leads_pipeline.matching.pairs import Frequencies, ScoredPair


class PlainScorer:
    """One last name is enough to merge, one company to ask a person; anything else is of no interest."""

    version = "plain"

    def score(
        self,
        records: Sequence[MatchFields],
        pairs: Sequence[tuple[int, int]],
        *,
        frequencies: Frequencies,
        explain_from: float = 0.0,
    ) -> list[ScoredPair]:
        return [ScoredPair(left, right, *self._weighed(records[left], records[right])) for left, right in pairs]

    def _weighed(self, left: MatchFields, right: MatchFields) -> tuple[float, dict[str, float]]:
        if left.last_name_key is not None and left.last_name_key == right.last_name_key:
            return 12.0, {"last_name": 12.0}
        if left.company_key is not None and left.company_key == right.company_key:
            return 4.0, {"company": 4.0}
        return -1.0, {}

"""From groups to contacts."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from uuid import UUID

from leads_pipeline.domain.clustering import Edge, Limits, Links, Strength, cluster
from leads_pipeline.domain.ids import ContactId, uuid7
from leads_pipeline.domain.match_keys import MatchFields
from leads_pipeline.domain.resolution import Reason, Record, Resolution, resolve

START = datetime(2026, 1, 1, tzinfo=UTC)
LIMITS = Limits(merge_weight=6.0, veto_weight=-3.0)


def an_id(second: int) -> UUID:
    return uuid7(START + timedelta(seconds=second), random_bits=lambda _bits: 0)


OLD, YOUNG = ContactId(an_id(-20)), ContactId(an_id(-10))


def record(second: int, *, contact: ContactId | None = None, arriving: bool = True) -> Record:
    return Record(an_id(second), 1, MatchFields(), contact, arriving)


def resolved(records: list[Record], edges: list[Edge], *, grey: tuple[Edge, ...] = ()) -> Resolution:
    contact_of = {place: item.contact_id for place, item in enumerate(records) if item.contact_id is not None}
    clustering = cluster(range(len(records)), contact_of=contact_of, contact_sizes={}, pairs=edges, limits=LIMITS)
    ids: Iterator[int] = count(100)
    return resolve(
        records,
        clustering,
        reasons=lambda edge: Reason(f"{edge.strength.name}", edge.weight, {"name": edge.weight}),
        grey=grey,
        new_id=lambda: an_id(next(ids)),
    )


def test_the_first_lead_of_a_group_of_strangers_founds_the_contact_and_the_others_join_it() -> None:
    found = resolved([record(2), record(1), record(3)], [Edge(0, 1, 9.0), Edge(0, 2, 8.0)])
    (founding,) = found.foundings
    assert founding.lead_id == an_id(1)
    assert {item.contact_id for item in found.assignments} == {founding.contact_id}
    reasons = {item.place: item.reason for item in found.assignments}
    assert reasons[1] is None
    assert (reasons[0].match_weight, reasons[2].match_weight) == (9.0, 8.0)  # type: ignore[union-attr]


def test_of_contacts_that_are_founded_at_one_instant_the_one_whose_lead_came_first_is_the_oldest() -> None:
    strangers = [record(1), record(2), record(3)]
    clustering = cluster(range(3), contact_of={}, contact_sizes={}, pairs=[], limits=LIMITS)
    ids = iter([an_id(103), an_id(101), an_id(102)])
    found = resolve(
        strangers, clustering, reasons=lambda _edge: Reason("", None, {}), grey=(), new_id=lambda: next(ids)
    )
    assert [(item.contact_id, item.lead_id) for item in found.foundings] == [
        (an_id(101), an_id(1)), (an_id(102), an_id(2)), (an_id(103), an_id(3)),
    ]  # fmt: skip


def test_a_lead_joins_the_contact_of_a_known_record() -> None:
    found = resolved([record(1), record(0, contact=OLD, arriving=False)], [Edge(0, 1, 9.0, Strength.RULE)])
    (item,) = found.assignments
    reason = Reason("RULE", 9.0, {"name": 9.0}, leads=(an_id(1), an_id(0)))
    assert (item.place, item.contact_id, item.reason) == (0, OLD, reason)
    assert found.foundings == found.merges == ()


def test_each_lead_of_a_chunk_names_the_pair_that_led_it_to_the_contact_not_a_stronger_one_beside_it() -> None:
    records = [record(1), record(2), record(3), record(-19, contact=OLD, arriving=False)]
    twins = Edge(0, 1, 20.0, Strength.IDENTITY)
    found = resolved(records, [twins, Edge(0, 3, 7.0), Edge(1, 2, 9.0)])
    compared = {item.place: (item.reason.match_weight, item.reason.leads) for item in found.assignments if item.reason}
    assert compared == {
        0: (7.0, (an_id(1), an_id(-19))),
        1: (20.0, (an_id(1), an_id(2))),
        2: (9.0, (an_id(2), an_id(3))),
    }


def test_a_contact_that_was_merged_names_the_pair_on_its_way_to_the_survivor() -> None:
    records = [
        record(1), record(2), record(-9, contact=YOUNG, arriving=False), record(-8, contact=YOUNG, arriving=False),
        record(-19, contact=OLD, arriving=False),
    ]  # fmt: skip
    # The second lead agrees best with the younger contact, and came to the older one by way of it.
    found = resolved(records, [Edge(0, 3, 7.0), Edge(0, 4, 8.0), Edge(1, 2, 12.0)])
    (merge,) = found.merges
    assert (merge.other, merge.reason.match_weight, merge.reason.leads) == (YOUNG, 7.0, (an_id(1), an_id(-8)))
    assert [item.reason.leads for item in found.assignments if item.reason] == [
        (an_id(1), an_id(-19)),
        (an_id(2), an_id(-9)),
    ]


def test_two_leads_that_a_link_joins_are_not_said_to_have_been_compared() -> None:
    records = [record(1), record(-19, contact=OLD, arriving=False)]
    links = Links(must=[({0}, {1})])
    clustering = cluster([0, 1], contact_of={1: OLD}, contact_sizes={}, pairs=[], limits=LIMITS, links=links)
    found = resolve(
        records, clustering, reasons=lambda edge: Reason(edge.strength.name, None, {}), grey=(), new_id=lambda: OLD
    )
    assert [item.reason for item in found.assignments] == [Reason("LINK", None, {})]


def test_the_oldest_contact_survives_a_merge_and_the_log_names_the_edge_by_which_the_other_came() -> None:
    records = [record(1), record(-9, contact=YOUNG, arriving=False), record(-19, contact=OLD, arriving=False)]
    found = resolved(records, [Edge(0, 1, 12.0), Edge(0, 2, 9.0)])
    (merge,) = found.merges
    assert (merge.survivor, merge.other, merge.reason.match_weight) == (OLD, YOUNG, 12.0)
    assert found.assignments[0].contact_id == OLD


def test_a_grey_pair_is_for_a_person_unless_it_came_together_anyway() -> None:
    records = [record(2), record(1)]
    grey = (Edge(0, 1, 4.0),)
    (review,) = resolved(records, [], grey=grey).reviews
    assert (review.lead_id, review.other_lead_id, review.reason.match_weight) == (an_id(2), an_id(1), 4.0)
    assert resolved(records, [Edge(0, 1, 9.0)], grey=grey).reviews == ()


def test_two_contacts_are_put_before_a_person_once_by_their_best_pair() -> None:
    known = [record(-9, contact=OLD, arriving=False), record(-8, contact=OLD, arriving=False)]
    found = resolved([record(1), *known], [], grey=(Edge(0, 1, 3.5), Edge(0, 2, 5.0)))
    assert [review.reason.match_weight for review in found.reviews] == [5.0]

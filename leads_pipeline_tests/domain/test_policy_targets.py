"""From samples of a measure to one value for each target."""

from leads_pipeline.domain.policy_targets import Sample, Selection, labels_of, values_of

DEPTHS = [
    Sample({"tenant": "acme", "lane": "batch", "stage": "raw_leads"}, 10),
    Sample({"tenant": "acme", "lane": "batch", "stage": "deduped_leads"}, 30),
    Sample({"tenant": "acme", "lane": "real_time", "stage": "raw_leads"}, 2),
    Sample({"tenant": "globex", "lane": "batch", "stage": "raw_leads"}, 7),
]


def selection(**changes: object) -> Selection:
    values = {"measure": "queue_depth", "filters": {}, "per": ("tenant", "lane"), "combine": "highest"}
    return Selection(**{**values, "zero_if_unnamed": True, **changes})


def test_each_target_has_the_worst_of_its_values():
    found = values_of(selection(), DEPTHS)

    assert found == {"tenant=acme,lane=batch": 30, "tenant=acme,lane=real_time": 2, "tenant=globex,lane=batch": 7}


def test_a_rule_about_everything_has_one_target():
    assert values_of(selection(per=(), combine="sum"), DEPTHS) == {"": 49}
    assert values_of(selection(per=(), combine="lowest"), DEPTHS) == {"": 2}


def test_filters_leave_the_others_out():
    only = {"tenant": frozenset({"acme"}), "stage": frozenset({"raw_leads"})}

    assert values_of(selection(filters=only), DEPTHS) == {"tenant=acme,lane=batch": 10, "tenant=acme,lane=real_time": 2}


def test_a_target_that_a_count_does_not_name_any_more_has_nothing():
    assert values_of(selection(), [], known=["tenant=acme,lane=batch"]) == {"tenant=acme,lane=batch": 0}
    assert values_of(selection(per=()), []) == {"": 0}


def test_of_a_target_that_a_share_does_not_name_nothing_is_known():
    found = values_of(selection(zero_if_unnamed=False), [], known=["tenant=acme,lane=batch"])

    assert found == {"tenant=acme,lane=batch": None}


def test_of_a_measure_that_was_not_taken_nothing_is_known():
    assert values_of(selection(), None, known=["tenant=acme,lane=batch"]) == {"tenant=acme,lane=batch": None}


def test_what_is_no_number_is_not_measured():
    assert (
        values_of(selection(zero_if_unnamed=False), [Sample({"tenant": "acme", "lane": "batch"}, float("nan"))]) == {}
    )


def test_a_target_says_what_it_is_about():
    assert labels_of("tenant=acme,lane=batch") == {"tenant": "acme", "lane": "batch"}
    assert labels_of("") == {}

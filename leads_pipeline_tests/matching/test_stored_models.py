"""Stored parameters that this version can use, and those that it cannot."""

from typing import Any

import pytest

from leads_pipeline.matching.model import shipped_parameters
from leads_pipeline.matching.stored_models import ModelUnusable, parameters_of
from leads_pipeline_tests.matching.models import changed, document_of


def test_what_was_stored_is_what_comes_back() -> None:
    assert parameters_of(document_of(shipped_parameters())) == shipped_parameters()


def broken(change: str) -> dict[str, Any]:
    document = document_of(changed("old"))
    phone = document["levels"]["phone"]
    match change:
        case "no level":
            del phone["typo"]
        case "odd level":
            phone["fax"] = {"m": 0.5, "u": 0.5}
        case "share":
            phone["typo"]["u"] = 0.0
        case "prior":
            document["prior"] = 1.0
        case "contacts":
            document["prior_contacts"] = 0
        case "many":
            document["levels"] = {}
        case "shape":
            document["levels"] = "none"
        case "key":
            del document["prior"]
    return document


NO_NUMBERS: tuple[Any, ...] = ("0.1", None, True, [], {}, 10**400, -(10**400))


@pytest.mark.parametrize("value", NO_NUMBERS)
@pytest.mark.parametrize("place", ["prior", "prior_contacts", "m", "u"])
def test_what_is_no_number_is_no_model(place: str, value: object) -> None:
    document = document_of(changed("old"))
    within = document["levels"]["phone"]["typo"] if place in ("m", "u") else document
    assert place in within
    within[place] = value

    with pytest.raises(ModelUnusable, match=r"must lie between 0 and 1|must be above 0"):
        parameters_of(document)


@pytest.mark.parametrize("version", [None, 7, "", ["a"]])
def test_a_model_without_a_name_is_none(version: object) -> None:
    with pytest.raises(ModelUnusable, match="its version must be a name"):
        parameters_of({**document_of(changed("old")), "version": version})


@pytest.mark.parametrize("document", [None, [], "text", 1, {}])
def test_what_is_no_object_is_no_model(document: Any) -> None:
    with pytest.raises(ModelUnusable, match="cannot be read"):
        parameters_of(document)


def test_a_comparison_without_levels_is_not_whole() -> None:
    document = document_of(changed("old"))
    document["levels"]["phone"] = {}

    with pytest.raises(ModelUnusable, match="phone has no level same"):
        parameters_of(document)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("no level", "phone has no level typo; train again"),
        ("odd level", "phone has no level fax any more"),
        ("share", "phone, typo: m and u must lie between 0 and 1"),
        ("prior", "the prior must lie between 0 and 1"),
        ("contacts", "the number of contacts that the prior is for must be above 0"),
        ("many", r"it has no comparison first_name; .* and \d+ more; train again"),
        ("shape", "the stored parameters cannot be read: AttributeError; train again"),
        ("key", "the stored parameters cannot be read: KeyError; train again"),
    ],
)
def test_parameters_that_do_not_fit_are_named(change: str, told: str) -> None:
    with pytest.raises(ModelUnusable, match=told):
        parameters_of(broken(change))

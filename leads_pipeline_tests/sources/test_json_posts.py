"""JSON to a source's own address."""

import json

from leads_pipeline.sources.json_posts import JsonPosts
from leads_pipeline.sources.port import Delivery, Fault, Unreadable
from leads_pipeline_tests.sources.contract import KeyedContract
from leads_pipeline_tests.sources.signing import delivery

LEAD = {
    "email": "zoe@example.com",
    "address": {"city": "Graz", "lines": [{"text": "x"}]},
    "tags": ["a"],
    "consent": True,
}


class TestJsonPosts(KeyedContract):
    kind = JsonPosts()

    def good(self) -> Delivery:
        return delivery(json.dumps(LEAD))

    def test_consent_is_taken_out_of_the_lead_as_statements(self) -> None:
        [post] = self.posts()
        assert post.consent == (True,)
        assert post.payload == {name: value for name, value in LEAD.items() if name != "consent"}

    def test_nested_values_show_under_dotted_names(self) -> None:
        [post] = self.posts()
        assert self.kind.fields(post.payload) == {
            "email": "zoe@example.com",
            "address.city": "Graz",
            "address.lines.0.text": "x",
            "tags": ["a"],
        }

    def test_what_is_no_object_and_consent_without_end_are_refused(self) -> None:
        endless = json.dumps({"consent": [True] * 101})
        for body, fault in (("{", Fault.MALFORMED_JSON), ("[]", Fault.WRONG_SHAPE), (endless, Fault.WRONG_SHAPE)):
            found = self.kind.read(delivery(body), self.options)
            assert isinstance(found, Unreadable)
            assert found.fault is fault

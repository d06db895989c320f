"""By what an address decides its verdict."""

from collections import Counter

import pytest

from leads_pipeline.verification.sandbox.fates import Fate, fate_of


@pytest.mark.parametrize("fate", list(Fate))
def test_a_word_as_local_part_or_tag_asks_for_its_fate(fate: Fate):
    assert fate_of(f"{fate.value}@acme.example") is fate
    assert fate_of(f"Ada+{fate.value.replace('-', '_').upper()}@Acme.Example") is fate


@pytest.mark.parametrize(
    ("address", "fate"),
    [
        ("", Fate.BAD_SYNTAX),
        ("ada", Fate.BAD_SYNTAX),
        ("ada@", Fate.BAD_SYNTAX),
        ("@acme.example", Fate.BAD_SYNTAX),
        ("ada@acme", Fate.BAD_SYNTAX),
        ("a da@acme.example", Fate.BAD_SYNTAX),
        ("ada@bob@acme.example", Fate.BAD_SYNTAX),
        ("ada@acme.invalid", Fate.DOMAIN_NOT_FOUND),
        ("valid@nxdomain.example", Fate.DOMAIN_NOT_FOUND),
        ("ada@null-mx.example", Fate.NO_MAIL_SERVER),
        ("ada@nodata.example", Fate.NO_MAIL_SERVER),
        ("ada@servfail.example", Fate.UNREACHABLE),
        ("ada@timeout.example", Fate.UNREACHABLE),
        ("ada@mailinator.com", Fate.DISPOSABLE),
        ("valid@mailinator.com", Fate.VALID),
        ("info@acme.example", Fate.ROLE),
        ("invalid@acme.example", Fate.MAILBOX_NOT_FOUND),
        ("unknown@acme.example", Fate.TIMEOUT),
        ("accept-all@acme.example", Fate.CATCH_ALL),
    ],
)
def test_domains_words_and_roles_decide_in_this_order(address: str, fate: Fate):
    assert fate_of(address) is fate


def test_others_are_spread_as_real_ones_are_and_always_alike():
    people = [f"person{number}@acme.example" for number in range(20_000)]
    shares = Counter(fate_of(address) for address in people)

    assert shares[Fate.VALID] / len(people) == pytest.approx(0.80, abs=0.01)
    assert shares[Fate.MAILBOX_NOT_FOUND] / len(people) == pytest.approx(0.08, abs=0.01)
    risky = sum(shares[fate] for fate in (Fate.CATCH_ALL, Fate.FULL, Fate.TOXIC, Fate.SPAMTRAP))
    assert risky / len(people) == pytest.approx(0.07, abs=0.01)
    assert (shares[Fate.TIMEOUT] + shares[Fate.GREYLISTED]) / len(people) == pytest.approx(0.05, abs=0.01)
    assert [fate_of(address.upper()) for address in people[:500]] == [fate_of(address) for address in people[:500]]

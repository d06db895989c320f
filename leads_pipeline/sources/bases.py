"""What most kinds of sources have in common; a kind states where it differs."""

from leads_pipeline.sources.port import Delivery, Doubt, Secrets

_JSON = frozenset({"application/json"})


class KeyedKind:
    """A kind whose senders carry an API key of ours: there is nothing to verify, and no trial of the address."""

    signed = False
    from_browser = False
    answers_browsers = False
    media_types = _JSON
    usual_names = True

    def challenge(self, delivery: Delivery, secrets: Secrets) -> str | Doubt | None:
        return None

    def verify(self, delivery: Delivery, secrets: Secrets) -> Doubt | None:
        return None


class SignedKind:
    """A kind whose vendor's server proves itself with a shared secret. ``verify`` is each kind's own."""

    signed = True
    from_browser = False
    answers_browsers = False
    media_types = _JSON
    usual_names = True

    def challenge(self, delivery: Delivery, secrets: Secrets) -> str | Doubt | None:
        return None

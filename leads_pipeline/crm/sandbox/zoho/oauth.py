"""Zoho's accounts server: a refresh token against an access token that holds for an hour.

The sandbox takes the tokens that it knows from its start for refresh tokens; if it demands none, any will do. No more
than ten are given in ten minutes, and the sixteenth that lives ends the oldest. Refusals are answered with 200, as Zoho
says of the one that they are too many; for the others that is a guess.
"""

from collections import defaultdict, deque
from urllib.parse import parse_qs

from leads_pipeline.crm.sandbox.tokens import UNKNOWN
from leads_pipeline.crm.sandbox.vendor import Incoming, Shared
from leads_pipeline.crm.sandbox.zoho.options import ZohoOptions
from leads_pipeline.sandbox.answers import Answer

PATH = "/oauth/v2/token"
_TEN_MINUTES = 600.0


class AccountsServer:
    """What it remembers of each application. Whoever calls it holds the account's lock."""

    def __init__(self, options: ZohoOptions) -> None:
        self._options = options
        self._given: dict[int, deque[float]] = defaultdict(deque)
        self._living: dict[int, deque[str]] = defaultdict(deque)

    def clear(self) -> None:
        """Forget every token."""
        self._given.clear()
        self._living.clear()

    def give(self, shared: Shared, incoming: Incoming) -> Answer:
        """What a refresh token is good for; its fields come as a form or in the address."""
        form = parse_qs((incoming.body or b"").decode("utf-8", "replace"))
        sent = {**incoming.query, **{name: values[0] for name, values in form.items()}}
        application = shared.tokens.application_of(sent.get("refresh_token"), tick=incoming.tick)
        if sent.get("grant_type") != "refresh_token":
            return _refused("unsupported_grant_type")
        if not sent.get("client_id") or not sent.get("client_secret"):
            return _refused("invalid_client")
        if application == UNKNOWN:
            return _refused("invalid_code")
        given = self._given[application]
        while given and incoming.tick - given[0] >= _TEN_MINUTES:
            given.popleft()
        if len(given) >= self._options.tokens_in_ten_minutes:
            return Answer(
                200,
                {
                    "error_description": "You have made too many requests continuously. Please try again after some "
                    "time.",
                    "error": "Access Denied",
                    "status": "failure",
                },
            )
        given.append(incoming.tick)
        token, seconds = shared.tokens.give(application, tick=incoming.tick)
        living = self._living[application]
        living.append(token)
        if len(living) > self._options.living_tokens:
            shared.tokens.end(living.popleft())
        return Answer(
            200,
            {
                "access_token": token,
                "scope": "ZohoCRM.modules.ALL ZohoCRM.settings.ALL",
                "api_domain": f"http://{incoming.headers.get('host', '')}",  # the API is where the token came from
                "token_type": "Bearer",
                "expires_in": int(seconds),
            },
        )


def _refused(error: str) -> Answer:
    return Answer(200, {"error": error})

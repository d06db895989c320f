"""Tokens of OAuth applications: a refresh token against an access token that holds for a while.

The sandbox takes the tokens that it knows from its start for refresh tokens; if it demands none, any will do.
"""

from urllib.parse import parse_qs

from leads_pipeline.crm.sandbox.tokens import UNKNOWN
from leads_pipeline.crm.sandbox.vendor import Incoming, PlayedEndpoint, Shared
from leads_pipeline.sandbox.answers import Answer


def access_token(shared: Shared, incoming: Incoming) -> Answer:
    """What a refresh token is good for."""
    sent = {name: values[0] for name, values in parse_qs((incoming.body or b"").decode("utf-8", "replace")).items()}
    refresh_token = sent.get("refresh_token")
    application = shared.tokens.application_of(refresh_token, tick=incoming.tick)
    if sent.get("grant_type") != "refresh_token":
        return _refused("BAD_GRANT_TYPE", "only the grant type refresh_token is played here", incoming)
    if not sent.get("client_id") or not sent.get("client_secret"):
        return _refused("BAD_CLIENT_ID", "missing or unknown client id", incoming)
    if application == UNKNOWN:
        return _refused("BAD_REFRESH_TOKEN", "missing or unknown refresh token", incoming)
    token, seconds = shared.tokens.give(application, tick=incoming.tick)
    body = {
        "token_type": "bearer",
        "access_token": token,
        "refresh_token": refresh_token,
        "expires_in": int(seconds),
    }
    return Answer(200, body)


def _refused(status: str, message: str, incoming: Incoming) -> Answer:
    return Answer(400, {"status": status, "message": message, "correlationId": incoming.request_id})


ENDPOINT = PlayedEndpoint("oauth/token", "POST", ("/oauth/v1/token",), access_token, limited_as=None)

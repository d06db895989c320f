"""Which sites' scripts may post to which source, and the headers that every answer carries."""

from collections.abc import Mapping

from leads_pipeline.config import Settings, SourceSettings

_PREFLIGHT = (
    (b"access-control-allow-methods", b"POST"),
    (b"access-control-allow-headers", b"authorization, content-type, idempotency-key, x-api-key, x-leads-source"),
    (b"access-control-max-age", b"7200"),
)
_EXPOSED = (b"access-control-expose-headers", b"retry-after, x-request-id")

# On everything that is not a page: answers are data, for nobody to frame, sniff, cache or follow.
SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)


class Origins:
    """The sites of leads.yaml's ``cors_origins``, of all sources together and of each."""

    def __init__(self, settings: Settings) -> None:
        self._all = frozenset(
            origin
            for tenant in settings.tenants.values()
            for source in tenant.sources.values()
            for origin in source.cors_origins
        )

    def headers(self, request: Mapping[bytes, bytes]) -> tuple[tuple[bytes, bytes], ...]:
        """What lets the request's site read the answer, also a refusal; nothing if no source knows the site."""
        origin = request.get(b"origin")
        if origin is None or not ("*" in self._all or origin.decode("latin-1") in self._all):
            return ()
        return ((b"access-control-allow-origin", origin), (b"vary", b"Origin"), _EXPOSED)

    def preflight(self, request: Mapping[bytes, bytes]) -> tuple[tuple[bytes, bytes], ...]:
        """The answer to a browser that asks before it posts; nothing if it may not."""
        allowed = self.headers(request)
        return (*allowed, *_PREFLIGHT) if allowed else ()


def may_post(source: SourceSettings, request: Mapping[bytes, bytes]) -> bool:
    """Whether the request's site may post to this source. Without a list, or without an Origin, nothing is asked.

    Pages of the door's own address may always: a browser names their origin too.
    """
    origin = request.get(b"origin")
    if origin is None or not source.cors_origins or origin.partition(b"://")[2] == request.get(b"host"):
        return True
    return "*" in source.cors_origins or origin.decode("latin-1") in source.cors_origins

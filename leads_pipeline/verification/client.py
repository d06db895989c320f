"""One provider's account, asked over HTTP. What an answer means stands in ``providers``, when to ask in ``steps``."""

from collections.abc import Sequence
from dataclasses import replace

from pydantic import SecretStr

from leads_pipeline.config import ProviderSettings
from leads_pipeline.outbound.credentials import StaticKey
from leads_pipeline.outbound.transport import NetworkFailure, Transport
from leads_pipeline.verification.port import HttpRequest, Outcome, Provider, ProviderAnswer


class ProviderClient:
    """Asks one account. Safe to share between threads; close it."""

    def __init__(self, provider: Provider, settings: ProviderSettings, key: SecretStr | None) -> None:
        """``key``: ``settings.key`` resolved.

        Raises:
            ConfigError: the key holds what cannot be sent, such as a line break.
        """
        self._provider = provider
        base_url = (settings.base_url or provider.quirks.base_url).rstrip("/")
        key_in, user = provider.quirks.key_in, settings.account
        self._transport = Transport(
            base_url,
            credentials=None if key is None else StaticKey(key, base_url=base_url, key_in=key_in, user=user),
            timeout_seconds=settings.timeout_seconds,
            connections=provider.quirks.in_flight,
        )

    def ask(self, subjects: Sequence[str]) -> ProviderAnswer:
        """Look these up, at most ``quirks.batch_size``. What a network or a vendor can do comes back as an outcome."""
        return self._send(self._provider.request(subjects), subjects)

    def poll(self, reference: str, subjects: Sequence[str]) -> ProviderAnswer:
        """Ask for the answer about ``subjects`` that was still being made. Never paid, so it may be asked again."""
        return self._send(self._provider.poll(reference, subjects), subjects)

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def _send(self, request: HttpRequest, subjects: Sequence[str]) -> ProviderAnswer:
        answer = self._transport.send(
            request.method, request.path, query=request.query, body=request.body, form=request.form
        )
        if isinstance(answer, NetworkFailure):
            return ProviderAnswer(Outcome.NOT_SENT if answer is NetworkFailure.NOT_SENT else Outcome.LOST)
        return replace(self._provider.read(answer, subjects), http_status=answer.status)

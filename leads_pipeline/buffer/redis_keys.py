"""The names of a Redis buffer's keys. All share one hash tag, so that a cluster keeps them on one node."""

from dataclasses import dataclass

from leads_pipeline.domain.stage import Lane

GROUP = "pipeline"
# One name for all workers. What a worker has taken is its own for a time (the lease), not by its name; a name for
# every run would leave one consumer behind per run, and deleting a consumer drops what it had not acknowledged.
CONSUMER = "worker"

INCARNATION = "incarnation"
CAPTURED = "captured:"
DUPLICATES = "duplicates:"


@dataclass(frozen=True, slots=True)
class Keys:
    """The names under ``buffer.redis.prefix``."""

    prefix: str

    @property
    def counters(self) -> str:
        """A hash: what the door counted, by tenant, source and lane; and the name that the buffer gave itself."""
        return f"{{{self.prefix}}}:counters"

    def stream(self, tenant: str, lane: Lane | str) -> str:
        """The leads of a tenant and lane that wait."""
        return f"{{{self.prefix}}}:stream:{tenant}:{lane}"

    def aside(self, tenant: str, lane: Lane | str) -> str:
        """A stream: the leads of a tenant and lane that could not be moved."""
        return f"{{{self.prefix}}}:aside:{tenant}:{lane}"

    def post(self, tenant: str, source: str, key: bytes) -> bytes:
        """An idempotency key: which lead came first under it, and a hash of what that said."""
        return f"{{{self.prefix}}}:post:{tenant}:{source}:".encode() + key

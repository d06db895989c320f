"""What a provider sandbox is told when it starts."""

from dataclasses import dataclass, field
from typing import Literal, get_args

VendorName = Literal["zerobounce", "neverbounce", "kickbox", "hunter", "reacher", "twilio"]
VENDORS: tuple[VendorName, ...] = get_args(VendorName)


@dataclass(frozen=True, slots=True)
class ProviderOptions:
    """The account that is played.

    ``key`` of ``None`` accepts any that is not empty (Reacher: also none). ``account`` is Twilio's SID. ``credit`` in
    look-ups; ``None`` never ends. ``calls_per_minute`` and ``batch_size`` of ``None`` are the vendor's own.
    """

    vendor: VendorName
    key: str | None = field(default=None, repr=False)
    account: str | None = None
    credit: int | None = None
    calls_per_minute: int | None = None
    batch_size: int | None = None
    limited: bool = True
    job_seconds: float = 20.0  # NeverBounce: how long a job takes
    pending_seconds: float = 5.0  # Hunter: how long an answer of 202 stays one

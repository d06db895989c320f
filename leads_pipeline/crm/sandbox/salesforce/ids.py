"""Salesforce's record ids: 15 characters that count case, and three more that make them safe where case does not."""

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_CHECKS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
PREFIXES = {"Lead": "00Q", "Contact": "003", "Job": "750"}
_OF_PREFIX = {prefix: name for name, prefix in PREFIXES.items()}


def record_id(object_type: str, number: int) -> str:
    """The id of the object's record with this number."""
    digits = ""
    while number:
        number, place = divmod(number, len(_DIGITS))
        digits = _DIGITS[place] + digits
    short = f"{PREFIXES[object_type]}ak00000{digits:0>5}"
    checks = ""
    for start in (0, 5, 10):
        bits = sum(1 << place for place, sign in enumerate(short[start : start + 5]) if sign.isupper())
        checks += _CHECKS[bits]
    return short + checks


def number_of(text: str) -> tuple[str, int] | None:
    """The object and the number of an id of 15 or 18 characters; ``None``: it is none of ours."""
    object_type = _OF_PREFIX.get(text[:3])
    if object_type is None or len(text) not in (15, 18) or not (text.isascii() and text.isalnum()):
        return None
    number = 0
    for sign in text[10:15]:
        number = number * len(_DIGITS) + _DIGITS.index(sign)
    return (object_type, number) if record_id(object_type, number)[: len(text)] == text else None

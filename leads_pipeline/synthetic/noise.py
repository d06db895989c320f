"""How people and forms spoil what is true: typos, short names, swapped names, other spellings, odd formats.

Each function takes a value and the random source, and returns a value that a person would still recognise.
"""

import random
from functools import cache

from anyascii import anyascii
from nicknames import NickNamer

_NEIGHBOURS = {
    "a": "qsz", "b": "vgn", "c": "xdv", "d": "sfe", "e": "wrd", "f": "dgr", "g": "fht", "h": "gjy", "i": "uok",
    "j": "hku", "k": "jli", "l": "kop", "m": "nj", "n": "bm", "o": "ipl", "p": "ol", "q": "wa", "r": "etf", "s": "adw",
    "t": "ryg", "u": "yij", "v": "cbf", "w": "qes", "x": "zcs", "y": "tuh", "z": "xa",
}  # fmt: skip
_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue"})


def typo(text: str, rng: random.Random) -> str:
    """One slip of the fingers: a letter dropped, doubled, exchanged with its neighbour or with the next key."""
    letters = [at for at, char in enumerate(text) if char.isalnum()]
    if len(letters) < 3:
        return text
    at = rng.choice(letters[1:])
    char = text[at]
    match rng.randrange(4):
        case 0:
            return text[:at] + text[at + 1 :]
        case 1:
            return text[:at] + char + text[at:]
        case 2:
            return text[: at - 1] + char + text[at - 1] + text[at + 1 :]
        case _:
            if char.isdigit():
                return text[:at] + str((int(char) + rng.randint(1, 9)) % 10) + text[at + 1 :]
            return text[:at] + rng.choice(_NEIGHBOURS.get(char.lower(), "e")) + text[at + 1 :]


def email_typo(address: str, rng: random.Random) -> str:
    """A slip in the part before the @, which leaves a valid address."""
    local, _, domain = address.partition("@")
    spoilt = typo(local, rng).strip(".").replace("..", ".")
    return f"{spoilt or local}@{domain}"


@cache
def _short_names(first_name: str) -> tuple[str, ...]:
    namer = _namer()
    return tuple(sorted(name.capitalize() for name in namer.nicknames_of(first_name.lower()) if len(name) > 1))


@cache
def _namer() -> NickNamer:
    return NickNamer()


def short_name(first_name: str, rng: random.Random) -> str:
    """What friends say: Robert → Bob. The name itself if it has no short form."""
    names = _short_names(first_name)
    return rng.choice(names) if names else first_name


def transliterated(text: str, rng: random.Random) -> str:
    """Without accents: ``Müller`` → ``Mueller`` or ``Muller``."""
    return anyascii(text.translate(_UMLAUTS) if rng.random() < 0.6 else text)


def odd_case(text: str, rng: random.Random) -> str:
    return rng.choice((text.upper(), text.lower(), f" {text} ", text.replace(" ", "  ")))


def written_phone(e164: str, *, dial_code: str, national_prefix: str, rng: random.Random) -> str:
    """A number as people write it: grouped, with or without the country's code."""
    national = e164[1 + len(dial_code) :]
    grouped = f"{national[:3]} {national[3:6]} {national[6:]}"
    dashed = grouped.replace(" ", "-")
    match rng.randrange(6):
        case 0:
            return e164
        case 1:
            return f"+{dial_code} {grouped}"
        case 2:
            return f"00{dial_code} {grouped}" if dial_code != "1" else f"1-{dashed}"
        case 3:
            return (
                f"({national[:3]}) {national[3:6]}-{national[6:]}" if dial_code == "1" else national_prefix + national
            )
        case 4:
            return national_prefix + grouped
        case _:
            return national_prefix + dashed

"""The golden corpora: what people type as addresses and numbers, what we make of it, and why each line is there."""

import json
from pathlib import Path
from typing import NamedTuple

_FOLDER = Path(__file__).parent / "corpus"


class EmailLine(NamedTuple):
    raw: str
    outcome: str
    key: str
    flags: str
    suggestion: str
    why: str


class PhoneLine(NamedTuple):
    raw: str
    country: str
    outcome: str
    region: str
    type: str
    time_zone: str
    flags: str
    why: str


def _lines(name: str) -> list[list[str]]:
    text = (_FOLDER / name).read_text(encoding="utf-8")
    return [line.split("\t") for line in text.splitlines() if line and not line.startswith("# ")]


def _plain(value: str) -> str:
    plain: str = json.loads(f'"{value}"')
    return plain


def email_lines() -> list[EmailLine]:
    return [
        EmailLine(_plain(raw), _plain(outcome), _plain(key), *rest) for raw, outcome, key, *rest in _lines("emails.tsv")
    ]


def phone_lines() -> list[PhoneLine]:
    return [PhoneLine(_plain(raw), *rest) for raw, *rest in _lines("phones.tsv")]

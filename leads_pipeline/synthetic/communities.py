"""Names from other languages than the country's, and the several ways in which one of them is written.

Chinese, Korean and Vietnamese surnames are few and very common (shares in per mille, after the countries' censuses), so
strangers there share a name far more often; given names of two syllables are written together, apart or with a hyphen.

A name in Cyrillic or Greek letters has no one spelling in Latin ones: a passport, a German form and its bearer each
have theirs. Romanisations here are simplified from the published ones (ICAO 9303, DIN 1460, common English use; ELOT
743 and common use for Greek). Add a language here if mimesis has a list of its names.
"""

import json
import random
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import accumulate

from leads_pipeline.synthetic.markets import Weighted


@dataclass(frozen=True)
class Community:
    """People whose names come from one language; ``alphabet`` names its romanisations, if it needs any.

    With ``syllables`` a given name is two words, and a surname is its spellings with ``/`` between them.
    """

    locale: str
    male: Weighted
    female: Weighted
    surnames_male: Weighted
    surnames_female: Weighted
    alphabet: str | None
    syllables: bool = False


# Locale of mimesis: its share of the people with a name from elsewhere, and its alphabet.
_LOCALES = {
    "es-mx": (26, None),
    "it": (16, None),
    "nl": (12, None),
    "tr": (12, None),
    "cs": (8, None),
    "ru": (16, "cyrillic"),
    "el": (10, "greek"),
}
# Surnames with their shares; syllables of given names. The communities' shares stand first.
_SYLLABIC: dict[str, tuple[int, str, str]] = {
    "zh": (
        40,
        (
            "Wang:72 Li:71/Lee Zhang:68/Chang Liu:54 Chen:45/Chan Yang:31 Huang:22/Hwang Zhao:21/Chao Wu:21 "
            "Zhou:19/Chow Xu:17/Hsu Sun:15 Ma:13 Zhu:13/Chu Hu:13 Guo:12/Kuo He:11/Ho Gao:10/Kao Lin:11/Lam "
            "Luo:9/Lo Zheng:9/Cheng Liang:8/Leung Xie:8/Hsieh Song:7/Sung Tang:7 Han:6 Feng:6/Fung "
            "Deng:6/Teng Cao:6/Tsao Peng:6"
        ),
        "wei xiao ming hua jun li yan jing hong mei ling feng lei yu bo qiang fang ping hui xin jia ying hao tao",
    ),
    "ko": (
        20,
        (
            "Kim:215/Gim Lee:147/Yi/Rhee Park:84/Bak/Pak Jung:44/Jeong/Chung Choi:47/Choe Cho:21/Jo "
            "Kang:24/Gang Yoon:20/Yun Jang:20/Chang Lim:17/Im Han:15 Oh:15/O Seo:15/Suh Shin:18/Sin "
            "Kwon:14/Gwon Hwang:14 Ahn:14/An Song:14 Hong:11"
        ),
        "min jun seo ji hyun woo young su jin hye yeon eun ho sung kyung hee jae sang in mi",
    ),
    "vi": (
        20,
        (
            "Nguyen:384/Nguyễn Tran:121/Trần Le:95/Lê Pham:70/Phạm Huynh:51/Hoang Phan:45 Vu:39/Vo "
            "Dang:21/Đặng Bui:20/Bùi Do:14/Đỗ Ho:13/Hồ Ngo:13/Ngô Duong:10/Dương Ly:5/Lý"
        ),
        "minh anh thi hoang thanh duc huu quang ngoc van tuan lan phuong mai hong thu hai nam long linh",
    ),
}

_CYRILLIC = "абвгдеёжзийклмнопрстуфхцчшщъыьэюя"
_GREEK = "αβγδεζηθικλμνξοπρσςτυφχψω"


def _table(letters: str, latin: str) -> dict[str, str]:
    return dict(zip(letters, (part.replace("-", "") for part in latin.split()), strict=True))


# "-" stands for no letter at all.
ROMANISATIONS: dict[str, tuple[dict[str, str], ...]] = {
    "cyrillic": (
        _table(_CYRILLIC, "a b v g d e e zh z i y k l m n o p r s t u f kh ts ch sh shch - y - e yu ya"),
        _table(_CYRILLIC, "a b v g d e e zh z i i k l m n o p r s t u f kh ts ch sh shch ie y - e iu ia"),
        _table(_CYRILLIC, "a b w g d e jo sch s i j k l m n o p r s t u f ch z tsch sch schtsch - y - e ju ja"),
    ),
    "greek": (
        _table(_GREEK, "a v g d e z i th i k l m n x o p r s s t y f ch ps o"),
        _table(_GREEK, "a b g d e z h th i k l m n ks o p r s s t u f h ps o"),
        _table(_GREEK, "a v g d e z i th i k l m n x o p r s s t i ph kh ps o"),
    ),
}
_ACCENTED_GREEK = str.maketrans("άέήίόύώϊϋΐΰ", "αεηιουωιυιυ")


def romanised(name: str, alphabet: str, scheme: int) -> str:
    """``name`` in Latin letters by one of the ``ROMANISATIONS`` of its alphabet."""
    table = ROMANISATIONS[alphabet][scheme]
    letters = (table.get(letter, letter) for letter in name.lower().translate(_ACCENTED_GREEK))
    return "-".join(part.capitalize() for part in "".join(letters).split("-"))


@cache
def communities() -> tuple[tuple[Community, ...], tuple[int, ...]]:
    """The communities and how common each is."""
    found = [_community(locale, alphabet) for locale, (_share, alphabet) in _LOCALES.items()]
    found += [_syllabic(name, surnames, given) for name, (_share, surnames, given) in _SYLLABIC.items()]
    shares = [share for share, _alphabet in _LOCALES.values()]
    shares += [share for share, _surnames, _given in _SYLLABIC.values()]
    return tuple(found), tuple(shares)


def _syllabic(language: str, surnames: str, given: str) -> Community:
    parts = given.split()
    names = [f"{one} {other}" for one in parts for other in parts if one != other]
    random.Random(language).shuffle(names)  # noqa: S311 - a fixed order, not a secret
    common = Weighted.by_rank(names, exponent=0.7, offset=4)
    spelt = [item.partition(":") for item in surnames.split()]
    shares = [int(rest.partition("/")[0]) for _own, _, rest in spelt]
    families = Weighted(
        tuple("/".join((own, *rest.split("/")[1:])) for own, _, rest in spelt), tuple(accumulate(map(float, shares)))
    )
    return Community(language, common, common, families, families, None, syllables=True)


def _community(locale: str, alphabet: str | None) -> Community:
    text = files("mimesis").joinpath("datasets", locale, "person.json").read_text(encoding="utf-8")
    person = json.loads(text)
    surnames = person["surnames"]
    by_gender = surnames if isinstance(surnames, dict) else {"male": surnames, "female": surnames}
    return Community(
        locale,
        _ranked(person["names"]["male"], exponent=1.05),
        _ranked(person["names"]["female"], exponent=1.05),
        _ranked(by_gender["male"], exponent=0.8),
        _ranked(by_gender["female"], exponent=0.8),
        alphabet,
    )


def _ranked(names: list[str], *, exponent: float) -> Weighted:
    # The lists are alphabetical and have no frequencies: shuffled once and for all, then as unequal as in life.
    shuffled = sorted({name.strip() for name in names if len(name.strip()) > 2})
    random.Random(len(shuffled)).shuffle(shuffled)  # noqa: S311 - a fixed order, not a secret
    return Weighted.by_rank(shuffled, exponent=exponent, offset=8)

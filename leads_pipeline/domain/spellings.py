"""One form for the several spellings of a name: umlauts written out, other romanisations, sounds that are spelt alike.

``spelling`` keeps the vowels and tells most names apart; ``sound`` keeps the consonants' classes. Both are for names in
lower-case Latin letters, are never shown, and are no proof: they say what to compare, and give a little weight. Keep
out: short forms of given names (``domain.nicknames``).
"""

import re
from functools import lru_cache

# The family names of East Asia whose romanisations share too little for rules: the first is the one that is compared.
_ROMANISED_FAMILIES = """
    li lee leigh yi rhee lei; zhang chang jang; chen chan chin; huang hwang wong; zhao chao; zhou chow chou; xu hsu;
    zhu chu; guo kuo kwok; he ho; gao kao; lin lam; luo lo; zheng cheng; liang leung; xie hsieh tse; song sung;
    feng fung; deng teng; cao tsao; wang ong; kim gim; park bak pak; jung jeong chung; choi choe; cho jo; kang gang;
    yoon yun; lim im rim; oh o; seo suh; shin sin; kwon gwon; ahn an; vu vo
"""
_FAMILIES = {
    name: names[0] for names in (line.split() for line in _ROMANISED_FAMILIES.split(";")) for name in names[1:]
}
# In this order: what a rule makes is material for those after it. Most need letters that most names do not have; to ask
# for those first saves a third of the cost.
_RULES: tuple[tuple[str, re.Pattern[str], str], ...] = tuple(
    (needed, re.compile(pattern), replacement)
    for needed, pattern, replacement in (
        ("ch", r"schtsch|shch", "s"),
        ("ch", r"tsch|tch", "c"),
        ("h", r"sch|sh|zh", "s"),
        ("", r"kh|ch|ck|q", "k"),
        ("t", r"ts|tz", "z"),
        ("ph", r"ph", "f"),
        ("gh", r"(?<=[aeiou])gh", ""),
        ("t", r"th|dt", "t"),
        ("x", r"x", "ks"),
        ("w", r"w", "v"),
        ("y", r"y", "i"),
        ("j", r"j", "i"),
        ("i", r"[ea]i", "e"),
        ("ae", r"ae", "a"),
        ("oe", r"oe", "o"),
        ("", r"ue|ou|oo", "u"),
        ("i", r"i+(?=[aeou])", ""),
        ("c", r"c", "k"),
        ("h", r"(?<=[aeiou])h", ""),
        ("", r"(.)\1+", r"\1"),
    )
)


@lru_cache(maxsize=65_536)
def spelling(name: str) -> str:
    """The form that the spellings of a name have in common: müller, mueller and muller; yuri, iouri and juri."""
    folded = _FAMILIES.get(name, name)
    for needed, pattern, replacement in _RULES:
        if needed in folded:
            folded = pattern.sub(replacement, folded)
    return folded or name


_CODES = {
    **dict.fromkeys("bfpv", "1"),
    **dict.fromkeys("cgjkqsxz", "2"),
    **dict.fromkeys("dt", "3"),
    "l": "4",
    **dict.fromkeys("mn", "5"),
    "r": "6",
}


@lru_cache(maxsize=65_536)
def sound(name: str) -> str:
    """American Soundex of a name in lower-case Latin letters, with four digits rather than three."""
    digits: list[str] = []
    last = _CODES.get(name[0], "")
    for letter in name[1:]:
        code = _CODES.get(letter, "")
        if code and code != last:
            digits.append(code)
        if letter not in "hw":
            last = code
    return (name[0] + "".join(digits))[:5]

"""In which encoding a text file is, and why that is believed.

UTF-8 and UTF-16 show themselves. Of the old encodings for Latin letters each can read the others' bytes, only the words
come out wrong, so they are told apart by their words: an accented word of a language keeps to that language's letters
("Müller", not "MŸller"; "Dvořák", not "Dvoøák"). charset-normalizer decides between the other scripts; for names in
Latin letters it took cp1250 for German and Spanish, and cp775 for cp850, at full confidence.
"""

import codecs
import re
from dataclasses import dataclass

from charset_normalizer import from_bytes

from leads_pipeline.buffer.files.content import Content
from leads_pipeline.errors import ImportFileError

_BLOCK_BYTES = 1024 * 1024
# Letters beyond ASCII are looked for so far into a file, and so much text of them is judged.
_LOOKED_AT_BYTES = 256 * 1024 * 1024
_JUDGED_BYTES = 64 * 1024
_HEAD_BYTES = 4096
# Bytes that text does not have; one here and there is a broken row, many are a binary file.
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_MOST_CONTROLS = 0.02
_LEAST_FIT = 0.85
_LEAST_LEAD = 0.1  # over the second best, where the two read different text

_WEST = (
    "äöüß", "àâæçéèêëîïôœùûü", "áéíóúüñ", "ãâáàçéêíóôõúü", "àèéìíòóùú", "åäöéü", "åæøéèêóòô", "áéëïíóöüè",
    "çéèíïóòúüà", "áéíóúâêîôûŵŷ",
)  # fmt: skip
_CENTRAL = ("áčďéěíňóřšťúůýž", "áäčďéíĺľňóôŕšťúýž", "ąćęłńóśźż", "áéíóöőúüű", "ăâîșțşţ", "čćđšž", "äöüß")
_TURKISH = ("çğıöşüâîû",)
_NORTH_EAST = ("ąčęėįšųūž", "āčēģīķļņšūž", "äõöüšž")
# In the order in which they are preferred where they read the same words.
_LATIN = (
    ("cp1252", _WEST), ("cp1250", _CENTRAL), ("iso8859_2", _CENTRAL), ("cp1254", _TURKISH), ("cp1257", _NORTH_EAST),
    ("mac_roman", _WEST), ("cp850", _WEST), ("cp852", _CENTRAL),
)  # fmt: skip
_OTHER_SCRIPTS = frozenset(
    {"cp1251", "koi8_r", "koi8_u", "cp866", "iso8859_5", "mac_cyrillic", "cp1253", "iso8859_7", "cp1255", "iso8859_8",
     "cp1256", "cp932", "shift_jis", "euc_jp", "euc_jis_2004", "gb18030", "gbk", "gb2312", "big5", "cp949", "euc_kr",
     "cp874"}
)  # fmt: skip
_MANY_BYTES = frozenset(
    {"cp932", "shift_jis", "euc_jp", "euc_jis_2004", "gb18030", "gbk", "gb2312", "big5", "cp949", "euc_kr"}
)
_NAMES = {
    "cp1252": "Windows-1252 (western Europe)", "cp1250": "Windows-1250 (central Europe)", "cp1251": "Windows-1251",
    "cp1254": "Windows-1254 (Turkish)", "iso8859_2": "ISO 8859-2 (central Europe)", "mac_roman": "Mac Roman",
    "cp850": "DOS code page 850", "cp852": "DOS code page 852", "cp1257": "Windows-1257 (Baltic)",
}  # fmt: skip

_PUNCTUATION = "«»“”„‘’‚‹›–—…•´`¨·°§©®™€£¡¿\xa0"
_WORD = re.compile(rf"(?:[A-Za-z0-9]|[^\x00-\x7f{_PUNCTUATION}])+")


@dataclass(frozen=True, slots=True)
class Encoding:
    """``name`` is Python's; ``why`` is a sentence for people, and empty where there was nothing to decide."""

    name: str
    why: str = ""


def named_encoding(name: str) -> Encoding:
    """The encoding that a person named.

    Raises:
        ImportFileError: Python knows no text encoding of that name.
    """
    try:
        known = codecs.lookup(name)
    except LookupError:
        known = None
    if known is None or not known._is_text_encoding:
        raise ImportFileError(
            f"there is no encoding {name!r}; usual ones: utf-8, utf-16, windows-1252, windows-1250, windows-1251, "
            "iso-8859-1, iso-8859-15, mac-roman, cp850, shift_jis, gb18030"
        )
    python_name = known.name.replace("-", "_")
    if python_name == "utf_8":
        return Encoding("utf-8-sig")
    return Encoding(python_name, f"encoding: {known.name}, as you said")


def encoding_of(content: Content) -> Encoding:
    """Find out the encoding of a text file.

    Raises:
        ImportFileError: it is not text, or no encoding is likely enough.
    """
    with content.open() as opened:
        sample = opened.stream.read(_BLOCK_BYTES)
        if sample.startswith((b"\xff\xfe", b"\xfe\xff")):
            return Encoding("utf-16")
        if sample.startswith(b"\xef\xbb\xbf"):
            return Encoding("utf-8-sig")
        if (utf16 := _utf16_without_mark(sample[:_HEAD_BYTES])) is not None:
            return utf16
        if len(_CONTROL.findall(sample[:_HEAD_BYTES])) > max(8, _MOST_CONTROLS * len(sample[:_HEAD_BYTES])):
            raise ImportFileError(f"{content.name} is not text, and no kind of file that can be imported")
        lines = _accented_lines(sample)
        read = len(sample)
        while not lines and sample and read < _LOOKED_AT_BYTES:
            sample = opened.stream.read(_BLOCK_BYTES)
            read += len(sample)
            lines = _accented_lines(sample)
    if not lines:
        return Encoding("utf-8")
    unreadable = [line for line in lines if not _is_utf8(line)]
    # One bad row among good ones is a broken row; more of them than of the good are a file in another encoding.
    if 2 * len(unreadable) <= len(lines) or (len(unreadable) == 1 and len(lines) > 1):
        return Encoding("utf-8")
    return likely_encoding(content.name, b"\n".join(unreadable)[:_JUDGED_BYTES])


def likely_encoding(name: str, text: bytes) -> Encoding:
    """The encoding of text that is not UTF-8.

    Raises:
        ImportFileError: none is likely enough; it says how to name one.
    """
    fits = {encoding: _fit(text, encoding, alphabets) for encoding, alphabets in _LATIN}
    best = max(fits.values())
    likely = [encoding for encoding, fit in fits.items() if fit >= max(_LEAST_FIT, best - _LEAST_LEAD)]
    # Western files are the many; among the others two that read different words leave it open.
    if likely and (likely[0] == "cp1252" or len({text.decode(encoding) for encoding in likely}) == 1):
        return Encoding(likely[0], _assumed(likely[0], "its accented words read right in it"))
    found = list(from_bytes(text))
    if found and found[0].encoding in _OTHER_SCRIPTS:
        first = found[0]
        clear = len(found) == 1 or found[1].chaos > first.chaos + 0.02 or found[1].coherence < first.coherence - 0.2
        sure = clear if first.encoding in _MANY_BYTES else first.coherence >= 0.4 and clear
        if first.chaos < 0.1 and sure and not likely:
            return Encoding(first.encoding, _assumed(first.encoding, "its letters make words in it"))
    raise ImportFileError(
        f"{name} is not UTF-8 text, and which other encoding it has cannot be told with confidence. Name it with "
        "--encoding, for example --encoding windows-1252, and look at the sample that is printed; or save it as UTF-8"
    )


def _assumed(encoding: str, why: str) -> str:
    return f"encoding: {_NAMES.get(encoding, encoding)} is assumed: the file is not UTF-8, and {why}"


def _utf16_without_mark(head: bytes) -> Encoding | None:
    half = max(1, len(head) // 2)
    even, odd = head[::2].count(0) / half, head[1::2].count(0) / half
    for name, high, low in (("utf_16_le", odd, even), ("utf_16_be", even, odd)):
        if high > 0.6 and low < 0.1:
            return Encoding(name, "encoding: UTF-16 is assumed, as every second byte is zero")
    return None


def _accented_lines(sample: bytes) -> list[bytes]:
    if sample.isascii():
        return []
    # The last line of a block may be cut in the middle of a letter.
    lines = sample.split(b"\n")
    return [line for line in (lines[:-1] or lines) if not line.isascii()]


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _fit(text: bytes, encoding: str, alphabets: tuple[str, ...]) -> float:
    """The share of the different accented words that keep to one of the alphabets."""
    try:
        decoded = text.decode(encoding)
    except UnicodeDecodeError:
        return 0.0
    words = {word.strip("0123456789") for word in _WORD.findall(decoded) if not word.isascii()}
    if not words:
        return 0.0
    return sum(_is_word(word, alphabets) for word in words) / len(words)


def _is_word(word: str, alphabets: tuple[str, ...]) -> bool:
    if (
        len(word) < 2
        or not word.isalpha()
        or (not word.isupper() and any(c.isupper() and not c.isascii() for c in word[1:]))
    ):
        return False
    lower = word.replace("İ", "i").lower()
    accents = {letter for letter in lower if not letter.isascii()}
    if "õ" in accents and alphabets is _WEST and not re.fullmatch(r"(?:[^õ]|õ[eE])*", lower):
        return False  # Portuguese writes it before e only; elsewhere it is a Hungarian ő in the wrong encoding
    return any(accents <= set(alphabet) for alphabet in alphabets)

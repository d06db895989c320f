"""What people and programs type when they have nothing to say."""

from leads_pipeline.domain.data import words

# Compared without case, spaces and punctuation.
NOTHING: frozenset[str] = words(
    """
    aaa abc abcd abcdef anonym anonymous asd asdasd asdf asdfasdf asdfgh asdfghjkl blabla blah dummy empty
    example fake fakename firstname foo foobar keineangabe lastname lorem loremipsum missing myname name
    noanswer nodata noname none notapplicable notavailable notgiven nothing notknown notprovided qwe qwer
    qwert qwerty qwertyuiop removed sdf sdfsdf somebody someone surname tba tbc tbd test test1
    test123 test2 testing testtest testuser unbekannt undefined unknown unspecified username vorname
    xx xxx xxxx xxxxx xyz yourname zzz
    """
)

# Real names of people too: placeholders only where nothing beside them says otherwise.
NOTHING_OR_NAME: frozenset[str] = words("admin bar blank doe guest na nan nil no null sample secret tester user")

# A company field that says that there is no company.
NO_COMPANY: frozenset[str] = words(
    """
    freelance freelancer home homemaker housewife individual me myself nocompany notemployed pensioner personal
    privat private privateperson privatperson retired self selfemployed student unemployed
    """
)

# Both sides of an address must be one of these: test@test.com is nobody, test@company.com may be somebody.
EMAIL_WORDS: frozenset[str] = NOTHING | words("domain email mail na nil no noemail nomail noone null sample user")

POSTCODES: frozenset[str] = frozenset({"00000", "0000", "000000", "99999", "999999", "xxxxx"})

DATES: frozenset[str] = frozenset(
    {"1900-01-01", "1901-01-01", "1111-11-11", "1234-12-12", "1000-01-01", "1753-01-01", "9999-12-31", "2000-00-00"}
)

_RUNS = frozenset({"1234567", "12345678", "123456789", "1234567890", "0123456789", "9876543210", "0987654321"})


def is_placeholder_number(digits: str) -> bool:
    """Whether a phone number's digits are one digit repeated, or counting."""
    return digits in _RUNS or (len(digits) >= 6 and digits == digits[0] * len(digits))

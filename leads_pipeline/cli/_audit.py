"""Who decides, and why: options of every command that is kept with its decision."""

import re
import unicodedata

import click

# What is kept with a decision stays when a person's data are erased. These are long, and name nobody.
_NAMED = re.compile(
    r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"  # an id of ours
    r"|(?<![\d-])20\d\d-[01]\d-[0-3]\d\.\d{1,3}\b"  # a version of a match model
    r"|(?<![\d-])20[2-9]\d-[01]\d-[0-3]\d(?!\d)",  # a day on which nobody was born who gives us leads
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\d(?:[\s.()/\u2010-\u2015-]*\d){6}")


class Words(click.ParamType[str]):
    """Text that says something. ``impersonal``: that holds no e-mail address, phone number or the like."""

    name = "text"

    def __init__(self, *, impersonal: bool) -> None:
        self._impersonal = impersonal

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value).strip()
        if not text:
            self.fail("it must not be empty: it is kept with the decision", param, ctx)
        plain = unicodedata.normalize("NFKC", text)
        if not self._impersonal:
            return text
        if "@" in plain or _NUMBER.search(_NAMED.sub("id", plain)):
            self.fail(
                "it is kept for good and must not hold personal data: no @ and no number of 7 or more digits; "
                "name a ticket instead",
                param,
                ctx,
            )
        return text


WORDS = Words(impersonal=True)
# Who decides goes by whatever name the company knows them by.
ACTOR = click.option(
    "--actor", required=True, type=Words(impersonal=False), help="Who decides this; it is kept with the decision."
)

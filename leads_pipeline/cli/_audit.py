"""Who decides, and why: options of every command that is kept with its decision."""

import click


class Words(click.ParamType[str]):
    """Text that says something."""

    name = "text"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value).strip()
        if not text:
            self.fail("it must not be empty: it is kept with the decision", param, ctx)
        return text


WORDS = Words()
ACTOR = click.option("--actor", required=True, type=WORDS, help="Who decides this; it is kept with the decision.")

"""Lines that fit a terminal of 80 columns, also with two ids in them."""

import re
from collections.abc import Iterable
from textwrap import wrap

import click

COLUMNS = 80
# Where the text of a line begins: after its indentation and, if two blanks follow one, its label.
_LABEL = re.compile(r" *\S+(?: \S+)*? {2,}")


def echo_lines(lines: Iterable[str]) -> None:
    """Print ``lines``; one that is too long goes on below the beginning of its text. Words are not broken."""
    for line in lines:
        for part in fitted(line):
            click.echo(part)


def fitted(line: str) -> list[str]:
    """``line`` as one or more lines. A word that is too long itself stays whole."""
    if len(line) <= COLUMNS:
        return [line]
    label = _LABEL.match(line)
    begin = label.end() if label else len(line) - len(line.lstrip(" ")) + 2
    begin = min(begin, COLUMNS // 2)
    return wrap(line, COLUMNS, subsequent_indent=" " * begin, break_long_words=False, break_on_hyphens=False)

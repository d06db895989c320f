"""``leads``: one module per command group; each command calls one step.

Add a group in its own module and its name to ``_GROUPS``. Groups are imported when they are called, so that
``leads --help`` stays quick.
"""

import importlib
import sys
from typing import Any

import click

from leads_pipeline import __version__
from leads_pipeline.errors import ConfigError, LeadsError

# command: (module, attribute, one line of help)
_GROUPS: dict[str, tuple[str, str, str]] = {
    "config": ("leads_pipeline.cli.config", "config", "Check leads.yaml, print its schema."),
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_GROUPS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _GROUPS:
            return None
        module, attribute, _help = _GROUPS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _GROUPS[name][2]) for name in self.list_commands(ctx)])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--config", "config_file", metavar="FILE", help="The leads.yaml to use (or LEADS_CONFIG).")
@click.version_option(__version__, prog_name="leads")
@click.pass_context
def cli(context: click.Context, config_file: str | None) -> None:
    """Leads from the web to the CRM: none lost, none doubled, never over the CRM's limits."""
    context.obj = config_file


def main(argv: list[str] | None = None) -> Any:
    """Run a command. A ``LeadsError`` is printed, not traced: exit 2 for configuration, 1 for the rest."""
    try:
        return cli.main(args=argv, prog_name="leads")
    except ConfigError as error:
        click.secho(f"error: {error}", fg="red", err=True)
        sys.exit(2)
    except LeadsError as error:
        click.secho(f"error: {error}", fg="red", err=True)
        sys.exit(1)

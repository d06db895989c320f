"""``leads matching``: how leads are told apart; its commands stand in modules of their own.

Add a command in its own module and its name to ``_COMMANDS``. They are imported when they are called: the model, Splink
and DuckDB cost seconds.
"""

import importlib

import click

# command: (module, attribute, one line of help)
_COMMANDS: dict[str, tuple[str, str, str]] = {
    "activate": ("leads_pipeline.cli.matching_models", "activate", "Let a trained model score a tenant's pairs."),
    "evaluate": (
        "leads_pipeline.cli.matching_evaluate",
        "evaluate",
        "How well the leads of a file are told apart, where the truth is known.",
    ),
    "list": ("leads_pipeline.cli.matching_models", "list_models", "The models of a tenant, and which of them serves."),
    "rebuild": (
        "leads_pipeline.cli.matching_rebuild",
        "rebuild",
        "Resolve all leads of a tenant anew: show what would differ, write it.",
    ),
    "reindex": (
        "leads_pipeline.cli.matching_reindex",
        "reindex",
        "Make anew what a tenant's leads are found by, after an upgrade.",
    ),
    "report": ("leads_pipeline.cli.matching_models", "report", "Write what a model believes to an HTML file."),
    "rollback": ("leads_pipeline.cli.matching_models", "rollback", "Let the model serve again that did before."),
    "train": ("leads_pipeline.cli.matching_train", "train", "Learn a model from a tenant's own leads."),
}


class _LazyCommands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, attribute, _help = _COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _COMMANDS[name][2]) for name in self.list_commands(ctx)])


@click.group(cls=_LazyCommands)
def matching() -> None:
    """How leads are told apart: the model, how well it does, and all contacts resolved anew."""

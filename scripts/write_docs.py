"""Write the parts of the docs that follow from the code: every setting, command and metric.

``python scripts/write_docs.py`` writes them; a test fails when they are out of date.
"""

import json
import sys
from pathlib import Path
from typing import Any

import click

from leads_pipeline.cli import cli
from leads_pipeline.cli.policy import condition, effect
from leads_pipeline.config import PolicySettings, json_schema
from leads_pipeline.config.default_policies import DEFAULT_POLICIES
from leads_pipeline.watching.measures import MEASURES
from leads_pipeline.watching.metrics.taking import FAMILIES

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- written by scripts/write_docs.py: begin -->", "<!-- end -->"


Row = tuple[str, str, str, str]


def setting_rows() -> list[Row]:
    """(path, allowed, default, meaning) of every setting, in the order of the file."""
    schema = json_schema()
    return _Settings(schema["$defs"]).rows("", schema, required=True)


class _Settings:
    """The settings of a JSON Schema with these definitions."""

    def __init__(self, definitions: dict[str, Any]) -> None:
        self._definitions = definitions

    def rows(self, path: str, node: dict[str, Any], *, required: bool) -> list[Row]:
        node = self._resolved(node)
        options = [self._resolved(option) for option in node.get("anyOf", []) if option.get("type") != "null"]
        if options:
            node = {**options[0], **{name: value for name, value in node.items() if name != "anyOf"}}
        if "properties" in node:
            wanted = node.get("required", ())
            children = node["properties"].items()
            found = [
                self.rows(f"{path}.{name}".lstrip("."), child, required=name in wanted) for name, child in children
            ]
            return [row for rows in found for row in rows]
        extra = node.get("additionalProperties")
        if isinstance(extra, dict) and "discriminator" in extra:
            return self._of_kinds(f"{path}.NAME", extra["discriminator"])
        if isinstance(extra, dict) and "properties" in self._resolved(extra):
            return self.rows(f"{path}.NAME", extra, required=True)
        items = self._resolved(node["items"]) if isinstance(node.get("items"), dict) else {}
        if "properties" in items:
            return self.rows(f"{path}[]", items, required=True)
        return [(path, _allowed(node, items), _default(node, required=required), node.get("description", ""))]

    def _of_kinds(self, path: str, told_apart: dict[str, Any]) -> list[Row]:
        """What all kinds have alike stands once, then what each has by itself."""
        kinds = sorted(told_apart["mapping"].items())
        by_kind = {kind: self.rows(path, {"$ref": reference}, required=True) for kind, reference in kinds}
        name = told_apart["propertyName"]
        first, *others = by_kind.values()
        shared = [row for row in first if all(row in other for other in others)]
        known = ", ".join(f"`{kind}`" for kind in by_kind)
        rows = [(f"{path}.{name}", known, "required", "Whose API it speaks: docs/destinations.md."), *shared]
        for kind, its in by_kind.items():
            own = [row for row in its if row not in shared and row[0] != f"{path}.{name}"]
            rows += [(*row[:3], f"{name} {kind}: {row[3]}".strip()) for row in own]
        return rows

    def _resolved(self, node: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in node or "allOf" in node:
            reference = node.get("$ref") or node["allOf"][0]["$ref"]
            rest = {name: value for name, value in node.items() if name not in ("$ref", "allOf")}
            node = {**self._definitions[reference.rpartition("/")[2]], **rest}
        return node


def _allowed(node: dict[str, Any], items: dict[str, Any]) -> str:
    if "const" in node:
        return f"`{node['const']}`"
    if "enum" in node:
        return ", ".join(f"`{value}`" for value in node["enum"])
    if node.get("type") == "array" and "enum" in items:
        return f"list of {', '.join(f'`{value}`' for value in items['enum'])}"
    if node.get("type") == "array":
        return f"list of {items.get('type', 'value')}s"
    if node.get("type") == "object":
        keys = resolve_names(node.get("propertyNames", {}))
        return f"mapping{keys} to {node.get('additionalProperties', {}).get('type', 'value')}"
    text = {"integer": "whole number", "number": "number", "string": "text", "boolean": "`true`, `false`"}.get(
        node.get("type", ""), "value"
    )
    bounds = [
        f"{sign} {node[name]}"
        for name, sign in (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
        if name in node
    ]
    if "pattern" in node:
        bounds.append(f"like `{node['pattern']}`")
    return " ".join([text, ", ".join(bounds)]).strip()


def resolve_names(names: dict[str, Any]) -> str:
    """The allowed keys of a mapping, for the table."""
    return f" of {', '.join(names['enum'])}" if "enum" in names else ""


def _default(node: dict[str, Any], *, required: bool) -> str:
    if "default" in node:
        return f"`{json.dumps(node['default'])}`"
    return "required" if required else "below"


def configuration_table() -> str:
    """The table of docs/configuration.md."""
    lines = ["| Setting | Allowed | Default | Meaning |", "|---|---|---|---|"]
    lines += [
        f"| `{path}` | {allowed.replace('|', chr(92) + '|')} | {default} | {meaning} |"
        for path, allowed, default, meaning in setting_rows()
    ]
    return "\n".join(lines)


def command_reference() -> str:
    """Every command with its help, for docs/commands.md."""
    sections: list[str] = []

    def walk(command: click.Command, name: str, parent: click.Context | None) -> None:
        settings = {**command.context_settings, "max_content_width": 100, "terminal_width": 100}
        context = click.Context(command, info_name=name, parent=parent, **settings)
        if isinstance(command, click.Group):
            for child in command.list_commands(context):
                found = command.get_command(context, child)
                if found is not None:
                    walk(found, child, context)
            return
        sections.append(f"## {context.command_path}\n\n```text\n{context.get_help()}\n```")

    walk(cli, "leads", None)
    return "\n\n".join(sections)


def with_generated(text: str, generated: str) -> str:
    """``text`` with what stands between the two marks replaced."""
    before, _begin, rest = text.partition(BEGIN)
    _old, _end, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{generated}\n\n{END}{after}"


def metrics_table() -> str:
    """The table of docs/metrics.md."""
    lines = ["| Metric | Kind | Labels | Meaning |", "|---|---|---|---|"]
    lines += [
        f"| `{family.name}` | {family.kind} | {', '.join(f'`{label}`' for label in family.labels)} | {family.text} |"
        for family in FAMILIES
    ]
    return "\n".join(lines)


def measures_table() -> str:
    """The table of docs/measurements.md."""
    lines = ["| Measure | Unit | By | Over | What it says |", "|---|---|---|---|---|"]
    lines += [
        f"| `{name}` | {kind.unit} | {', '.join(f'`{label}`' for label in kind.labels) or 'all'} | {kind.over} | "
        f"{kind.description} |"
        for name, kind in MEASURES.items()
    ]
    return "\n".join(lines)


def policies_table() -> str:
    """The rules that are shipped, as a table."""
    lines = ["| rule | when | for | then | until | at most | |", "|---|---|---|---|---|---|---|"]
    for name, shipped in DEFAULT_POLICIES.items():
        rule = PolicySettings.model_validate(shipped)
        side = "<" if rule.when.above is not None else ">"
        off = "" if rule.enabled else " Not enabled."
        lines.append(
            f"| `{name}` | {condition(rule)} | {rule.for_seconds:g} s | {effect(rule)} "
            f"| {side} {rule.well:g} for {rule.recover_seconds:g} s | {rule.at_most_seconds:g} s "
            f"| {rule.description}{off} |"
        )
    return "\n".join(lines)


PARTS = {
    "docs/configuration.md": configuration_table,
    "docs/commands.md": command_reference,
    "docs/measurements.md": measures_table,
    "docs/metrics.md": metrics_table,
    "docs/policies.md": policies_table,
}


def main() -> int:
    """Write every part. Returns the number of files that changed."""
    changed = 0
    for name, write in PARTS.items():
        path = ROOT / name
        before = path.read_text(encoding="utf-8")
        after = with_generated(before, write())
        if after != before:
            path.write_text(after, encoding="utf-8")
            print(f"wrote {name}")
            changed += 1
    (ROOT / "docs/leads.schema.json").write_text(json.dumps(json_schema(), indent=2) + "\n", encoding="utf-8")
    # kustomize takes no file from outside of its directory.
    (ROOT / "deploy/kubernetes/base/instance.yaml").write_bytes((ROOT / "dagster.yaml").read_bytes())
    return changed


if __name__ == "__main__":
    main()
    sys.exit(0)

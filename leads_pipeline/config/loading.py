"""From a file to ``Settings``: found, read, validated whole; every fault named with what is allowed."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from leads_pipeline.config.base import MISPLACED_SECRET, ORIGIN, WEB_ADDRESS, Model, SecretRef
from leads_pipeline.config.destinations import VENDORS
from leads_pipeline.config.settings import DEFAULT_CONFIG_NAME, Settings
from leads_pipeline.errors import ConfigError

CONFIG_VARIABLE = "LEADS_CONFIG"

# Where Pydantic names the vendor of a destination: destinations.NAME.VENDOR.key.
_VENDOR_IN_PATH = 2

_PATTERNS_IN_WORDS = {
    ORIGIN: "must be a site without a path, such as https://www.example.com, or '*'",
    WEB_ADDRESS: "must begin with https:// or http://",
    r"^[A-Z]{2}$": "must be a code of two capital letters, such as US",
}


def config_path(explicit: str | None = None) -> Path:
    """The file to read: ``explicit``, else ``LEADS_CONFIG``, else ``leads.yaml`` here or in a parent directory."""
    named = explicit or os.environ.get(CONFIG_VARIABLE)
    if named:
        return Path(named).resolve()
    here = Path.cwd()
    for directory in (here, *here.parents):
        candidate = directory / DEFAULT_CONFIG_NAME
        if candidate.is_file():
            return candidate
    return here / DEFAULT_CONFIG_NAME


def load_settings(explicit: str | None = None) -> Settings:
    """Read and validate the configuration.

    Raises:
        ConfigError: no file, not YAML, or any number of faults, each named with its path, value and what is allowed.
    """
    path = config_path(explicit)
    return parse_settings(load_text(path), path=path)


def load_text(path: Path) -> str:
    """The text of a configuration file. Raises ``ConfigError`` if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"cannot read the configuration {path}: {error.strerror}. "
            f"Name a file with --config or {CONFIG_VARIABLE}, or work in a directory that has a {DEFAULT_CONFIG_NAME}."
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from error


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a key that a mapping has twice: YAML keeps the last one, and what the first one said is gone."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _value in node.value:
            # "<<" takes other mappings in and may stand more than once.
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.MarkedYAMLError(problem=f"{key.value!r} stands here twice", problem_mark=key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def parse_settings(text: str, *, path: Path) -> Settings:
    """Validate the text of a configuration file. Raises ``ConfigError`` as ``load_settings`` does."""
    try:
        document = yaml.load(text, _UniqueKeys)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        # PyYAML calls what it reads "<unicode string>".
        told = str(error).replace('in "<unicode string>", ', "at ")
        raise ConfigError(f"{path} is not YAML: {told}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path} must hold a mapping with the keys {', '.join(Settings.model_fields)}")
    try:
        settings = Settings.model_validate(document)
    except ValidationError as error:
        faults = tuple(_fault(item) for item in error.errors(include_url=False))
        raise ConfigError(f"{path} has {len(faults)} fault{'s' if len(faults) > 1 else ''}:", faults=faults) from None
    settings._path = path.resolve()
    return settings


def parse_with_policies(path: Path, other: Path) -> Settings:
    """The configuration ``path`` with the rules of ``other``: a whole configuration, or one with ``policies`` alone.

    The latter changes rules key by key, as leads.yaml does those that are shipped.

    Raises:
        ConfigError: as ``load_settings`` does, about ``other``.
    """
    text = load_text(other)
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError:
        document = None  # parse_settings says what is wrong
    if isinstance(document, dict) and document.keys() == {"policies"} and isinstance(document["policies"], dict):
        whole = yaml.safe_load(load_text(path))
        rules = dict(whole.get("policies") or {})
        for name, rule in document["policies"].items():
            known = rules.get(name)
            rules[name] = {**known, **rule} if isinstance(known, dict) and isinstance(rule, dict) else rule
        whole["policies"] = rules
        text = yaml.safe_dump(whole, sort_keys=False)
    return parse_settings(text, path=other)


def _fault(item: Any) -> str:
    loc = [str(part) for part in item["loc"] if part != "[key]"]
    if loc[:1] == ["destinations"] and len(loc) > _VENDOR_IN_PATH:
        del loc[_VENDOR_IN_PATH]  # Pydantic names the vendor there, and the file does not
    path = ".".join(loc) or "(top level)"
    message = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return _vendor_fault(path, item)
    if item["type"] == "missing":
        return f"{path}: required, but missing"
    if item["type"] == "extra_forbidden":
        return f"{path}: there is no such key"
    # A secret where its variable's name should stand is not the name's pattern: it must not be repeated either.
    misplaced = item["type"] == "string_pattern_mismatch" and item["loc"][-1] == "env"
    if misplaced or (item["type"] == "model_type" and item["ctx"]["class_name"] == SecretRef.__name__):
        return f"{path}: a secret stands in the environment, not in this file: write {{env: NAME}}"
    value = item["input"]
    is_shown = item["type"] != MISPLACED_SECRET and not isinstance(value, dict | list | BaseModel)
    shown = f" = {value!r}" if is_shown else ""
    if item["type"] == "string_type" and isinstance(value, bool):  # NO is not Norway, on and off are no names
        message += "; YAML reads yes, no, on and off as true and false: put it in quotes"
    return f"{path}{shown}: {_told_in_words(item) or message[:1].lower() + message[1:]}"


def _vendor_fault(path: str, item: Any) -> str:
    """Of settings that are told apart by their vendor, which is missing or unknown."""
    known = ", ".join(sorted(VENDORS))
    if item["type"] == "union_tag_not_found":
        return f"{path}.vendor: required, but missing; allowed: {known}"
    return f"{path}.vendor = {item['ctx']['tag']!r}: there is no such vendor; allowed: {known}"


def _told_in_words(item: Any) -> str | None:
    """What is allowed, where Pydantic would speak of Python's types or show a regular expression."""
    match item["type"]:
        case "tuple_type":
            return "must be a list, such as [a, b]"
        case "model_type":
            model = next(kind for kind in _every_model(Model) if kind.__name__ == item["ctx"]["class_name"])
            return f"must be a mapping with the keys {', '.join(model.model_fields)}"
        case "dict_type" | "model_attributes_type":
            return "must be a mapping"
        case "bool_type" | "bool_parsing":
            return "must be true or false"
        case "int_type" | "int_parsing" | "int_from_float":
            return "must be a whole number"
        case "float_type" | "float_parsing":
            return "must be a number"
        case "string_pattern_mismatch":
            return _PATTERNS_IN_WORDS.get(item["ctx"]["pattern"])
    return None


def _every_model(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for kind in model.__subclasses__():
        yield kind
        yield from _every_model(kind)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of leads.yaml, for editors."""
    schema = Settings.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "leads.yaml", **schema}

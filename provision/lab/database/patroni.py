"""Patroni's configuration of one member of the stand-in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from analysis.plan import DatabasePlan
from provision.lab.database.certificates import SUPERUSER
from provision.lab.topology import DatabaseTimers

_TIMERS = {
    DatabaseTimers.FAST: {"ttl": 8, "loop_wait": 1, "retry_timeout": 3},
    DatabaseTimers.SLOW: {"ttl": 20, "loop_wait": 1, "retry_timeout": 3},
}
"""Seconds: lease of the leader's key, from one look to the next, patience with the store."""

_SYSTEM_USER = "postgres"
"""Who the member's processes are, as its image's /etc/passwd has it."""

_NODE = "node"
"""Common name of the certificate by which members know each other."""

_REPLICATION, _REWIND = "replicator", "rewind"


@dataclass(frozen=True)
class Folders:
    """Where a member's files are in its container.

    Attributes:
        data: outlives the container.
        private: its own copies of keys, and its socket; nobody else may look into it.
        programs: PostgreSQL's.
    """

    data: str
    private: str
    programs: str

    @property
    def certificates(self) -> str:
        """The database's certificates."""
        return f"{self.private}/certificates"

    @property
    def store_certificates(self) -> str:
        """Those for the store."""
        return f"{self.private}/store-certificates"

    @property
    def socket(self) -> str:
        """Where Patroni reaches its own PostgreSQL."""
        return f"{self.private}/socket"


def configuration(
    plan: DatabasePlan, region: str, host: str, store: str, folders: Folders, timers: DatabaseTimers
) -> dict[str, Any]:
    """The whole configuration, to be written as YAML.

    Args:
        plan: the database's ports and names.
        region: where the member is; its tag, and part of its name.
        host: the name by which the others reach it.
        store: host:port of the store's member in the same region. The member asks no other one.
        folders: where its files are.
        timers: how soon a lost primary is replaced.
    """
    certificates, stores = folders.certificates, folders.store_certificates
    return {
        "scope": plan.service,
        "name": f"{host.partition('.')[0]}.{region}",
        "tags": {"region": region},
        "restapi": {
            "listen": f"0.0.0.0:{plan.console_port}",
            "connect_address": f"{host}:{plan.console_port}",
            "certfile": f"{certificates}/node.crt",
            "keyfile": f"{certificates}/node.key",
            "cafile": f"{certificates}/ca.crt",
            "verify_client": "optional",
        },
        "ctl": {
            "cacert": f"{certificates}/ca.crt",
            "certfile": f"{certificates}/node.crt",
            "keyfile": f"{certificates}/node.key",
        },
        "etcd3": {
            "hosts": [store],
            "protocol": "https",
            # Else Patroni asks the store for its other members and uses those of other regions too.
            "use_proxies": True,
            "cacert": f"{stores}/ca.crt",
            "cert": f"{stores}/client.crt",
            "key": f"{stores}/client.key",
        },
        "bootstrap": {
            "dcs": _replication(timers),
            "initdb": [
                {"username": SUPERUSER},
                {"auth": "reject"},
                {"encoding": "UTF8"},
                {"locale": "C"},
                {"wal-segsize": "4"},
                "no-sync",
            ],
        },
        "postgresql": {
            "listen": f"0.0.0.0:{plan.sql_port}",
            "connect_address": f"{host}:{plan.sql_port}",
            "data_dir": f"{folders.data}/pgdata",
            "bin_dir": folders.programs,
            "use_unix_socket": True,
            "use_unix_socket_repl": True,
            "authentication": _authentication(folders),
            "parameters": _parameters(folders),
            "pg_hba": _ACCESS,
            "pg_ident": _IDENTITIES,
        },
    }


def _replication(timers: DatabaseTimers) -> dict[str, Any]:
    """What all members have in common: it is written to the store, once."""
    return {
        **_TIMERS[timers],
        "maximum_lag_on_failover": 1 << 20,
        # A primary that has ended is replaced, not waited for.
        "primary_start_timeout": 0,
        "primary_stop_timeout": 5,
        "synchronous_mode": True,
        "synchronous_mode_strict": True,
        # With two, the loss of any region would stop all writes.
        "synchronous_node_count": 1,
        "postgresql": {
            "use_pg_rewind": True,
            # A member that cannot be wound back to where the primary parted from it is copied from the primary: else
            # it would fail to start for good. What it alone had was acknowledged to nobody.
            "remove_data_directory_on_rewind_failure": True,
            "remove_data_directory_on_diverged_timelines": True,
            "use_slots": True,
            "parameters": {
                "max_connections": 100,
                "max_wal_senders": 8,
                "max_replication_slots": 8,
                "max_worker_processes": 4,
                "wal_log_hints": "on",
            },
        },
    }


def _authentication(folders: Folders) -> dict[str, Any]:
    """Who members are to each other: there are no passwords."""
    certificates = folders.certificates
    member = {
        "sslmode": "verify-full",
        "sslrootcert": f"{certificates}/ca.crt",
        "sslcert": f"{certificates}/node.crt",
        "sslkey": f"{certificates}/node.key",
    }
    roles = {"superuser": SUPERUSER, "replication": _REPLICATION, "rewind": _REWIND}
    return {role: {"username": user, **member} for role, user in roles.items()}


def _parameters(folders: Folders) -> dict[str, Any]:
    """This member's own settings: TLS, a small memory, and little patience with peers that are silent."""
    certificates = folders.certificates
    return {
        "unix_socket_directories": folders.socket,
        "unix_socket_permissions": "0700",
        "ssl": "on",
        "ssl_cert_file": f"{certificates}/node.crt",
        "ssl_key_file": f"{certificates}/node.key",
        "ssl_ca_file": f"{certificates}/ca.crt",
        "ssl_min_protocol_version": "TLSv1.2",
        "password_encryption": "scram-sha-256",
        "shared_buffers": "32MB",
        "max_wal_size": "64MB",
        "min_wal_size": "16MB",
        "wal_keep_size": "64MB",
        "wal_sender_timeout": "3s",
        "wal_receiver_timeout": "3s",
        "wal_receiver_status_interval": "1s",
        "wal_retrieve_retry_interval": "200ms",
        "tcp_user_timeout": "3s",
        "tcp_keepalives_idle": "1",
        "tcp_keepalives_interval": "1",
        "tcp_keepalives_count": "3",
        "logging_collector": "off",
    }


_ACCESS = [
    f"local all {SUPERUSER} peer map=local",
    f"local replication {_REPLICATION} peer map=local",
    f"hostssl all {SUPERUSER} all cert",
    f"hostssl replication {_REPLICATION} all cert map=member",
    f"hostssl all {_REWIND} all cert map=member",
]
"""pg_hba.conf, all of it: by the network with a certificate, in the container by the user id."""

_IDENTITIES = [
    f"local {_SYSTEM_USER} {SUPERUSER}",
    f"local {_SYSTEM_USER} {_REPLICATION}",
    f"member {_NODE} {_REPLICATION}",
    f"member {_NODE} {_REWIND}",
]
"""pg_ident.conf: a map, who somebody is, and as whom they may log in."""

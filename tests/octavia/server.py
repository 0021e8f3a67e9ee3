"""Octavia's real API on this machine, with its driver that does nothing.

usage: python -m tests.octavia.server FOLDER PORT

The driver never reports back, so a thread plays the worker: what is PENDING becomes ACTIVE, or is
deleted, after SETTLING seconds. It prints `up` once it listens on loopback.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from octavia.api import app
from octavia.common import constants
from octavia.db import api as database
from octavia.db import base_models, models
from oslo_config import cfg
from sqlalchemy import text

SETTLING = 0.2
KINDS = ("load_balancer", "listener", "pool", "member", "health_monitor")
DEPENDENT = {
    "pool": (
        "update listener set default_pool_id = null where default_pool_id = :id",
        "delete from health_monitor where pool_id = :id",
        "delete from member where pool_id = :id",
        "delete from session_persistence where pool_id = :id",
    ),
    "listener": ("delete from listener_statistics where listener_id = :id",),
}
"""What goes with a row, as the worker's own flows delete it."""

LOOKUPS = (
    (constants.SUPPORTED_PROVISIONING_STATUSES, models.ProvisioningStatus),
    (constants.SUPPORTED_OPERATING_STATUSES, models.OperatingStatus),
    (constants.SUPPORTED_HEALTH_MONITOR_TYPES, models.HealthMonitorType),
    (constants.SUPPORTED_LB_ALGORITHMS, models.Algorithm),
    (constants.SUPPORTED_PROTOCOLS, models.Protocol),
    (constants.SUPPORTED_SP_TYPES, models.SessionPersistenceType),
    (constants.SUPPORTED_LB_TOPOLOGIES, models.LBTopology),
    (constants.SUPPORTED_CLIENT_AUTH_MODES, models.ClientAuthenticationMode),
)


ONE_AT_A_TIME = threading.Lock()
"""SQLite takes one writer."""


class Quiet(WSGIRequestHandler):
    """Logs nothing."""

    def log_message(self, format: str, *args: object) -> None:
        """Do nothing."""


def configure(folder: Path) -> None:
    """Set what a deployment's octavia.conf would say."""
    api = {
        "auth_strategy": constants.NOAUTH,
        "enabled_provider_drivers": {"noop_driver": "does nothing"},
        "default_provider_driver": "noop_driver",
    }
    for name, value in api.items():
        cfg.CONF.set_override(name, value, group="api_settings")
    cfg.CONF.set_override("network_driver", "network_noop_driver", group="controller_worker")
    cfg.CONF.set_override("connection", f"sqlite:///{folder}/octavia.sqlite", group="database")
    # SQLite's pool has no such setting.
    cfg.CONF.set_override("pool_timeout", None, group="database")


def create_tables() -> None:
    """Create the database with its constants."""
    base_models.BASE.metadata.create_all(database.get_engine())
    session = database.get_session()
    with session.begin():
        for names, kind in LOOKUPS:
            session.add_all(kind(name=each) for each in names)


def work() -> None:
    """Finish what is pending, again and again."""
    while True:
        time.sleep(SETTLING)
        with ONE_AT_A_TIME, database.get_engine().begin() as connection:
            for kind in KINDS:
                gone = f"select id from {kind} where provisioning_status = 'PENDING_DELETE'"
                for (row,) in connection.execute(text(gone)).all():
                    for statement in (
                        *DEPENDENT.get(kind, ()),
                        f"delete from {kind} where id = :id",
                    ):
                        connection.execute(text(statement), {"id": row})
                connection.execute(
                    text(
                        f"update {kind} set provisioning_status = 'ACTIVE' "
                        "where provisioning_status like 'PENDING%'"
                    )
                )


def main() -> None:
    """Serve until this process is ended."""
    configure(Path(sys.argv[1]))
    create_tables()
    octavia = app.setup_app(argv=["octavia-api", "--config-file", "/dev/null"])

    def serving(environ: dict[str, Any], start: Any) -> list[bytes]:
        with ONE_AT_A_TIME:
            return list(octavia(environ, start))

    threading.Thread(target=work, daemon=True).start()
    server = make_server("127.0.0.1", int(sys.argv[2]), serving, handler_class=Quiet)
    print("up", server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()

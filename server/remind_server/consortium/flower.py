"""Everything that a consortium uses of Flower: the Control API over loopback, bundles, and program command lines.

The Control client is internal to Flower (pyproject.toml pins the version). Unlike Flower's command line, it returns the
public key of a node and the cause of an error, and is a second faster per call. No other file here imports Flower.
"""

import hashlib
import os
import ssl
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import httpx
from cryptography.hazmat.primitives import serialization
from flwr.cli.build import build_fab_from_files
from flwr.common.serde import fab_to_proto, user_config_to_proto
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    StartRunRequest,
    StopRunRequest,
    UnregisterNodeRequest,
)
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.error import FlowerError
from flwr.supercore.fab import Fab
from flwr.supercore.interceptors.http.runtime_version import RuntimeVersionHttpInterceptor
from flwr.supercore.utils import validate_node_location

from remind.alerts.settings import VARIABLE
from remind.config import Scalar
from remind.consortium.enrolment import load_public_key
from remind.errors import UserError
from remind_server.consortium.folder import Folder, read_file, write_file
from remind_server.simulation.app_config import app_toml

CONSORTIUM = "REMIND_CONSORTIUM"  # passes the consortium's folder to the ServerApps
NODE_NOT_FOUND = 24  # Flower's error codes
KEY_IN_USE = 23


@dataclass(frozen=True)
class Node:
    """A SuperNode as the SuperLink knows it; `status`: registered (never came), online, offline, unregistered."""

    node_id: int
    public_key: str
    status: str
    seen: datetime | None


@dataclass(frozen=True)
class Run:
    """A run as the SuperLink knows it; `status`: pending, starting, running, finished:completed (failed, stopped)."""

    run_id: int
    status: str
    details: str
    started: str

    @property
    def finished(self) -> bool:
        """Return whether it has ended, successfully or not."""
        return self.status.startswith("finished")


class RefusalError(UserError):
    """The SuperLink refused; `code` is Flower's error code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class UnreachableError(UserError):
    """No SuperLink answers."""


class Control:
    """The SuperLink's Control API. It has no authentication, so it is only reachable from this machine."""

    def __init__(self, address: str, root_certificate: bytes) -> None:
        self.address = address
        self._client = ControlHttpClient.from_server_address(
            address,
            insecure=False,
            root_certificates=root_certificate,
            interceptors=[RuntimeVersionHttpInterceptor(component_name="remind consortium")],
        )

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def register(self, public_key: str, name: str, location: str) -> int:
        """Register a key; return its node id. Flower keeps a location only if it is latitude and longitude."""
        pem = load_public_key(public_key).public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        request = RegisterNodeRequest(public_key=pem, name=name)
        if _is_position(location):
            request.location = location
        with self._errors():
            return int(self._client.RegisterNode(request).node_id)

    def unregister(self, node_id: int) -> None:
        """Unregister a node, permanently. No error if it is unregistered already."""
        try:
            with self._errors():
                self._client.UnregisterNode(UnregisterNodeRequest(node_id=node_id))
        except RefusalError as error:
            if error.code != NODE_NOT_FOUND:
                raise

    def nodes(self) -> dict[str, Node]:
        """Return all nodes ever registered, by public key."""
        with self._errors():
            answer = self._client.ListNodes(ListNodesRequest())
        found = {}
        for info in answer.nodes_info:
            key = _openssh(info.public_key)
            seen = answer.now if info.status == "online" else info.last_deactivated_at or info.last_activated_at
            found[key] = Node(info.node_id, key, info.status, datetime.fromisoformat(seen) if seen else None)
        return found

    def start_run(self, bundle: bytes, config: Mapping[str, Scalar]) -> int:
        """Submit a run; return its id."""
        fab = Fab(bundle_hash(bundle), bundle, {})
        request = StartRunRequest(fab=fab_to_proto(fab), override_config=user_config_to_proto(dict(config)))
        with self._errors():
            return int(self._client.StartRun(request).run_id)

    def stop_run(self, run_id: int) -> None:
        """Stop a run."""
        with self._errors():
            self._client.StopRun(StopRunRequest(run_id=run_id))

    def runs(self) -> list[Run]:
        """Return all runs, oldest first."""
        with self._errors():
            answer = self._client.ListRuns(ListRunsRequest())
        found = [_run(run) for run in answer.run_dict.values()]
        return sorted(found, key=lambda run: run.started)

    def run(self, run_id: int) -> Run:
        """Read one run."""
        with self._errors():
            answer = self._client.ListRuns(ListRunsRequest(run_id=run_id))
        if run_id not in answer.run_dict:
            raise UserError(f"no run {run_id}; `remind consortium runs` lists all runs")
        return _run(answer.run_dict[run_id])

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Convert Flower's errors into UserErrors."""
        try:
            yield
        except httpx.HTTPStatusError as error:
            answer = FlowerError.from_json(error.response.text)
            if answer is None:
                raise UserError(f"the SuperLink answered {error.response.status_code}; see its own output") from None
            raise RefusalError(
                int(answer.code), f"the SuperLink refused: {answer.message} (Flower's code {answer.code})"
            ) from None
        except httpx.RequestError as error:
            raise UnreachableError(
                f"no SuperLink answers on {self.address} ({error}); start it with: remind consortium serve"
            ) from None


@contextmanager
def control(folder: Folder) -> Iterator[Control]:
    """Return the Control API of a consortium served on this machine."""
    try:
        client = Control(folder.settings.superlink, read_file(folder.loopback_ca))
    except ssl.SSLError:
        raise UserError(f"{folder.loopback_ca} is damaged; run: remind consortium renew DIR --loopback") from None
    try:
        yield client
    finally:
        client.close()


def app_bundle() -> bytes:
    """Build the bundle that is sent to hospitals: only configuration, the same for all runs of this version."""
    content, _ = build_fab_from_files({"pyproject.toml": app_toml().encode()})
    return bytes(content)


def bundle_hash(bundle: bytes) -> str:
    """Return the SHA-256 of a bundle in hexadecimal, as in Flower's file name and in the hospitals' allow lists."""
    return hashlib.sha256(bundle).hexdigest()


def superlink_command(folder: Folder) -> list[str]:
    """Return the command line of a SuperLink on loopback: signed hospitals only, tasks need the secret, no packages."""
    pem = str(folder.loopback)
    return [
        "flower-superlink",
        *("--host", "127.0.0.1", "--port", str(folder.settings.local.superlink)),
        *("--ssl-ca-certfile", str(folder.loopback_ca), "--ssl-certfile", pem, "--ssl-keyfile", pem),
        "--enable-supernode-auth",
        *("--isolation", "process", "--superexec-auth-secret-file", str(folder.superexec_secret)),
        "--disable-runtime-dependency-installation",
        *("--database", str(folder.database)),
    ]


def superexec_command(folder: Folder) -> list[str]:
    """Return the command line of the SuperExec, which starts ServerApps in a process of its own.

    So runs survive a restart of the SuperLink.
    """
    return [
        "flower-superexec",
        *("--runtime-api-address", folder.settings.superlink),
        *("--root-certificates", str(folder.loopback_ca)),
        *("--superexec-auth-secret-file", str(folder.superexec_secret)),
        *("--parent-pid", str(os.getpid())),
    ]


def environment(folder: Folder) -> dict[str, str]:
    """Return the environment of Flower's programs: PATH to each other, files in the consortium, no telemetry."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "FLWR_HOME": str(folder.flower_home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        CONSORTIUM: str(folder.root),
        **({VARIABLE: str(folder.alerts)} if folder.alerts.exists() else {}),
    }


def write_connection(folder: Folder) -> None:
    """Configure ``FLWR_HOME=DIR/flwr flwr …`` for this SuperLink."""
    text = (
        f'[superlink]\ndefault = "consortium"\n\n[superlink.consortium]\naddress = "{folder.settings.superlink}"\n'
        f'root-certificates = "{folder.loopback_ca}"\n'
    )
    write_file(folder.flower_home / "config.toml", text.encode())


def _run(run: object) -> Run:
    status = run.status  # type: ignore[attr-defined]
    name = f"{status.status}:{status.sub_status}" if status.sub_status else status.status
    return Run(run.run_id, name, status.details, run.pending_at)  # type: ignore[attr-defined]


def _openssh(pem: bytes) -> str:
    key = serialization.load_pem_public_key(pem)
    return key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


def _is_position(location: str) -> bool:
    try:
        validate_node_location(location)
    except ValueError:
        return False
    return True

"""Start the service: collect the settings, open the socket, run one process."""

import contextlib
import signal
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from remind.data.cohort.declaration import read_declaration
from remind.data.cohort.kinds.pictures import ImageSection, Reading, VolumeSection
from remind.errors import UserError
from remind.web.access import Access, networks, token_from
from remind.web.ended import EndedSessions
from remind.web.listening import in_url, is_loopback, listen
from remind_client.audit.events import Predicted, Serving
from remind_client.models.predict import site_next_test
from remind_client.serving.app import Files, Limits, serving_app
from remind_client.serving.model import ModelKeeper, Served
from remind_client.serving.monitor import Monitor
from remind_client.serving.source import NoModelError, of_folder, of_state
from remind_client.site_config import SiteConfig

PORT = 8790


@dataclass(frozen=True)
class Door:
    """Where the service listens and who may use it; None and empty select the defaults (docs/serve.md)."""

    host: str | None = None
    port: int | None = None
    token_file: Path | None = None
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    trusted_header: str = ""
    trusted_proxy: str = ""


@dataclass(frozen=True)
class Choice:
    """Which model is served.

    Attributes
    ----------
    run
        A run in this site's state; empty: the run that was examined last.
    calibration
        The run's ``calibration.json``, from the coordinator; None: the one beside the model, if there is one.
    model, site
        A folder in place of the site's state, and the hospital whose encoders to use; empty: the only ones.
    least
        Predictions for a combination with fewer training patients than this are flagged.
    """

    run: str = ""
    calibration: Path | None = None
    model: Path | None = None
    site: str = ""
    least: int = 30


def serve(config: SiteConfig, choice: Choice, door: Door, limits: Limits, files: Path | None) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises
    ------
    UserError
        A setting is wrong, the model cannot be read, or the address cannot be used. If there is no model yet, the
        service starts and waits for one.
    """
    import uvicorn

    _check(choice, door, files)
    monitor = Monitor(config.policy.minimum_patients)

    def loaded(served: Served) -> None:
        bundle = served.predictor.bundle
        config.audit_log.append(
            Serving(source=bundle.where, site=served.site, round=bundle.round, fingerprint=served.schema.fingerprint)
        )
        monitor.model_loaded()
        print(f"model in service: {bundle.where}, after round {bundle.round}", flush=True)

    def audit(served: Served, patients: int, refused: int) -> None:
        config.audit_log.append(Predicted(round=served.predictor.bundle.round, patients=patients, refused=refused))

    source = (
        of_folder(choice.model, choice.site or None)
        if choice.model
        else of_state(config, choice.run, choice.calibration)
    )
    keeper = ModelKeeper(source, loaded, partial(site_next_test, config), choice.least, config.device)
    try:
        keeper.current()
    except NoModelError as error:
        print(f"no model yet: {error}", flush=True)
    listening = listen(door.host, door.port, PORT)
    at, port = listening.getsockname()[:2]
    host = door.host or at
    rule: dict[str, Any] = {"cookie": f"remind_session_{port}", "secure": door.tls_key is not None}
    if door.token_file:
        rule["token"] = token_from(door.token_file)
        rule["ended"] = EndedSessions(door.token_file.with_name(f"{door.token_file.name}.ended"))
    access = Access(**rule, header=door.trusted_header, proxies=networks(door.trusted_proxy))
    scheme = "https" if door.tls_key else "http"
    print(f"open {scheme}://{in_url(host)}:{port}/", flush=True)
    if not door.token_file:
        print(f"token: {access.token}", flush=True)
    if not (door.tls_key or door.trusted_header or is_loopback(host)):
        print("warning: without TLS the token and all patients can be read on the network", flush=True)
    app = serving_app(keeper, monitor, access, audit, limits, Files(files, _readings(config)))
    server = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        proxy_headers=False,  # the trusted proxy is recognised by its own address
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=int(limits.seconds) + 1,
        limit_concurrency=4 * limits.waiting,
        h11_max_incomplete_event_size=64 << 10,
        ssl_certfile=door.tls_certificate,
        ssl_keyfile=door.tls_key,
        ws="none",
    )
    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn answers open requests, then sends the signal again
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(server).run(sockets=[listening])


def _check(choice: Choice, door: Door, files: Path | None) -> None:
    if bool(door.trusted_header) != bool(door.trusted_proxy):
        raise UserError("--trusted-header and --trusted-proxy belong together: give both or neither")
    if bool(door.tls_certificate) != bool(door.tls_key):
        raise UserError("--tls-certificate and --tls-key belong together: give both or neither")
    if choice.run and choice.model:
        raise UserError(
            "--run and --model: give one of them; --run selects from this site's state, --model is another folder"
        )
    if choice.calibration and choice.model:
        raise UserError("--calibration cannot be used with --model: a folder has its own calibration.json")
    if choice.site and not choice.model:
        raise UserError("--site needs --model; the model in this site's state has its own encoders")
    if files is not None and not files.is_dir():
        raise UserError(f"--files: {files}: no such folder")


def _readings(config: SiteConfig) -> dict[str, Reading]:
    """Return how this hospital's cohort converts files to pixels; files of requests are converted in the same way."""
    sections = read_declaration(config.path(config.cohort))[0].modalities
    return {
        name: Reading(section.window, section.resize)
        for name, section in sections.items()
        if isinstance(section, ImageSection | VolumeSection)
    }

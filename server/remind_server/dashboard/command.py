"""The command ``remind dashboard``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from remind.errors import UserError
from remind.privacy.threshold import MIN_COUNT
from remind.web.listening import LOOPBACK, in_url, is_loopback, listen

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

PORT = 8765
DEFAULT_RESULTS = Path("results")  # may not exist yet: the first run creates it


def dashboard_command(
    store: Annotated[
        str,
        typer.Option(help="Run store: a file or a database URL; default: $REMIND_STORE, else runs.db in --results."),
    ] = "",
    results: Annotated[Path, typer.Option(help="Folder of the run folders.")] = DEFAULT_RESULTS,
    host: Annotated[
        str | None,
        typer.Option(help=f"Address to listen on; other than loopback, use TLS or a proxy. Default: {LOOPBACK}."),
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help=f"Port to listen on; 0: a free one. Default: {PORT}.")
    ] = None,
    min_count: Annotated[
        int, typer.Option(help="Suppress counts below this, and others from which they could be computed; 1: none.")
    ] = MIN_COUNT,
    imports: Annotated[
        list[Path] | None,
        typer.Option("--import", help="Enter the run folders here that the run store lacks; may be repeated."),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(help="File of the sign-in token, created if missing. Default: a new token at each start."),
    ] = None,
    tls_certificate: Annotated[Path | None, typer.Option(help="PEM file; with --tls-key: serve https.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file of the certificate's private key.")] = None,
    trusted_header: Annotated[
        str, typer.Option(help="Header in which a proxy names the signed-in person, e.g. X-Forwarded-User.")
    ] = "",
    trusted_proxy: Annotated[
        str, typer.Option(help="Addresses or networks of that proxy, comma-separated; only they may send the header.")
    ] = "",
) -> None:
    """Serve the dashboard: live runs with scores of every modality combination (docs/dashboard.md).

    If systemd passes a socket, the page uses it instead of --host and --port.
    """
    try:
        import uvicorn

        from remind_server.dashboard.app import dashboard_app
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed: pip install 'federated-remind[dashboard]'") from None
    from remind.web.access import Access, networks, token_from
    from remind.web.ended import EndedSessions
    from remind_server.store.imported import import_runs
    from remind_server.store.open import open_store, shown, store_url

    if bool(trusted_header) != bool(trusted_proxy):
        raise UserError("--trusted-header and --trusted-proxy must be given together")
    if bool(tls_certificate) != bool(tls_key):
        raise UserError("--tls-certificate and --tls-key must be given together")
    if min_count < 1:
        raise UserError(f"--min-count {min_count}: must be at least 1, which shows everything")
    url = store_url(results.absolute(), store)
    if results != DEFAULT_RESULTS or store:
        _require_folder(url)
    engine = open_store(url)
    listening = listen(host, port, PORT)
    at, port = listening.getsockname()[:2]
    host = host or at
    rule: dict[str, Any] = {"cookie": f"remind_session_{port}", "secure": tls_key is not None}
    if token_file:
        rule["token"] = token_from(token_file)
        rule["ended"] = EndedSessions(token_file.with_name(f"{token_file.name}.ended"))
    access = Access(**rule, header=trusted_header, proxies=networks(trusted_proxy))
    scheme = "https" if tls_key else "http"
    print(f"run store: {shown(url)}")
    for folder in imports or ():
        print("\n".join(import_runs(engine, folder)))
    print(f"open {scheme}://{in_url(host)}:{port}/sign-in#token={access.token}", flush=True)
    if not (tls_key or trusted_header or is_loopback(host)):
        print("warning: without TLS, others on the network can read the token and all results", flush=True)
    config = uvicorn.Config(
        dashboard_app(engine, access, min_count),
        log_level="warning",
        proxy_headers=False,  # the trusted proxy is recognised by its own address
        server_header=False,
        timeout_graceful_shutdown=1,  # open event streams would block the shutdown
        ssl_certfile=tls_certificate,
        ssl_keyfile=tls_key,
        ws="none",
    )
    uvicorn.Server(config).run(sockets=[listening])


def _require_folder(url: "URL") -> None:
    """Refuse a store file in a missing folder: a typing mistake must not show an empty dashboard."""
    database = url.database if url.get_backend_name() == "sqlite" else None
    if database and database != ":memory:" and not Path(database).parent.is_dir():
        raise UserError(f"{Path(database).parent}: no such folder; give a folder that contains runs")

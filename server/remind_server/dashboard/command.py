"""The command ``remind dashboard``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from remind.errors import UserError
from remind.privacy.threshold import MIN_COUNT
from remind.web.listening import LOOPBACK, in_url, is_loopback, listen

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

PORT = 8765
DEFAULT_RESULTS = Path("results")  # may not be there yet: the first run makes it


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
        int, typer.Option(help="Suppress numbers of fewer patients, and what they follow from; 1: none.")
    ] = MIN_COUNT,
    token_file: Annotated[
        Path | None, typer.Option(help="Sign-in token that outlives restarts; made if not there. Default: a new one.")
    ] = None,
    tls_certificate: Annotated[Path | None, typer.Option(help="PEM file; with --tls-key: serve https.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file of the certificate's key.")] = None,
    trusted_header: Annotated[
        str, typer.Option(help="Header in which a proxy names the person it signed in, e.g. X-Forwarded-User.")
    ] = "",
    trusted_proxy: Annotated[
        str, typer.Option(help="Addresses or networks of that proxy, comma-separated; nobody else's header counts.")
    ] = "",
) -> None:
    """Serve the page the coordinator watches: runs, live, with every modality combination (docs/dashboard.md).

    A socket that systemd hands over is served on, in place of --host and --port.
    """
    try:
        import uvicorn

        from remind_server.dashboard.app import dashboard_app
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed: pip install 'federated-remind[dashboard]'") from None
    from remind.web.access import Access, networks, token_from
    from remind_server.store.open import open_store, shown, store_url

    if bool(trusted_header) != bool(trusted_proxy):
        raise UserError("--trusted-header and --trusted-proxy belong together: give both or neither")
    if bool(tls_certificate) != bool(tls_key):
        raise UserError("--tls-certificate and --tls-key belong together: give both or neither")
    if min_count < 1:
        raise UserError(f"--min-count {min_count}: the least is 1, which shows everything")
    url = store_url(results.absolute(), store)
    if results != DEFAULT_RESULTS or store:
        _require_folder(url)
    engine = open_store(url)
    listening = listen(host, port, PORT)
    at, port = listening.getsockname()[:2]
    host = host or at
    rule = {"cookie": f"remind_session_{port}", "secure": tls_key is not None}
    if token_file:
        rule["token"] = token_from(token_file)
    access = Access(**rule, header=trusted_header, proxies=networks(trusted_proxy))  # type: ignore[arg-type]
    scheme = "https" if tls_key else "http"
    print(f"run store: {shown(url)}")
    print(f"open {scheme}://{in_url(host)}:{port}/sign-in#token={access.token}", flush=True)
    if not (tls_key or trusted_header or is_loopback(host)):
        print("warning: without TLS the token and all results can be read on the network", flush=True)
    config = uvicorn.Config(
        dashboard_app(engine, access, min_count),
        log_level="warning",
        proxy_headers=False,  # the trusted proxy is recognised by its own address
        server_header=False,
        timeout_graceful_shutdown=1,  # open event streams would hold it for ever
        ssl_certfile=tls_certificate,
        ssl_keyfile=tls_key,
        ws="none",
    )
    uvicorn.Server(config).run(sockets=[listening])


def _require_folder(url: "URL") -> None:
    """Refuse a store file in a folder that is not there: a slip in a path must not become an empty dashboard."""
    database = url.database if url.get_backend_name() == "sqlite" else None
    if database and database != ":memory:" and not Path(database).parent.is_dir():
        raise UserError(f"{Path(database).parent}: no such folder; name one that holds runs")

"""The commands of ``remind-site`` that use a model: ``predict``, ``adapt``, ``export`` and ``serve``.

Heavy imports are in functions, so that every command starts fast.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from remind.cli_options import Quiet
from remind.errors import UserError
from remind.prediction.command import LEAST, Least, MasksOut, NextOut, Out, Root
from remind_client.site_option import HERE, SiteFile


def predict(
    cohort: Annotated[str, typer.Option("--cohort", help="A cohort folder of new patients, or its cohort.toml.")],
    run: Annotated[str, typer.Option(help="Id of the run whose model to use; default: the newest.")] = "",
    out: Out = None,
    calibration: Annotated[
        Path | None, typer.Option(help="The run's calibration.json, from the coordinator's results.")
    ] = None,
    least: Least = LEAST,
    root: Root = "",
    next_test: NextOut = None,
    masks: MasksOut = None,
    config: SiteFile = HERE,
    quiet: Quiet = False,
) -> None:
    """Predict for new patients with this hospital's own model, from its vault: one row each.

    Labels are not needed; any modality may be missing. Nothing is sent. The table describes single patients.
    --next-test uses this hospital's own patients that the model was not trained on as reference patients.
    """
    from remind.prediction.command import run_prediction
    from remind_client.models.predict import site_next_test, site_predictor
    from remind_client.site_config import load_site_config

    site = load_site_config(config)
    predictor = site_predictor(site, run, calibration, least)
    tests = None if next_test is None else (site_next_test(site, predictor), next_test)
    run_prediction(predictor, cohort, out, root, quiet, site.memory(), tests, masks)


def adapt(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The folder of remind export, or of a run.")],
    shared: Annotated[
        str,
        typer.Option(help="Which part of the model trains: frozen (none), head (its last layer), tuned (all of it)."),
    ] = "frozen",
    rate: Annotated[
        float | None, typer.Option(help="Learning rate of that part, as a factor of the run's; default: 0.1.")
    ] = None,
    anchor: Annotated[
        float | None, typer.Option(help="Decay of that part towards its initial values; default: 1.")
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option(
            min=0, help="Rounds that train encoders; default: 12, or 4 with too few validation patients to choose one."
        ),
    ] = None,
    routing_rounds: Annotated[
        int,
        typer.Option(
            min=0, help="Rounds after these with frozen encoders, for combinations that are new to the model."
        ),
    ] = 0,
    patience: Annotated[
        int, typer.Option(min=0, help="Stop after this many rounds without a better model; 0: never.")
    ] = 4,
    lr: Annotated[float | None, typer.Option(help="Learning rate; default: the run's.")] = None,
    validation: Annotated[
        float | None, typer.Option(help="Share of the patients that choose the round; default: the run's.")
    ] = None,
    test: Annotated[float | None, typer.Option(help="Share of the patients for the test; default: the run's.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed; default: the run's.")] = None,
    name: Annotated[str, typer.Option(help="Name of the adapted model; default: that of MODEL.")] = "",
    cohort: Annotated[str, typer.Option(help="Another cohort than that of site.toml.")] = "",
    encoders_from: Annotated[
        Path | None, typer.Option(help="A folder with encoders that another hospital published, as initial values.")
    ] = None,
    config: SiteFile = HERE,
    quiet: Quiet = False,
) -> None:
    """Adapt a trained model to this hospital's patients: train its encoders and, with --shared, more parts."""
    from remind.adaptation.settings import choose
    from remind_client.models.adapt import adapt_here, lines
    from remind_client.site_config import load_site_config

    choices = choose(
        shared=shared,
        rate=rate,
        anchor=anchor,
        rounds=rounds,
        routing_rounds=routing_rounds,
        patience=patience,
        lr=lr,
        validation=validation,
        test=test,
        seed=seed,
    )
    say = (lambda text: None) if quiet else (lambda text: print(text, file=sys.stderr))
    kept = adapt_here(load_site_config(config), model, choices, name, cohort, encoders_from, say)
    print("\n".join(lines(kept)))


def export(
    out: Annotated[Path, typer.Option(help="A new folder.")],
    run: Annotated[str, typer.Option(help="Id of the run whose model to export; default: the newest.")] = "",
    calibration: Annotated[
        Path | None, typer.Option(help="The run's calibration.json, from the coordinator's results.")
    ] = None,
    encoders: Annotated[
        bool | None,
        typer.Option("--encoders/--no-encoders", help="Include the encoders; default: policy.share_encoders."),
    ] = None,
    ranges: Annotated[bool, typer.Option("--ranges", help="Include the ranges of this hospital's values.")] = False,
    licence: Annotated[str, typer.Option("--license", "--licence", help="Licence of the weights.")] = "unknown",
    intended_use: Annotated[str, typer.Option(help="Text of the card: the intended use of the model.")] = "",
    config: SiteFile = HERE,
) -> None:
    """Write this hospital's own model as an unencrypted folder, in the form of remind export. Nothing is sent."""
    from remind.export.command import say
    from remind_client.models.export import export_here
    from remind_client.site_config import load_site_config

    site = load_site_config(config)
    options = {"encoders": encoders, "ranges": ranges, "licence": licence, "intended_use": intended_use}
    say(export_here(site, out, run, calibration, **options))  # type: ignore[arg-type]


def serve(
    config: SiteFile = HERE,
    run: Annotated[str, typer.Option(help="Id of a run in this site's state; default: the one examined last.")] = "",
    calibration: Annotated[
        Path | None, typer.Option(help="The run's calibration.json, from the coordinator's results.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="A folder of remind export, or of a run, in place of this site's state.")
    ] = None,
    site: Annotated[str, typer.Option(help="With --model: the hospital whose encoders are used.")] = "",
    host: Annotated[
        str | None,
        typer.Option(help="Address to listen on; other than loopback, use TLS or a proxy. Default: 127.0.0.1."),
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to listen on; 0: a free one. Default: 8790.")
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(help="File of a token that outlives restarts, created if missing. Default: print a new token."),
    ] = None,
    tls_certificate: Annotated[Path | None, typer.Option(help="PEM file; with --tls-key: serve https.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file of the certificate's key.")] = None,
    trusted_header: Annotated[
        str, typer.Option(help="Header in which a proxy names the person it signed in, e.g. X-Forwarded-User.")
    ] = "",
    trusted_proxy: Annotated[
        str, typer.Option(help="Addresses or networks of that proxy, comma-separated; headers from others are ignored.")
    ] = "",
    vault_key: Annotated[
        Path | None, typer.Option(help="File of the vault's key, in place of the one that site.toml names.")
    ] = None,
    files: Annotated[
        Path | None, typer.Option(help="Folder of the paths that a request may name; default: requests send bytes.")
    ] = None,
    least: Least = LEAST,
    most_patients: Annotated[int, typer.Option(min=1, help="Maximum number of patients in a request.")] = 1000,
    most_megabytes: Annotated[int, typer.Option(min=1, max=4096, help="Maximum size of a request.")] = 32,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds until a request must be answered.")] = 60.0,
) -> None:
    """Answer requests for predictions, as JSON, with this hospital's model (docs/serve.md).

    If systemd passes a socket, the service uses it instead of --host and --port.
    """
    try:
        from remind_client.serving.app import Limits
        from remind_client.serving.serve import Choice, Door
        from remind_client.serving.serve import serve as serve_requests
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed: pip install 'federated-remind[serve]'") from None
    from remind_client.site_config import load_site_config, with_vault_key

    door = Door(host, port, token_file, tls_certificate, tls_key, trusted_header, trusted_proxy)
    limits = Limits(most_megabytes << 20, most_patients, timeout)
    serve_requests(
        with_vault_key(load_site_config(config), vault_key),
        Choice(run, calibration, model, site, least),
        door,
        limits,
        files,
    )

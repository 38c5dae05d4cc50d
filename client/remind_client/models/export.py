"""`remind-site export`: write this hospital's own model as an unencrypted folder, in the form of `remind export`."""

from pathlib import Path

from remind.errors import UserError
from remind.export.card import Wishes
from remind.export.folder import Exported, check_new, export_hospital
from remind.prediction.next_test import held_out
from remind_client.audit.events import ExportedModel
from remind_client.models.predict import own_patients, site_bundle
from remind_client.site_config import SiteConfig


def export_here(
    site: SiteConfig,
    out: Path,
    run: str = "",
    calibration: Path | None = None,
    *,
    encoders: bool | None = None,
    ranges: bool = False,
    licence: str = "unknown",
    intended_use: str = "",
) -> Exported:
    """Write this hospital's form of the model of a run, by default the newest.

    Parameters
    ----------
    encoders
        Whether to include the hospital's encoders; None: if the policy allows it.
    ranges
        Whether to include the ranges of its training values, with the encoders.

    Raises
    ------
    UserError
        The policy does not let encoders leave the vault, there is no model, the folder exists already, or a program
        differs from the model. Nothing is written then.
    """
    policy = site.policy
    if encoders and not policy.share_encoders:
        raise UserError("--encoders: the policy keeps them in the vault; set policy.share_encoders = true in site.toml")
    included = policy.share_encoders if encoders is None else encoders
    if ranges and not included:
        raise UserError("--ranges needs the encoders, which are not included: ranges are stored with them")
    check_new(out)
    bundle = site_bundle(site, run, calibration)
    [name] = bundle.sites
    wishes = Wishes(
        policy.minimum_patients,
        site=name if included else "",
        ranges=ranges,
        hospitals=(name,) if policy.share_name else (),
        licence=licence,
        intended_use=intended_use,
    )
    patients = {}
    try:
        patients[name] = held_out(own_patients(site, bundle.config))
    except UserError as error:
        print(f"note: the programs are checked on artificial patients: {error}")
    if patients and patients[name].schema.fingerprint != bundle.schema.fingerprint:
        print("note: the programs are checked on artificial patients: the cohort has changed since the run")
        patients = {}
    done = export_hospital(bundle, out, wishes, patients)
    site.audit_log.append(ExportedModel(source=bundle.where, encoders=included, ranges=ranges, named=policy.share_name))
    return done

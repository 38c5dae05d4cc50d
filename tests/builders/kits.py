"""The kit that a coordinator gives a hospital."""

from pathlib import Path


def kit(folder: Path, site: str = "north", cohort: str = "") -> Path:
    """As the coordinator's kit."""
    folder.mkdir()
    (folder / "ca.crt").write_text("certificate")
    (folder / "site.toml").write_text(
        f'site = "{site}"\ncohort = "{cohort}"\n\n[coordinator]\nconsortium = "test"\naddress = "fl.example.org:443"\n'
    )
    return folder

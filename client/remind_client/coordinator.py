"""The ``[coordinator]`` section of site.toml: which consortium, its address, and the certificates that identify it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from remind.consortium.enrolment import Slug
from remind.errors import UserError


class CoordinatorSection(BaseModel):
    """The section as the coordinator's kit contains it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    consortium: Slug = Field(description="name of the consortium")
    address: str = Field(description="HOST:PORT where the coordinator listens")
    ca_certificate: Annotated[str, StringConstraints(min_length=1)] = Field(
        "ca.crt", description="certificates with which this site verifies the coordinator"
    )

    @field_validator("address")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError("not HOST:PORT")
        return value


@dataclass(frozen=True)
class Kit:
    """What the site needs to reach the coordinator and to verify its identity.

    Attributes
    ----------
    certificates
        File with the certificates that the site trusts.
    """

    consortium: str
    host: str
    port: int
    certificates: Path

    @property
    def address(self) -> str:
        """``host:port``, as Flower takes it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def kit_of(section: CoordinatorSection, certificates: Path) -> Kit:
    """Return the kit of a section.

    Raises
    ------
    UserError
        If the certificates are missing.
    """
    if not certificates.is_file():
        raise UserError(f"{certificates}: is missing; copy it from the kit, or ask the coordinator for the kit again")
    host, _, port = section.address.rpartition(":")
    return Kit(section.consortium, host.strip("[]"), int(port), certificates)

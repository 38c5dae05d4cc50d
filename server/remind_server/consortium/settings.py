"""``consortium.toml``: the name, addresses and settings of a consortium."""

import ipaddress
import re
import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from remind.config_toml import literal
from remind.consortium.enrolment import Slug
from remind.errors import UserError, several
from remind.invalid import invalid

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DNS_NAME = re.compile(rf"^(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*$")


def _address(text: str) -> str:
    ipaddress.ip_address(text)
    return text


def _host(text: str) -> str:
    try:
        return _address(text)
    except ValueError:
        if _DNS_NAME.match(text) and not text.replace(".", "").isdigit():
            return text.lower()
        raise ValueError(f"{text!r} is neither a host name nor an IP address") from None


def _some(hosts: tuple[str, ...]) -> tuple[str, ...]:
    if not hosts:
        raise ValueError("name at least one host")
    return hosts


Role = Literal["viewer", "runner", "admin"]
ROLES: tuple[Role, ...] = ("viewer", "runner", "admin")  # each includes the permissions of those before it
Host = Annotated[str, AfterValidator(_host)]
Address = Annotated[str, AfterValidator(_address)]
Port = Annotated[int, Field(ge=1, le=65535)]


class Part(BaseModel):
    """Base of every part: frozen, closed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Public(Part):
    """How hospitals reach the coordinator; kits contain the first host."""

    hosts: Annotated[tuple[Host, ...], AfterValidator(_some)]
    port: Port = 443


class Proxy(Part):
    """The TLS proxy in front; ``none``: you run another one (its duties are in docs/coordinator-guide.md)."""

    kind: Literal["nginx", "none"] = "nginx"
    program: str = "nginx"
    address: Address = "0.0.0.0"
    port: Port = 443
    largest_mb: Annotated[int, Field(ge=8, le=256)] = 16


class Local(Part):
    """Ports on loopback, reachable only from this machine: Flower's SuperLink, and the health page."""

    superlink: Port = 18000
    health: Port = 18080


class Enrolment(Part):
    """Requirements for an enrolment request."""

    max_age_days: Annotated[int, Field(ge=1, le=365)] = 14


class Operator(Part):
    """A user of the coordinator's machine: viewer (read), runner (also start and stop runs), admin (everything)."""

    user: Annotated[str, Field(min_length=1)]
    name: str = ""
    role: Role


class Consortium(Part):
    """All of ``consortium.toml``."""

    version: Literal[1] = 1
    name: Slug
    public: Public
    proxy: Proxy = Proxy()
    local: Local = Local()
    enrolment: Enrolment = Enrolment()
    operators: tuple[Operator, ...] = ()

    @model_validator(mode="after")
    def _somebody_may_do_all(self) -> Self:
        users = [operator.user for operator in self.operators]
        if len(set(users)) < len(users):
            raise ValueError("operators: a user appears twice")
        if self.operators and all(operator.role != "admin" for operator in self.operators):
            raise ValueError("operators: no operator has the role 'admin'")
        return self

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        ports = [self.local.superlink, self.local.health, *([self.proxy.port] if self.proxy.kind != "none" else [])]
        if len(set(ports)) < len(ports):
            raise ValueError(f"proxy.port, local.superlink and local.health must differ, not {ports}")
        return self

    @property
    def address(self) -> str:
        """Return ``host:port`` for the hospitals' configuration."""
        host = self.public.hosts[0]
        return f"[{host}]:{self.public.port}" if ":" in host else f"{host}:{self.public.port}"

    @property
    def superlink(self) -> str:
        """Return ``host:port`` of the SuperLink, on loopback."""
        return f"127.0.0.1:{self.local.superlink}"


def read_settings(path: Path) -> Consortium:
    """Read the settings from a file.

    Raises
    ------
    UserError
        Names the file and every wrong field.
    """
    try:
        return Consortium.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(
            f"{path}: cannot read it: {error.strerror}; create a consortium with: remind consortium init"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid TOML: {error}") from None
    except ValidationError as error:
        raise several(f"{path} is not valid:", invalid(error, Consortium)) from None


def settings_toml(settings: Consortium) -> str:
    """Return the text of ``consortium.toml``, with comments that explain each setting."""
    hosts = ", ".join(literal(host) for host in settings.public.hosts)
    return f"""\
# A consortium of federated REMIND; see docs/coordinator-guide.md. After a change: remind consortium check, then restart
# `remind consortium serve`. New hosts need a new server certificate: remind consortium renew.
version = {settings.version}
name = {literal(settings.name)}

[public]  # how hospitals reach the coordinator
hosts = [{hosts}]  # names and addresses in the server certificate; kits name the first
port = {settings.public.port}

[proxy]  # terminates the hospitals' TLS connections; passes only /v1/fleet/
kind = {literal(settings.proxy.kind)}  # nginx | none: you run another proxy
program = {literal(settings.proxy.program)}
address = {literal(settings.proxy.address)}
port = {settings.proxy.port}
largest_mb = {settings.proxy.largest_mb}  # of one piece of a reply: 5 MB of its tensors, or all of its text

[local]  # ports on loopback, reachable only from this machine
superlink = {settings.local.superlink}
health = {settings.local.health}

[enrolment]
max_age_days = {settings.enrolment.max_age_days}  # older requests are refused

# Users who may run commands here; without any, everyone who can write this folder may do everything.
# [[operators]]
# user = "anna"          # a user of this machine; under sudo, the calling user
# name = "Anna Meier"
# role = "admin"         # viewer: read; runner: also start and stop runs; admin: everything
"""

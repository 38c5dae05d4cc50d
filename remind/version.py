"""The installed version; sites and coordinator compare theirs at enrolment."""

from importlib.metadata import version

VERSION = version("federated-remind")

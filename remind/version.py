"""The installed version. Sites and coordinator compare their versions at enrolment."""

from importlib.metadata import version

VERSION = version("federated-remind")

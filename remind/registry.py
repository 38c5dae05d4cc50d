"""Registries of methods by name: a file in a folder with a decorator makes a method available, listed and configurable.

A choice is written like a call, ``"cvar(alpha = 0.1)"``: the inside is that of a TOML inline table, and the method's
own options validate it, so that no other list of methods or options exists.
"""

import inspect
import json
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from remind.config import Section
from remind.errors import UserError, several
from remind.extensions import load_extensions, load_folder
from remind.suggest import did_you_mean

Built = TypeVar("Built")
Class = TypeVar("Class", bound=type)
_CALL = re.compile(r"\s*([a-z0-9_]+)\s*(?:\((.*)\))?\s*", re.DOTALL)
ALIKE = 0.88  # similarity from which the name of a function is taken for a misspelt one of the base


class Options(Section):
    """Base class of every method's own options; a method without options uses this class. All fields have defaults."""


@dataclass(frozen=True)
class Method(Generic[Built]):
    """A registered method.

    Attributes
    ----------
    name, title
        The name that users write, and one line that says what the method does.
    paper, year
        Its publication.
    options
        Its options, all with defaults.
    build
        Its class; each folder defines the arguments of the constructor.
    """

    name: str
    title: str
    paper: str
    year: int
    options: type[Options]
    build: type[Built]

    def signature(self) -> str:
        """Return how the method is written with all its options at their defaults."""
        defaults = self.options().model_dump()
        inside = ", ".join(f"{key.replace('_', '-')} = {json.dumps(value)}" for key, value in defaults.items())
        return f"{self.name}({inside})" if inside else self.name


class Registry(Generic[Built]):
    """The methods of one folder.

    Parameters
    ----------
    kind
        The kind of method, for error messages.
    package
        The folder; its modules, and those of `remind.extensions`, are imported when a method is first requested.
    base
        The class that every method derives from.
    options
        The class that every method's options derive from.
    """

    def __init__(self, kind: str, package: str, base: type[Built], options: type[Options] = Options) -> None:
        self.kind, self.package, self.base, self.options = kind, package, base, options
        self._methods: dict[str, Method[Built]] = {}

    def register(
        self, name: str, *, title: str, paper: str, year: int, options: type[Options] | None = None
    ) -> Callable[[Class], Class]:
        """Register a class as the method `name`.

        Parameters
        ----------
        options
            The class of its own options; None: it has only the options of all methods in the folder.

        Raises
        ------
        ValueError
            Another method has the name.
        TypeError
            The class or its options do not derive from the folder's base, the class is abstract, or the name of one
            of its functions is nearly that of a function of the base: nothing would call it.
        """
        own = options or self.options

        def add(build: Class) -> Class:
            if name in self._methods:
                raise ValueError(f"two methods of {self.package} are named {name!r}")
            for given, base in ((build, self.base), (own, self.options)):
                if not issubclass(given, base):
                    raise TypeError(
                        f"{self.kind} {name!r}: {given.__name__} must derive from {base.__module__}.{base.__name__}"
                    )
            if inspect.isabstract(build):
                lacking = ", ".join(sorted(getattr(build, "__abstractmethods__", ())))
                raise TypeError(f"{self.kind} {name!r}: {build.__name__} must define {lacking}")
            if hooks := _misspelt_hooks(build, self.base):
                raise TypeError(f"{self.kind} {name!r}: {build.__name__} defines {hooks}")
            self._methods[name] = Method(name, title, paper, year, own, build)
            return build

        return add

    def methods(self) -> tuple[Method[Built], ...]:
        """Return every method, by name."""
        load_folder(self.package)
        load_extensions()
        return tuple(self._methods[name] for name in sorted(self._methods))

    def choose(self, text: str) -> tuple[Method[Built], Any]:
        """Return the method and the options that a text such as ``"cvar(alpha = 0.1)"`` names.

        Raises
        ------
        UserError
            The method is unknown, or does not accept an option or a value. The error lists what is accepted.
        """
        found = _CALL.fullmatch(text)
        methods = {method.name: method for method in self.methods()}
        if found is None or found[1] not in methods:
            hint = did_you_mean(text.partition("(")[0].strip(), methods)
            raise UserError(f"{self.kind}: there is no {text!r}{hint}; there are {', '.join(methods)}")
        method = methods[found[1]]
        heading = f"{self.kind}: {text!r} is not valid; in full it is {method.signature()}"
        try:
            given = tomllib.loads(f"options = {{ {found[2] or ''} }}")["options"]
        except tomllib.TOMLDecodeError:
            raise several(heading, ["options are written: name = value, name = value"]) from None
        try:
            return method, method.options.model_validate({k.replace("-", "_"): v for k, v in given.items()})
        except ValidationError as error:
            problems = [_problem(dict(item), method.options) for item in error.errors()]
            raise several(heading, problems) from None


def _problem(item: dict[str, Any], options: type[Options]) -> str:
    option = ".".join(map(str, item["loc"])).replace("_", "-") or "options"
    if item["type"] == "extra_forbidden":
        names = [name.replace("_", "-") for name in options.model_fields]
        return f"{option}: there is no such option{did_you_mean(option, names)}"
    return f"{option}: {item['msg'].removeprefix('Value error, ')}"


def _misspelt_hooks(build: type, base: type) -> str:
    """Return a class's own public functions that differ from one of the base by a typing mistake; empty if none."""
    hooks = [name for name in dir(base) if not name.startswith("_") and callable(getattr(base, name))]
    own = [name for name, value in vars(build).items() if callable(value) and not name.startswith("_")]
    near = {name: get_close_matches(name, hooks, n=1, cutoff=ALIKE) for name in own if name not in hooks}
    return ", ".join(f"{name}, which nothing calls; did you mean {hook[0]!r}?" for name, hook in near.items() if hook)

"""The outcomes of the eICU importer, in a module that the command line loads at once."""

from typing import Literal

EicuLabel = Literal["in-hospital", "unit", "length-of-stay"]

"""What all messages are made of: their base class, and the types of their fields with the limits that hold for each."""

from functools import partial
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from remind.groups import MAX_MODALITIES
from remind.quoting import SHORT, printable, quoted

MOST_EXPERTS = 2**16  # in a model; far more than fit into any machine
MOST = 10**12  # of anything counted or summed: far beyond any cohort, and sums over sites stay exact and finite


Group = Annotated[int, Field(ge=1, lt=2**MAX_MODALITIES)]
Natural = Annotated[int, Field(ge=0, le=MOST)]
Count = Annotated[int, Field(ge=1, le=MOST)]
Finite = Annotated[float, Field(ge=0, le=MOST)]
Words = Annotated[str, AfterValidator(partial(printable, keep="\n"))]
Name = Annotated[str, Field(min_length=1, max_length=SHORT), AfterValidator(printable)]
Share = Annotated[float, Field(ge=0, le=1 + 1e-9)]  # a share may exceed 1 by rounding


class Message(BaseModel):
    """Base class of messages: frozen and closed, read from and written to JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def first_problem(error: ValidationError) -> str:
    """Return a message's first problem in one line, without the values and field names that another party chose."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return f"{quoted('.'.join(map(str, first['loc'])))}: {quoted(first['msg'])}"

"""The base class of the records that sites must share about a modality."""

from pydantic import BaseModel, ConfigDict


class Shared(BaseModel):
    """Base class of everything in a schema."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModalitySchema(Shared):
    """What sites must share about one modality; `kind` becomes a Literal, with the kind's name as its default."""

    kind: str
    name: str

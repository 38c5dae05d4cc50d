"""The kind of each modality of a synthetic cohort."""

from remind.data.cohort.problems import counted, listed, suggest
from remind.data.synthetic.features.base import makers
from remind.errors import UserError


def parse_kinds(text: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Parse the kinds of the modalities `names` from ``"image, table, text"``.

    Empty: the second is a series, others are tables.

    Raises
    ------
    UserError
        A kind is unknown, or the number of kinds is not the number of modalities.
    """
    if not text.strip():
        return tuple("series" if i == 1 else "table" for i in range(len(names)))
    kinds = tuple(part.strip() for part in text.split(","))
    for kind in kinds:
        if kind not in makers():
            raise UserError(
                f"synthetic.kinds: {kind!r} is no kind of modality that can be generated; {suggest(kind, makers())}"
            )
    if len(kinds) != len(names):
        raise UserError(
            f"synthetic.kinds: {text!r} names {counted(len(kinds), 'kind')} for {listed(names)}; name one kind each"
        )
    return kinds

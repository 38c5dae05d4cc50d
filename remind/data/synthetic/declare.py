"""Writes the cohort.toml of a `Cohort`: it declares everything that the schema holds."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from remind.config_toml import literal
from remind.data.cohort.cohort import Cohort
from remind.data.cohort.kind import kind_of


def declaration_text(cohort: Cohort) -> str:
    """Return the text of cohort.toml for files in the layout of `write.write_cohort`."""
    person = ['patient = "person"'] if persons_differ(cohort) else []
    lines = [f"name = {_toml(cohort.schema.name)}", "", "[patients]", 'id = "patient_id"', *person]
    predicts = cohort.schema.predicts
    label = predicts.section.of(predicts).model_dump(exclude_defaults=True)
    lines += ["", "[label]", *(f"{field} = {_toml(value)}" for field, value in label.items())]
    for schema in cohort.schema.modalities:
        data = cohort.modalities[schema.name]
        lines += ["", f"[modalities.{schema.name}]", f'kind = "{schema.kind}"']
        if not data.present().any():
            lines.append("absent = true  # no patient here has it; declared because other sites do")
        lines += [f"{field} = {_toml(value)}" for field, value in kind_of(schema).fields(schema, data).items()]
    return "\n".join([*lines, ""])


def persons_differ(cohort: Cohort) -> bool:
    """Return whether rows are visits, so that a column must identify the person."""
    return not np.array_equal(cohort.person_N, cohort.patient_id_N)


def _toml(value: Any) -> str:
    """Format a scalar, sequence or table as TOML."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{literal(key)} = {_toml(v)}" for key, v in value.items()) + " }"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return literal(value)

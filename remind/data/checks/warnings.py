"""Warnings: valid cohorts that probably contain a mistake."""

from collections.abc import Mapping

import numpy as np

from remind.data.checks.leaks import leaks
from remind.data.cohort.cohort import SPLITS, Cohort
from remind.data.cohort.contents import Contents
from remind.data.cohort.declaration import CohortFile
from remind.data.cohort.kind import Seen, kind_of
from remind.data.cohort.modality_schema import ModalitySchema
from remind.data.cohort.problems import counted
from remind.data.cohort.read import Loaded


def cohort_warnings(loaded: Loaded, cohort: Cohort, seen: Mapping[str, Seen]) -> list[str]:
    """Return warnings about a cohort that can be used.

    Parameters
    ----------
    seen
        Properties of each modality's data.
    """
    lines = [*_left_out(loaded), *_labels(cohort), *loaded.remarks]
    for modality in cohort.schema.modalities:
        lines += _of_modality(loaded.declared, cohort.modalities[modality.name], modality)
        lines += _undeclared(loaded.declared, modality.name)
        lines += seen[modality.name].warnings
    return lines + leaks([cohort])


def _left_out(loaded: Loaded) -> list[str]:
    lines = []
    if loaded.unlabelled:
        lines.append(f'{counted(loaded.unlabelled, "patient")} without a label left out (label.missing = "drop")')
    if loaded.empty:
        lines.append(f'{counted(loaded.empty, "patient")} without any modality left out (patients.empty = "drop")')
    return lines


def _labels(cohort: Cohort) -> list[str]:
    outcome = cohort.schema.predicts
    lines = outcome.lacking(cohort.label_N, cohort.target_NT)
    for site in [] if cohort.site_N is None else np.unique(cohort.site_N).tolist():
        here_N = cohort.site_N == site
        label_N, target_NT = cohort.label_N[here_N], None if cohort.target_NT is None else cohort.target_NT[here_N]
        if not (alike := outcome.alike(label_N, target_NT)):
            continue
        if outcome.by_class:
            name = outcome.strata[label_N[0]]
            lines.append(f"site {site!r} has patients of only one class ({name}): no AUROC can be measured there")
        else:
            lines.append(f"site {site!r}: all {len(label_N)} patients {alike}: the scores there say little")
    if cohort.split_N is not None:
        held_out = [SPLITS[code] for code in (1, 2) if not (cohort.split_N == code).any()]
        lines += [f"the split has no {name} patients" for name in held_out]
    return lines


def _of_modality(declared: CohortFile, data: Contents, modality: ModalitySchema) -> list[str]:
    if not data.present().any():
        return [] if declared.modalities[modality.name].absent else [f"{modality.name}: no patient has it"]
    outcome = {
        *(column.name for column in declared.label.columns),
        *([declared.split.column] if declared.split else []),
    }
    return kind_of(modality).suspicious(modality, data, frozenset(outcome))


def _undeclared(declared: CohortFile, name: str) -> list[str]:
    """Describe what was inferred from a modality's file because cohort.toml does not declare it."""
    section = declared.modalities[name]
    if section.absent:
        return []
    if not (unset := kind_of(section).inferred(section)):
        return []
    words = " and ".join(unset)
    return [f"{name}: {words} not declared but taken from the file; declare before joining other sites"]

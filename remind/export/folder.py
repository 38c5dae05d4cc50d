"""Write the folder of `remind export`: a new folder, complete or not at all."""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from remind.data.cohort.cohort import Cohort
from remind.data.cohort.kinds.table import Table, TableSchema
from remind.errors import UserError
from remind.export.card import Wishes, card
from remind.export.check import check_fusion, check_table, inputs_of
from remind.export.facts import RunFacts, agreed_names, facts_of, facts_of_hospital, large_groups, publishable_counts
from remind.export.modules import FusionProgram, TableProgram
from remind.export.programs import FUSION, TABLE, require_onnx, write_programs
from remind.export.settings import preprocessing, public_config
from remind.fusion.base import FusionModel
from remind.metrics.calibration import CALIBRATION, write_calibration
from remind.model_file import save_model
from remind.outcomes.base import require
from remind.prediction.bundle import MODEL, SITES, Bundle, read_bundle, require_new_folder
from remind.prediction.model import LoadedModel
from remind.prediction.ranges import Ranges
from remind.prediction.site_part import FILE, SitePart
from remind.training.site_model import fusion_of

README, CONFIG, SCHEMA, PREPROCESSING, PROGRAMS = (
    "README.md",
    "config.json",
    "schema.json",
    "preprocessing.json",
    "programs",
)
UNNAMED = "hospital"  # a hospital that did not agree to be named
WHAT = {
    MODEL: "weights of the fusion model (safetensors); metadata: config, schema, round, training patients per group",
    CONFIG: "every setting of the run that affects the model",
    SCHEMA: "classes, modalities, columns, levels, items, and the fingerprint that hospitals compare",
    PREPROCESSING: "statistics that standardise the inputs, as far as they may be published",
    CALIBRATION: "parameters that convert logits into calibrated probabilities and decisions",
}


@dataclass(frozen=True)
class Exported:
    """The result of an export.

    Attributes
    ----------
    folder
        The written folder.
    checked
        Results of comparing the programs with the model, as text.
    lacking
        Modalities whose encoders each hospital has to add.
    not_exported
        Why there is no program of the fusion model; empty if there is one.
    """

    folder: Path
    checked: tuple[str, ...]
    lacking: tuple[str, ...]
    not_exported: str


def export_run(run: Path, out: Path, wishes: Wishes, patients: Mapping[str, Cohort]) -> Exported:
    """Write a run's model as a folder that others can open, run and publish.

    Parameters
    ----------
    run
        The results folder of a finished run.
    out
        A new folder.
    wishes
        The caller's other choices.
    patients
        Hospital → patients for comparing the programs with the model; empty: artificial patients.

    Raises
    ------
    UserError
        The run has not finished, `out` exists already, a hospital to be named did not agree, or a program differs
        from the model. Nothing is written then.
    """
    check_new(out)
    bundle = read_bundle(run)
    wishes = replace(wishes, hospitals=agreed_names(run, wishes.hospitals))
    return export_model(bundle, facts_of(run, bundle, wishes.minimum), out, wishes, patients)


def check_new(out: Path) -> None:
    """Check that the folder can be written, before anything is read.

    Raises
    ------
    UserError
        The folder exists or cannot be created, or ONNX is not installed.
    """
    require_onnx()
    require_new_folder(out)


def export_hospital(bundle: Bundle, out: Path, wishes: Wishes, patients: Mapping[str, Cohort]) -> Exported:
    """Write the model of one hospital from its part: its form of the fusion model, and its encoders if requested.

    Parameters
    ----------
    bundle
        The bundle of one part (`remind.prediction.bundle.of_part`).
    out, wishes, patients
        As for `export_run`.
    """
    check_new(out)
    [name] = bundle.sites
    part = bundle.part(name)
    fusion = {n: t.detach().cpu() for n, t in part.tensors.items() if n.startswith("fusion.")}
    own = replace(bundle, tensors=fusion, routed=part.routing)
    return export_model(own, facts_of_hospital(own, wishes.minimum), out, wishes, patients)


def export_model(
    bundle: Bundle, facts: RunFacts, out: Path, wishes: Wishes, patients: Mapping[str, Cohort]
) -> Exported:
    """Write a model and the facts about it; the folder appears complete or not at all."""
    require(bundle.schema.predicts, "remind export")
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    partial.mkdir()
    try:
        exported = _Writer(partial, bundle, facts, wishes, patients).write()
        os.rename(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return replace(exported, folder=out)


@dataclass(frozen=True)
class _Writer:
    folder: Path
    bundle: Bundle
    facts: RunFacts
    wishes: Wishes
    patients: Mapping[str, Cohort]

    def write(self) -> Exported:
        bundle = self.bundle
        files = dict(WHAT)
        self._json(CONFIG, {"library_name": "federated-remind", "round": bundle.round} | public_config(bundle))
        self._json(SCHEMA, bundle.schema.describe() | {"fingerprint": bundle.schema.fingerprint})
        self._json(PREPROCESSING, preprocessing(bundle))
        if bundle.calibration is None:
            del files[CALIBRATION]
        else:
            write_calibration(self.folder / CALIBRATION, bundle.calibration)
        self._weights()
        part = self._part() if self.wishes.site else None
        checked, not_exported = self._programs(part)
        files |= {
            str(path.relative_to(self.folder)): _program(path) for path in sorted((self.folder / PROGRAMS).rglob("*.*"))
        }
        lacking: tuple[str, ...] = ()
        if part is not None:
            files[f"{SITES}/0/{FILE}"] = "the hospital's encoders, and the fusion model as it uses it"
            lacking = tuple(name for name in bundle.schema.names if name not in part.modalities)
        elif not bundle.serves_everybody:
            lacking = bundle.schema.names
        text = card(bundle, self.facts, self.wishes, files, lacking, not_exported, checked)
        (self.folder / README).write_text(text, encoding="utf-8")
        return Exported(self.folder, tuple(checked), lacking, not_exported)

    def _weights(self) -> None:
        bundle, minimum = self.bundle, self.wishes.minimum
        large = large_groups(bundle, minimum)
        metadata = {
            "round": str(bundle.round),
            "routing": json.dumps(bundle.routing),
            "seed": str(bundle.config.seed),
            "weights": json.dumps({str(k): w for k, w in bundle.weights.items() if k in large}),
            "counts": json.dumps({str(k): n for k, n in publishable_counts(bundle, minimum).items()}),
            "config": json.dumps(public_config(bundle)["config"]),
            "schema": json.dumps(bundle.schema.describe()),
        }
        save_model(self.folder / MODEL, bundle.tensors, metadata)

    def _part(self) -> SitePart:
        """Write a hospital's encoders; its ranges only if requested, its name only if it agreed."""
        part = self.bundle.part(self.wishes.site)
        if self.bundle.config.model.stays:
            raise UserError(
                f"--site {self.wishes.site}: this run has model.encoders.alone or model.linear, whose files contain "
                "statistics of the hospital's numbers, or models fitted on its patients with a digest of each; they do "
                "not leave the hospital: export without --site"
            )
        if part.support:
            raise UserError(
                f"--site {self.wishes.site}: {self.bundle.config.method.fusion} predicts with tokens of this "
                "hospital's training patients, and they do not leave the hospital; export without --site"
            )
        given = replace(
            part,
            site=part.site if part.site in self.wishes.hospitals else UNNAMED,
            config=self.bundle.config.model_validate(public_config(self.bundle)["config"]),
            counts={k: n for k, n in publishable_counts(self.bundle, self.wishes.minimum).items() if k in part.counts},
            own={},
            ranges=part.ranges if self.wishes.ranges else Ranges(),
        )
        path = self.folder / SITES / "0" / FILE
        path.parent.mkdir(parents=True)
        torch.save(given.content(), path)
        return part

    def _programs(self, part: SitePart | None) -> tuple[list[str], str]:
        (self.folder / PROGRAMS).mkdir()
        fusion, routing, loaded = self._fusion(part)
        not_exported = fusion.not_exported if routing or fusion.compares or fusion.context.model.stays else ""
        checked: list[str] = []
        if not_exported:
            not_exported = f"{self.bundle.config.method.fusion}: {not_exported}"
        else:
            program = FusionProgram(fusion, routing).eval()
            written = write_programs(program, FUSION, self.folder / PROGRAMS / "fusion")
            checked += check_fusion(program, inputs_of(self.bundle, self.patients, program), written)
        if loaded is not None:
            checked += self._tables(loaded)
        return checked, not_exported

    def _fusion(self, part: SitePart | None) -> tuple[FusionModel, bool, LoadedModel | None]:
        """Return the fusion model with every trained group, in the form of a hospital if one is given."""
        bundle = self.bundle
        if part is None:
            fusion = fusion_of(bundle.schema, bundle.config)
            own = {name.removeprefix("fusion."): t for name, t in bundle.tensors.items() if name.startswith("fusion.")}
            fusion.keep_groups({int(n.split(".")[1]) for n in own if n.startswith("groups.")}, bundle.config.seed)
            fusion.load_state_dict(_completed(fusion, own))
            return fusion.eval(), bundle.routing, None
        loaded = LoadedModel(bundle, part, torch.device("cpu"))
        for group, module in loaded.elsewhere.items():
            loaded.model.fusion.groups[group] = module
        return loaded.model.fusion.eval(), loaded.routing, loaded

    def _tables(self, loaded: LoadedModel) -> list[str]:
        lines: list[str] = []
        for schema in self.bundle.schema.modalities:
            if not isinstance(schema, TableSchema) or schema.name not in loaded.model.encoders:
                continue
            program = TableProgram(loaded.model.encoders[schema.name], schema.columns).eval()
            written = write_programs(program, TABLE, self.folder / PROGRAMS / f"encoder-{schema.name}")
            values, whose = program.example(2)[0], "a patient without values"
            if self.wishes.site in self.patients:
                of = self.patients[self.wishes.site]
                contents = of.modalities[schema.name]
                assert isinstance(contents, Table)
                rows = contents.values_NF[contents.present()]
                values, whose = torch.cat([values, torch.from_numpy(rows).to(values.dtype)]), "the run's own patients"
            lines += check_table(program, values, whose, written)
        return lines

    def _json(self, name: str, content: Any) -> None:
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        (self.folder / name).write_text(text, encoding="utf-8")


def _completed(fusion: FusionModel, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    lacking = sorted(set(fusion.state_dict()) - set(own))
    if lacking:
        raise UserError(
            f"fusion.{lacking[0]}: the run's model lacks this tensor, because the rule of this run keeps it at each "
            "hospital; export the model of one hospital with --site"
        )
    return dict(own)


def _program(path: Path) -> str:
    signature = FUSION if path.stem == "fusion" else TABLE
    kind = "`torch.export`" if path.suffix == ".pt2" else "ONNX"
    return f"{kind}: {', '.join(signature.inputs)} → {', '.join(signature.outputs)}, any number of patients"

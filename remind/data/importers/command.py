"""``remind data import``: one command per data set. docs/importing.md says what each does."""

import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import click
import typer

from remind.data.importers.eicu_items import Label as EicuLabel
from remind.data.importers.mimic_settings import CodesRule, Label, NotesRule
from remind.errors import UserError

AbsentFiles = Literal["error", "drop"]

import_app = typer.Typer(help="Make a cohort from the files of a published data set.", no_args_is_help=True)


def _one_of(values: Any) -> click.Choice[str]:
    return click.Choice(get_args(values))


def _say(message: str) -> None:
    print(message, file=sys.stderr)


def _run(import_: Callable[..., Any], settings: Any) -> None:
    paths = {
        field.name: value for field in fields(settings) if isinstance(value := getattr(settings, field.name), Path)
    }
    at_home = replace(settings, **{name: path.expanduser() for name, path in paths.items()})  # shells keep ~ after =
    print(import_(at_home, _say).to_text(), end="")


Out = Annotated[Path, typer.Option(help="A new or empty folder for the cohort.")]


@import_app.command("embed")
def embed(
    clinical: Annotated[Path, typer.Option(help="EMBED_OpenData_clinical.csv, whole or reduced; .gz will do.")],
    metadata: Annotated[Path, typer.Option(help="EMBED_OpenData_metadata.csv, whole or reduced; .gz will do.")],
    images: Annotated[Path, typer.Option(help="Folder of the pictures, which holds cohort_1, cohort_2.")],
    out: Out,
    prefix: Annotated[
        str, typer.Option(help="How the paths in the table begin, in place of --images, if without cohort_….")
    ] = "",
    screening: Annotated[bool, typer.Option("--screening", help="Leave diagnostic exams out.")] = False,
    absent_files: Annotated[
        AbsentFiles,
        typer.Option(click_type=_one_of(AbsentFiles), help="Breasts with missing files: error, or drop them."),
    ] = "error",
) -> None:
    """Mammograms of Emory: four views of a breast, its density."""
    from remind.data.importers.embed import EmbedSettings, import_embed

    _run(import_embed, EmbedSettings(clinical, metadata, images, out, prefix, screening, absent_files))


@import_app.command("mimic-iv")
def mimic_iv(
    hosp: Annotated[Path, typer.Option(help="Folder hosp of MIMIC-IV.")],
    label: Annotated[
        Label, typer.Option(click_type=_one_of(Label), help="Death, readmission, length of stay, phenotypes.")
    ],
    out: Out,
    icu: Annotated[Path | None, typer.Option(help="Folder icu; without it an example is an admission.")] = None,
    note: Annotated[Path | None, typer.Option(help="Folder note of MIMIC-IV-Note; without it no notes.")] = None,
    hours: Annotated[float, typer.Option(help="Hours from a stay's start that are read.")] = 48.0,
    notes: Annotated[
        NotesRule | None,
        typer.Option(click_type=_one_of(NotesRule), help="Default: radiology; one-year, readmission: discharge."),
    ] = None,
    codes: Annotated[
        CodesRule | None,
        typer.Option(
            click_type=_one_of(CodesRule),
            help="Admissions whose codes to use. Default: previous; after the discharge: all.",
        ),
    ] = None,
    first: Annotated[bool, typer.Option("--first", help="Take each person's first stay only.")] = False,
    as_text: Annotated[bool, typer.Option("--as-text", help="Write labs, vitals and codes as text too.")] = False,
    text_hours: Annotated[float, typer.Option(help="As text: one value per item and so many hours.")] = 24.0,
    items: Annotated[Path | None, typer.Option(help="A .csv of the labs and vitals to take instead.")] = None,
    phenotypes: Annotated[
        Path | None, typer.Option(help="With --label phenotypes: a .csv of the codes of each phenotype.")
    ] = None,
    care_units: Annotated[bool, typer.Option("--care-units", help="Make each first care unit a hospital.")] = False,
    allow_leakage: Annotated[
        bool, typer.Option("--allow-leakage", help="Take notes or codes that tell how the stay ended.")
    ] = False,
) -> None:
    """Stays in intensive care: notes, labs, vitals, diagnoses; mortality, readmission, length of stay, phenotypes."""
    from remind.data.importers.mimic_iv import import_mimic
    from remind.data.importers.mimic_settings import MimicSettings

    settings = MimicSettings(
        hosp=hosp,
        out=out,
        label=label,
        icu=icu,
        note=note,
        hours=hours,
        notes=notes,
        codes=codes,
        first=first,
        as_text=as_text,
        text_hours=text_hours,
        items=items,
        care_units=care_units,
        allow_leakage=allow_leakage,
        phenotypes=phenotypes,
    )
    _run(import_mimic, settings)


@import_app.command("bids")
def bids(
    folder: Annotated[Path, typer.Option("--bids", help="Folder with participants.tsv.")],
    label: Annotated[str, typer.Option(help="Column of participants.tsv to predict.")],
    out: Out,
    suffixes: Annotated[str, typer.Option(help="Suffixes of images, a modality each.")] = "T1w,T2w,FLAIR",
    size: Annotated[str, typer.Option(help="Slices, height, width of the volumes.")] = "32,128,128",
    columns: Annotated[str, typer.Option(help="Columns of participants.tsv that are a table of features.")] = "",
    site: Annotated[str, typer.Option(help="Column with the hospital.")] = "",
    classes: Annotated[str, typer.Option(help="Classes of the label in order; default: as they sort.")] = "",
    number: Annotated[str, typer.Option("--range", help="Smallest and largest value of a number to predict.")] = "",
) -> None:
    """Volumes of a BIDS folder, such as T1w and FLAIR; a class or a number of participants.tsv."""
    from remind.data.importers.bids import BidsSettings, import_bids

    settings = BidsSettings(
        bids=folder,
        out=out,
        label=label,
        suffixes=_parts(suffixes),
        size=_three(size),
        columns=_parts(columns),
        site=site,
        classes=_parts(classes),
        range=_two(number) if number else None,
    )
    _run(import_bids, settings)


@import_app.command("eicu")
def eicu(
    folder: Annotated[Path, typer.Option("--eicu", help="Folder of the release, with patient.csv.gz.")],
    label: Annotated[
        EicuLabel,
        typer.Option(click_type=_one_of(EicuLabel), help="Death in hospital, in the unit; days in the unit."),
    ],
    out: Out,
    hours: Annotated[float, typer.Option(help="Hours from the admission to the unit that are read.")] = 24.0,
    first: Annotated[bool, typer.Option("--first", help="Take each person's first stay only.")] = False,
) -> None:
    """Stays in intensive care of many hospitals: vitals, labs, diagnoses; mortality, length of stay."""
    from remind.data.importers.eicu import EicuSettings, import_eicu

    _run(import_eicu, EicuSettings(folder, out, label, hours, first))


@import_app.command("omop")
def omop(
    cdm: Annotated[Path, typer.Option(help="Folder with a .csv or .csv.gz of each table.")],
    mapping: Annotated[Path, typer.Option(help="TOML file: visits, outcome, concepts of each modality.")],
    out: Out,
) -> None:
    """Visits of an OMOP CDM: measurements, drugs, conditions, notes; outcomes by a mapping file."""
    from remind.data.importers.omop import OmopSettings, import_omop

    _run(import_omop, OmopSettings(cdm, mapping, out))


@import_app.command("brats")
def brats(
    data: Annotated[Path, typer.Option(help="Folder with a folder per patient.")],
    out: Out,
    size: Annotated[str, typer.Option(help="Voxels that are kept around the brain: slices, rows, columns.")] = (
        "128,128,128"
    ),
    sites: Annotated[
        Path | None, typer.Option(help="A .csv with Subject_ID and Partition_ID: the hospital of each patient.")
    ] = None,
) -> None:
    """Four sequences of MRI of a brain tumour, and its mask."""
    from remind.data.importers.brats import BratsSettings, import_brats

    _run(import_brats, BratsSettings(data, out, _size(size), sites))


def _size(text: str) -> tuple[int, int, int]:
    parts = _parts(text)
    if len(parts) != 3 or not all(part.isdecimal() and 4 <= int(part) <= 1024 for part in parts):
        raise UserError(f"--size {text}: give three numbers of 4 to 1024, such as 128,128,128")
    return int(parts[0]), int(parts[1]), int(parts[2])


@import_app.command("fprm")
def fprm(
    index: Annotated[Path, typer.Option(help="A .csv or .parquet with a row per example.")],
    data: Annotated[Path, typer.Option(help="Folder that the paths in the index start from.")],
    out: Out,
    example_id: Annotated[str, typer.Option("--id", help="Column with the example's id.")] = "id",
    person: Annotated[str, typer.Option(help="Column with the person.")] = "patient_id",
    label: Annotated[str, typer.Option(help="Column with the grade.")] = "grade",
    fundus: Annotated[str, typer.Option(help="Column with the path of the fundus photograph.")] = "fundus",
    flow: Annotated[str, typer.Option(help="Column with the path of the blood-flow video.")] = "flow",
    oxygen: Annotated[str, typer.Option(help="Column with the path of the oxygen map.")] = "oxygen",
    exclude: Annotated[str, typer.Option(help="Columns that are no features, comma-separated.")] = "",
    categories: Annotated[str, typer.Option(help="Feature columns that hold texts, comma-separated.")] = "",
    classes: Annotated[str, typer.Option(help="The grades in order, comma-separated; default: as they sort.")] = "",
) -> None:
    """Retinal pictures and a table; grade of health deterioration. The layout is an assumption."""
    from remind.data.importers.fprm import FprmSettings, import_fprm

    settings = FprmSettings(
        index=index,
        data=data,
        out=out,
        id=example_id,
        person=person,
        label=label,
        fundus=fundus,
        flow=flow,
        oxygen=oxygen,
        exclude=_parts(exclude),
        categories=_parts(categories),
        classes=_parts(classes),
    )
    _run(import_fprm, settings)


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _three(text: str) -> tuple[int, int, int]:
    parts = _parts(text)
    if len(parts) != 3 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UserError(f"--size {text}: give slices, height and width, such as 32,128,128")
    depth, height, width = map(int, parts)
    return depth, height, width


def _two(text: str) -> tuple[float, float]:
    try:
        low, high = map(float, _parts(text))
    except ValueError:
        raise UserError(f"--range {text}: give the smallest and the largest number, such as 0,30") from None
    return low, high

"""A small MIMIC-IV with the columns of the real one, drawn at random or row by row."""

import csv
import gzip
import io
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

COLUMNS = {
    "hosp/patients": "subject_id gender anchor_age anchor_year anchor_year_group dod",
    "hosp/admissions": (
        "subject_id hadm_id admittime dischtime deathtime admission_type admit_provider_id admission_location "
        "discharge_location insurance language marital_status race edregtime edouttime hospital_expire_flag"
    ),
    "hosp/diagnoses_icd": "subject_id hadm_id seq_num icd_code icd_version",
    "hosp/d_icd_diagnoses": "icd_code icd_version long_title",
    "hosp/labevents": (
        "labevent_id subject_id hadm_id specimen_id itemid order_provider_id charttime storetime value valuenum "
        "valueuom ref_range_lower ref_range_upper flag priority comments"
    ),
    "hosp/d_labitems": "itemid label fluid category",
    "icu/icustays": "subject_id hadm_id stay_id first_careunit last_careunit intime outtime los",
    "icu/chartevents": (
        "subject_id hadm_id stay_id caregiver_id charttime storetime itemid value valuenum valueuom warning"
    ),
    "icu/d_items": ("itemid label abbreviation linksto category unitname param_type lownormalvalue highnormalvalue"),
    "note/discharge": "note_id subject_id hadm_id note_type note_seq charttime storetime text",
    "note/radiology": "note_id subject_id hadm_id note_type note_seq charttime storetime text",
}
START = datetime(2150, 3, 1, 8)
HOUR = timedelta(hours=1)
HEART_RATE, FAHRENHEIT, CREATININE, LACTATE = 220045, 223761, 50912, 50813
UNKNOWN = 227000  # an item that nobody asks for
UNITS = ("Medical Intensive Care Unit (MICU)", "Coronary Care Unit (CCU)")


class Release:
    """Rows by table, each a dict of some columns; the others are left empty."""

    def __init__(self) -> None:
        self.rows = {table: [] for table in COLUMNS}
        for itemid in (CREATININE, LACTATE):
            self.add("hosp/d_labitems", itemid=itemid, label="x")
        for itemid in (HEART_RATE, FAHRENHEIT, UNKNOWN):
            self.add("icu/d_items", itemid=itemid, label="x")
        titles = {("I509", 10): "Heart failure, unspecified", ("4280", 9): 'Congestive heart failure, "unspecified"'}
        for (code, version), title in titles.items():
            self.add("hosp/d_icd_diagnoses", icd_code=code, icd_version=version, long_title=title)

    def add(self, table, **row):
        assert row.keys() <= set(COLUMNS[table].split()), row
        self.rows[table].append(row)
        return row

    def patient(self, subject, dod=None):
        return self.add("hosp/patients", subject_id=subject, gender="F", anchor_age=60, dod=dod)

    def admission(self, subject, hadm, start, end, death=None):
        died = int(death is not None)
        row = {"admittime": start, "dischtime": end, "deathtime": death, "hospital_expire_flag": died}
        return self.add("hosp/admissions", subject_id=subject, hadm_id=hadm, race="WHITE", **row)

    def stay(self, subject, hadm, stay, start, end, unit=UNITS[0]):
        row = {"first_careunit": unit, "intime": start, "outtime": end}
        return self.add("icu/icustays", subject_id=subject, hadm_id=hadm, stay_id=stay, **row)

    def lab(self, subject, itemid, time, value, stored=None, hadm=None, unit=None):
        row = {"charttime": time, "storetime": stored, "value": value, "valuenum": value, "valueuom": unit}
        return self.add("hosp/labevents", subject_id=subject, hadm_id=hadm, itemid=itemid, **row)

    def chart(self, subject, hadm, stay, itemid, time, value, stored=None, unit=None):
        row = {"charttime": time, "storetime": stored, "value": value, "valuenum": value, "itemid": itemid}
        row["valueuom"] = unit
        return self.add("icu/chartevents", subject_id=subject, hadm_id=hadm, stay_id=stay, **row)

    def note(self, kind, subject, hadm, time, stored, text):
        row = {"charttime": time, "storetime": stored, "text": text, "note_type": kind[:2].upper()}
        return self.add(f"note/{kind}", subject_id=subject, hadm_id=hadm, **row)

    def code(self, subject, hadm, seq, code, version):
        return self.add(
            "hosp/diagnoses_icd", subject_id=subject, hadm_id=hadm, seq_num=seq, icd_code=code, icd_version=version
        )

    def write(self, root: Path, zipped: bool = True) -> Path:
        for table, columns in COLUMNS.items():
            names = columns.split()
            text = io.StringIO()
            writer = csv.writer(text)
            writer.writerow(names)
            writer.writerows([_cell(row.get(name)) for name in names] for row in self.rows[table])
            path = root / f"{table}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            if zipped:
                path.with_name(path.name + ".gz").write_bytes(gzip.compress(text.getvalue().encode()))
            else:
                path.write_text(text.getvalue(), encoding="utf-8", newline="")
        return root


def _cell(value):
    return "" if value is None else str(value)  # a datetime as 2150-03-01 08:00:00, a date as 2150-03-01


def draw(seed: int, subjects: int = 25) -> Release:
    """People with several admissions and stays, deaths in and out of the hospital, events at all sorts of times."""
    rng = np.random.default_rng(seed)
    release = Release()

    def after(time, low, high):
        return time + timedelta(seconds=int(rng.integers(low * 3600, high * 3600)))

    hadm, stay = 20_000_000, 30_000_000
    for subject in rng.permutation(np.arange(10_000_000, 10_000_000 + subjects)).tolist():
        time, death = START + timedelta(days=int(rng.integers(0, 9000))), None
        for _ in range(int(rng.integers(1, 4))):
            hadm += 1
            admitted, time = time, after(time, 20, 240)
            death = time if rng.random() < 0.25 else None
            release.admission(subject, hadm, admitted, time, death)
            entered = after(admitted, 0, 10)
            for _ in range(int(rng.integers(0, 3))):
                stay += 1
                left = min(after(entered, 2, 120), time)
                if left <= entered:
                    break
                release.stay(subject, hadm, stay, entered, left, str(rng.choice(UNITS)))
                _events(release, rng, subject, hadm, stay, entered, after)
                entered = after(left, 0, 5)
            if rng.random() < 0.8:
                stored = after(time, 0, 100) if rng.random() < 0.9 else None
                day = time.replace(hour=0, minute=0, second=0)
                release.note("discharge", subject, hadm, day, stored, f'Summary of {hadm},\n"quoted"\nand more')
            for seq in range(1, int(rng.integers(1, 4))):
                code, version = [("I509", 10), ("4280", 9), ("E8490", 9), ("0389", 9)][int(rng.integers(0, 4))]
                release.code(subject, hadm, seq, code, version)
            if death is not None:
                break
            time = after(time, 5, 4000)
        dod = death.date() if death else (after(time, -3, 9000).date() if rng.random() < 0.4 else None)
        release.patient(subject, dod)
    for rows in release.rows.values():
        rng.shuffle(rows)
    return release


def _events(release, rng, subject, hadm, stay, entered, after):
    for _ in range(int(rng.integers(0, 12))):
        charted = after(entered, -20, 80)
        stored = after(charted, 0, 6) if rng.random() < 0.9 else None
        value = None if rng.random() < 0.1 else round(float(rng.uniform(-20, 350)), 1)
        if rng.random() < 0.5:
            release.lab(subject, int(rng.choice([CREATININE, LACTATE, UNKNOWN])), charted, value, stored)
        else:
            itemid = int(rng.choice([HEART_RATE, FAHRENHEIT, UNKNOWN]))
            release.chart(subject, hadm, stay, itemid, charted, value, stored)
    for _ in range(int(rng.integers(0, 3))):
        charted = after(entered, -10, 80)
        stored = after(charted, 0, 10) if rng.random() < 0.9 else None
        admission = hadm if rng.random() < 0.8 else None
        release.note("radiology", subject, admission, charted, stored, f'CHEST\n{stay} at {charted}, "clear"')

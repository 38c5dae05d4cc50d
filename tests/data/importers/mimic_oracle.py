"""The expected import of a small MIMIC-IV, computed stay by stay with dates and loops."""

from datetime import datetime, time, timedelta

from tests.builders.mimic import CREATININE, FAHRENHEIT, HEART_RATE, LACTATE

ITEMS = {  # name, low, high, after conversion
    HEART_RATE: ("Heart rate", 1, 300, lambda v: v),
    FAHRENHEIT: ("Temperature", 20, 50, lambda v: (v - 32) / 1.8),
    CREATININE: ("Creatinine", 0.01, 150, lambda v: v),
    LACTATE: ("Lactate", 0.05, 50, lambda v: v),
}
HOURS = timedelta(hours=48)


def expected(release, label, notes, codes):
    """By stay: label, observations, notes as {(text, hours before)}, codes; stays that are no example are not there."""
    rows = release.rows
    admissions = {row["hadm_id"]: row for row in rows["hosp/admissions"]}
    stays = sorted(rows["icu/icustays"], key=lambda row: row["intime"])
    found, seen = {}, set()
    for stay in stays:
        admission = admissions[stay["hadm_id"]]
        start = stay["intime"]
        index = admission["dischtime"] if label == "one-year" else start + HOURS
        death = death_of(release, stay["subject_id"])
        if label == "one-year":
            if admission["hospital_expire_flag"] or (death and death <= index) or stay["hadm_id"] in seen:
                continue
            seen.add(stay["hadm_id"])
        elif (death and death <= index) or min(stay["outtime"], admission["dischtime"]) < index:
            continue
        limit = {"48h": timedelta(hours=48), "one-year": timedelta(days=365)}
        if label == "in-hospital":
            died = bool(admission["hospital_expire_flag"])
        else:
            died = death is not None and index < death <= index + limit[label]
        earlier = [
            row
            for row in rows["hosp/admissions"]
            if row["subject_id"] == stay["subject_id"] and row["dischtime"] <= admission["admittime"]
        ]
        found[stay["stay_id"]] = {
            "died": died,
            "person": stay["subject_id"],
            "labs": labs_of(rows, stay["subject_id"], start, min(start + HOURS, index), index),
            "notes": notes_of(rows, stay, index, earlier, notes),
            "codes": codes_of(rows, stay, earlier, codes),
        }
    return {stay: what for stay, what in found.items() if what["labs"] or what["notes"] or what["codes"]}


def death_of(release, subject):
    clocks = [row["deathtime"] for row in release.rows["hosp/admissions"] if row["subject_id"] == subject]
    known = [clock for clock in clocks if clock is not None]
    (dod,) = [row["dod"] for row in release.rows["hosp/patients"] if row["subject_id"] == subject]
    return min(known) if known else dod and datetime.combine(dod, time(23, 59, 59))


def labs_of(rows, subject, start, end, index):
    found = set()
    for row in [*rows["hosp/labevents"], *rows["icu/chartevents"]]:
        if row["subject_id"] != subject or row["itemid"] not in ITEMS or row["valuenum"] is None:
            continue
        name, low, high, convert = ITEMS[row["itemid"]]
        value = convert(row["valuenum"])
        known = row["storetime"] is None or row["storetime"] <= index
        if low <= value <= high and start <= row["charttime"] <= end and known:
            hours = (row["charttime"] - start).total_seconds() / 3600
            found.add((name, round(hours, 3), round(value, 3)))
    return found


def notes_of(rows, stay, index, earlier, rule):
    def before(row):
        return round((index - row["charttime"]).total_seconds() / 3600, 3)

    found = {
        (row["text"], before(row))
        for row in rows["note/radiology"]
        if row["hadm_id"] == stay["hadm_id"] and row["storetime"] and max(row["storetime"], row["charttime"]) <= index
    }
    last = max(earlier, key=lambda row: row["dischtime"], default={"hadm_id": None})["hadm_id"]
    for row in rows["note/discharge"]:
        if (rule == "history" and row["hadm_id"] == last and row["storetime"] and row["storetime"] <= index) or (
            rule == "discharge" and row["hadm_id"] == stay["hadm_id"]
        ):
            found.add((row["text"], before(row)))
    return found


def codes_of(rows, stay, earlier, rule):
    wanted = {"previous": set(), "this": {stay["hadm_id"]}, "all": {stay["hadm_id"]}}[rule]
    if rule != "this":
        wanted |= {row["hadm_id"] for row in earlier}
    return {
        f"{row['icd_version']:02d}:{row['icd_code']}" for row in rows["hosp/diagnoses_icd"] if row["hadm_id"] in wanted
    }

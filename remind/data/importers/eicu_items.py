"""Outcomes of eICU, and its labs and vitals with the bounds of plausible values in the units of the release."""

from dataclasses import dataclass
from typing import Literal

Label = Literal["in-hospital", "unit", "length-of-stay"]  # what is predicted; the command line loads it at once


@dataclass(frozen=True)
class Bounds:
    """An item's name in the cohort, and the smallest and largest value that is believed."""

    name: str
    low: float
    high: float


OLDEST = 90  # what "> 89" counts as
GENDERS = {"Female": "female", "Male": "male"}
PERIODIC = {  # columns of vitalPeriodic
    "temperature": Bounds("Temperature", 20, 50),
    "sao2": Bounds("Oxygen saturation", 1, 100),
    "heartrate": Bounds("Heart rate", 1, 350),
    "respiration": Bounds("Respiratory rate", 1, 100),
    "systemicsystolic": Bounds("Systolic blood pressure", 1, 350),
    "systemicdiastolic": Bounds("Diastolic blood pressure", 1, 300),
    "systemicmean": Bounds("Mean blood pressure", 1, 320),
}
APERIODIC = {  # columns of vitalAperiodic: from a cuff
    "noninvasivesystolic": Bounds("Systolic blood pressure, cuff", 1, 350),
    "noninvasivediastolic": Bounds("Diastolic blood pressure, cuff", 1, 300),
    "noninvasivemean": Bounds("Mean blood pressure, cuff", 1, 320),
}
LABS = {  # labname of lab
    "sodium": Bounds("Sodium", 80, 200),
    "potassium": Bounds("Potassium", 1, 12),
    "chloride": Bounds("Chloride", 50, 180),
    "bicarbonate": Bounds("Bicarbonate", 1, 70),
    "anion gap": Bounds("Anion gap", -20, 60),
    "BUN": Bounds("Urea nitrogen", 1, 300),
    "creatinine": Bounds("Creatinine", 0.05, 40),
    "glucose": Bounds("Glucose", 5, 2000),
    "bedside glucose": Bounds("Glucose, bedside", 5, 2000),
    "calcium": Bounds("Calcium", 2, 25),
    "magnesium": Bounds("Magnesium", 0.2, 15),
    "phosphate": Bounds("Phosphate", 0.2, 25),
    "albumin": Bounds("Albumin", 0.3, 8),
    "total bilirubin": Bounds("Bilirubin", 0.05, 80),
    "ALT (SGPT)": Bounds("ALT", 1, 20000),
    "AST (SGOT)": Bounds("AST", 1, 30000),
    "alkaline phos.": Bounds("Alkaline phosphatase", 1, 5000),
    "Hgb": Bounds("Hemoglobin", 1, 27),
    "Hct": Bounds("Hematocrit", 3, 80),
    "WBC x 1000": Bounds("White blood cells", 0.01, 500),
    "platelets x 1000": Bounds("Platelets", 1, 2500),
    "PT - INR": Bounds("INR", 0.3, 30),
    "PTT": Bounds("PTT", 5, 250),
    "lactate": Bounds("Lactate", 0.05, 40),
    "troponin - I": Bounds("Troponin I", 0, 1000),
    "pH": Bounds("pH", 6.3, 8.2),
    "paO2": Bounds("PaO2", 10, 800),
    "paCO2": Bounds("PaCO2", 5, 250),
}

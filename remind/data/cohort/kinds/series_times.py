"""Checks of the times of a series. Letters: R rows."""

import numpy as np
from numpy.typing import NDArray

from remind.data.cohort.tabular import Source

CLOSE = 1 + 1e-6  # rounding to float32 may move a time this much beyond the horizon
LIFETIME = 120 * 365.25 * 24  # hours; no patient is observed longer


def check_times(
    source: Source, column: str, horizon: float | None, time_R: NDArray[np.float64], given_R: NDArray[np.bool_]
) -> None:
    """Report empty, negative and late times of the rows that have a value.

    Parameters
    ----------
    horizon
        Latest permitted time in hours; None if there is none, or if later rows are left out.
    time_R
        Hours, NaN = empty.
    given_R
        Rows that have a value.
    """
    if (bad_R := given_R & np.isnan(time_R) & source.empty(column)).any():
        source.report("no time", "fill it in, or remove the row", column, bad_R)
    if (bad_R := given_R & (time_R < 0)).any():
        source.report(
            "negative time", "count time from the patient's start (admission), or remove the row", column, bad_R
        )
    if (bad_R := given_R & (time_R > LIFETIME)).any():
        remedy = "is it a date written as a number, or another unit? count hours from the start, or set time_unit"
        source.report("more than 120 years after the start", remedy, column, bad_R)
    elif horizon is not None and (bad_R := given_R & (time_R > horizon * CLOSE)).any():
        remedy = "set clip = true to leave later observations out, or a larger horizon; check time_unit"
        source.report(f"after the horizon of {horizon:g} hours", remedy, column, bad_R)

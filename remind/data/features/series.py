"""Summary of irregular series, per item. Letters: N patients, I items, O observations."""

import numpy as np

from remind.data.cohort.kinds.series import Series
from remind.data.cohort.kinds.series_schema import SeriesSchema
from remind.data.features.columns import Floats

STATISTICS = ("count", "first", "last", "min", "max", "mean", "std", "slope", "hours since last")


def names(schema: SeriesSchema) -> list[str]:
    """Return the names of the columns: all statistics of the first item, then of the next."""
    return [f"{schema.name}: {item}, {statistic}" for item in schema.items for statistic in STATISTICS]


def summary(series: Series, schema: SeriesSchema) -> Floats:
    """Compute the statistics of each item, (N, I · 9).

    `slope` is that of the least-squares line, per hour, NaN where all times are equal; `std` has n degrees of freedom;
    hours since the last observation count to the schema's horizon. `count` is 0 where there is no observation of the
    item, and NaN where the patient lacks the modality; everything else is then NaN.
    """
    patients, items = len(series.offsets_N1) - 1, len(schema.items)
    cells = patients * items
    patient_O = np.repeat(np.arange(patients), np.diff(series.offsets_N1))
    order_O = np.lexsort((series.time_O, series.item_O, patient_O))
    cell_O = (patient_O * items + series.item_O)[order_O]
    time_O, value_O = series.time_O[order_O].astype(np.float64), series.value_O[order_O].astype(np.float64)
    count_C = np.bincount(cell_O, minlength=cells).astype(np.float64)
    there_C = count_C > 0
    start_C = np.cumsum(count_C).astype(np.int64) - count_C.astype(np.int64)
    found = np.full((cells, len(STATISTICS)), np.nan)
    found[:, 0] = count_C
    if there_C.any():
        first, last = start_C[there_C], (start_C + count_C.astype(np.int64) - 1)[there_C]
        mean_C, mean_time_C = (_mean(cell_O, x_O, count_C) for x_O in (value_O, time_O))
        off_O, off_time_O = value_O - mean_C[cell_O], time_O - mean_time_C[cell_O]
        square_C, time_square_C, product_C = (
            np.bincount(cell_O, x_O, cells)[there_C] for x_O in (off_O**2, off_time_O**2, off_O * off_time_O)
        )
        slope = np.divide(product_C, time_square_C, out=np.full(len(first), np.nan), where=time_square_C > 0)
        found[there_C, 1:] = np.stack(
            [
                value_O[first],
                value_O[last],
                np.minimum.reduceat(value_O, first),
                np.maximum.reduceat(value_O, first),
                mean_C[there_C],
                np.sqrt(square_C / count_C[there_C]),
                slope,
                schema.horizon_hours - time_O[last],
            ],
            axis=1,
        )
    values_NF = found.reshape(patients, items * len(STATISTICS))
    values_NF[~series.present()] = np.nan
    return values_NF


def _mean(cell_O: np.ndarray, x_O: Floats, count_C: Floats) -> Floats:
    sum_C = np.bincount(cell_O, x_O, len(count_C))
    return np.asarray(np.divide(sum_C, count_C, out=np.full(len(count_C), np.nan), where=count_C > 0))

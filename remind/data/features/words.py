"""Notes as hashed words with tf-idf weights. Letters: N patients, P who have a note, W buckets of words."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from remind.data.cohort.cohort import Cohort
from remind.data.cohort.kinds.text import Texts
from remind.data.features.columns import Floats
from remind.data.files import Unreadable, read_note
from remind.errors import UserError

BUCKETS = 2**9


def notes(cohort: Cohort, name: str) -> tuple[NDArray[np.bool_], list[str]]:
    """Return whether each patient has a note, (N,), and the notes of those who have one.

    Raises
    ------
    UserError
        A file can no longer be read.
    """
    contents = cohort.modalities[name]
    assert isinstance(contents, Texts)
    texts = [
        _text(source, f"modality {name} of patient {patient}")
        for source, patient in zip(contents.source_N, cohort.patient_id_N, strict=True)
        if source is not None
    ]
    return contents.present(), texts


def hashed(texts: Sequence[str], idf_W: Floats | None) -> Floats:
    """Return tf-idf of hashed words, (P, W), each row of length 1: tf is 1 + ln(count)."""
    counts_PW = _hasher().transform(texts).toarray() if texts else np.zeros((0, BUCKETS))
    tf_PW = np.where(counts_PW > 0, 1 + np.log(np.maximum(counts_PW, 1)), 0.0)
    weighted_PW = tf_PW if idf_W is None else tf_PW * idf_W
    length_P1 = np.linalg.norm(weighted_PW, axis=1, keepdims=True)
    return np.asarray(weighted_PW / np.maximum(length_P1, 1e-12))


def word_weights(train: Cohort, name: str) -> Floats:
    """Return idf of each bucket, (W,), from training patients: ln((1 + P)/(1 + notes with it)) + 1."""
    _, texts = notes(train, name)
    within_W = (_hasher().transform(texts).toarray() > 0).sum(axis=0) if texts else np.zeros(BUCKETS)
    return np.asarray(np.log((1 + len(texts)) / (1 + within_W)) + 1)


@lru_cache(maxsize=1)
def _hasher() -> Any:
    try:
        from sklearn.feature_extraction.text import HashingVectorizer
    except ImportError:
        raise UserError("features of notes need scikit-learn: pip install 'federated-remind[studies]'") from None
    return HashingVectorizer(n_features=BUCKETS, alternate_sign=False, norm=None)


def _text(source: Path | str, who: str) -> str:
    try:
        return read_note(source) if isinstance(source, Path) else source
    except Unreadable as error:
        raise UserError(f"{who}: {error.what}; {error.remedy}") from None

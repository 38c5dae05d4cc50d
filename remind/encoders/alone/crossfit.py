"""Cross-fitting: no model scores a patient that it was fitted on.

Training patients are divided into K folds, and model f is fitted on all folds except f. Model f scores the training
patients of fold f. All other patients are scored by the mean of all K models. This mean is as good as one model of all
training patients, has less variance, and is on the scale of the training patients' scores.

A training patient is recognised by the digest of its row, so no caller has to mark it. A patient who is evaluated
again, or a new patient with exactly the values of a training patient, is also scored by a model that was not fitted on
that row.

Embeddings of leaves are not used. Leaves of different folds have no common meaning, and leaves of one model of all
training patients would be computed for patients that the model was fitted on.

Shapes: P patients to score, R training patients, X numbers per patient, C classes, K folds.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from remind.data.features.batches import Rows
from remind.encoders.alone.learners import LEARNERS

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]
FOLDS = 5
LEAST = 10  # minimum number of training patients of a class; with fewer, a model would fit noise
STEADY = 5.0  # strength of the penalty that holds the learners' weights at their mean, in patients
CLIP = 6.0  # limit of the log-odds; values beyond it would rest on few patients
UNSEEN = 1.0  # patients added to each class, so that a class without training patients keeps a probability


def row_digests(rows_PX: Rows) -> list[int]:
    """Return a 63-bit digest of each row."""
    rows_PX = np.ascontiguousarray(rows_PX)
    return [int.from_bytes(blake2b(row.tobytes(), digest_size=8).digest(), "big") >> 1 for row in rows_PX]


def dealt(digests: Sequence[int], label_R: Integers, seed: int) -> dict[int, int]:
    """Divide rows into folds, stratified by class; equal rows are in the same fold."""
    fold_of: dict[int, int] = {}
    number: dict[int, int] = {}
    for r in np.random.default_rng(seed).permutation(len(digests)).tolist():
        if digests[r] not in fold_of:
            label = int(label_R[r])
            fold_of[digests[r]] = number.get(label, 0) % FOLDS
            number[label] = number.get(label, 0) + 1
    return fold_of


def trusted(held_out_JRC: NDArray[np.float64], label_R: Integers) -> list[float]:
    """Return the weights a_j ≥ 0 of J learners that minimise the loss on held-out patients.

    The loss is the log-loss of softmax(Σ_j a_j s_j + ln shares) + STEADY/2·Σ_j (a_j − 1/J)². Trees get a low weight at
    a hospital with too few patients for them. These few weights for all patients do not disclose one patient's label.
    """
    from scipy.optimize import minimize  # the import takes half a second, and a prediction does not need it
    from scipy.special import logsumexp

    learners, classes = len(held_out_JRC), held_out_JRC.shape[2]
    shares_C = np.log(np.bincount(label_R, minlength=classes) / len(label_R))
    onehot_RC = np.eye(classes)[label_R]

    def loss(trust_J: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logits_RC = np.tensordot(trust_J, held_out_JRC, axes=1) + shares_C
        log_p_RC = logits_RC - logsumexp(logits_RC, axis=1, keepdims=True)
        off_J = trust_J - 1 / learners
        slope_J = np.tensordot(held_out_JRC, np.exp(log_p_RC) - onehot_RC, axes=2) + STEADY * off_J
        return -float((log_p_RC * onehot_RC).sum()) + STEADY / 2 * float(off_J @ off_J), slope_J

    start_J = np.full(learners, 1 / learners)
    found = minimize(loss, start_J, jac=True, method="L-BFGS-B", bounds=[(0.0, 1.5)] * learners)
    return [round(float(a), 6) for a in found.x]


@dataclass
class CrossFitted:
    """The models of one hospital: K models per learner.

    Attributes
    ----------
    learners
        Their names.
    trust
        Weight of each learner in a score (`trusted`).
    known
        Classes with enough patients at the hospital; the score of any other class is 0.
    models
        The model of each fold as text, by learner; empty if there were too few patients to fit one.
    prior_KC
        Centred log-shares of the known classes among the patients of model f. They are subtracted from its scores.
    fold_of
        Fold of each training row, by digest.
    base_C
        Centred log-shares of all classes among the training patients, with `UNSEEN` added to each class: the prior
        for a patient without any other information. They are equal for all patients, so they disclose none.
    """

    classes: int = 0
    learners: tuple[str, ...] = ()
    trust: list[float] = field(default_factory=list)
    known: list[int] = field(default_factory=list)
    models: dict[str, list[str]] = field(default_factory=dict)
    prior_KC: list[list[float]] = field(default_factory=list)
    fold_of: dict[int, int] = field(default_factory=dict)
    base_C: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._loaded: dict[str, list[Any]] = {}
        self._known: dict[int, Floats] = {}  # cached scores by digest: every step needs them

    @classmethod
    def fit(
        cls,
        learners: Sequence[str],
        rows_RX: Rows,
        label_R: Integers,
        classes: int,
        levels_X: Sequence[int],
        seed: int,
        fold_of: Mapping[int, int] | None = None,
    ) -> "CrossFitted":
        """Fit the models on training patients. The result is deterministic for a seed.

        Parameters
        ----------
        levels_X
            See `Learner.fit`.
        fold_of
            Fold of each row's digest; None: divided by `dealt`.
        """
        share_C = np.bincount(label_R, minlength=classes) + UNSEEN
        base_C = _centred(np.log(share_C)).clip(-CLIP, CLIP).tolist()
        if not learners:
            return cls(classes, base_C=base_C)
        digests = row_digests(rows_RX)
        fold_of = dealt(digests, label_R, seed) if fold_of is None else dict(fold_of)
        known = np.flatnonzero(np.bincount(label_R, minlength=classes) >= LEAST)
        fold_R, used_R = np.array([fold_of[d] for d in digests]), np.isin(label_R, known)
        place_R = np.searchsorted(known, label_R)
        seen = [len(np.unique(place_R[(fold_R != f) & used_R])) for f in range(FOLDS)]
        if len(known) < 2 or min(seen) < len(known):  # few different rows give folds without some class
            return cls(classes, tuple(learners), fold_of=dict(fold_of), base_C=base_C)
        models: dict[str, list[str]] = {name: [] for name in learners}
        prior_KC = []
        for f in range(FOLDS):
            rows, place = rows_RX[(fold_R != f) & used_R], place_R[(fold_R != f) & used_R]
            for name in learners:
                models[name].append(LEARNERS[name].fit(rows, place, len(known), levels_X, seed + f))
            prior_KC.append(_centred(np.log(np.bincount(place, minlength=len(known)))).tolist())
        fitted = cls(classes, tuple(learners), [], known.tolist(), models, prior_KC, dict(fold_of), base_C)
        held_out_JRC = np.zeros((len(learners), len(label_R), len(known)))
        for f in range(FOLDS):
            held_out_JRC[:, fold_R == f] = fitted._by_learner(f, rows_RX[fold_R == f])
        return replace(fitted, trust=trusted(held_out_JRC[:, used_R], place_R[used_R]))

    def scores(self, rows_PX: Rows) -> Floats:
        """Return centred log-probabilities minus the prior's, float32 (P, C)."""
        if not self.models or not len(rows_PX):
            return np.zeros((len(rows_PX), self.classes), dtype=np.float32)
        digests = row_digests(rows_PX)
        if fresh := [p for p, d in enumerate(digests) if d not in self._known]:
            scores_KPC = np.zeros((FOLDS, len(fresh), self.classes))
            scores_KPC[:, :, self.known] = [self._of_fold(f, rows_PX[fresh]) for f in range(FOLDS)]
            for i, p in enumerate(fresh):
                fold = self.fold_of.get(digests[p])
                score_C = scores_KPC[:, i].mean(axis=0) if fold is None else scores_KPC[fold, i]
                self._known[digests[p]] = np.clip(score_C, -CLIP, CLIP).astype(np.float32)
        return np.stack([self._known[d] for d in digests])

    def _of_fold(self, fold: int, rows_PX: Rows) -> NDArray[np.float64]:
        """Return scores of the known classes by the models of one fold, (P, C)."""
        scores_PC: NDArray[np.float64] = np.tensordot(self.trust, self._by_learner(fold, rows_PX), axes=1)
        return scores_PC

    def _by_learner(self, fold: int, rows_PX: Rows) -> NDArray[np.float64]:
        """Return scores of the known classes by each learner's model of one fold, (J, P, C)."""
        if not self._loaded:
            self._loaded = {name: [LEARNERS[name].load(t) for t in self.models[name]] for name in self.learners}
        parts = [_centred(LEARNERS[name].logits(self._loaded[name][fold], rows_PX)) for name in self.learners]
        scores_JPC: NDArray[np.float64] = np.stack(parts) - np.array(self.prior_KC[fold])
        return scores_JPC

    def to_bytes(self) -> bytes:
        """Return the whole object as text (JSON)."""
        whole = [
            self.classes,
            self.learners,
            self.trust,
            self.known,
            self.models,
            self.prior_KC,
            [*self.fold_of.items()],
            self.base_C,
        ]
        return json.dumps(whole).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> "CrossFitted":
        """Return the object that `to_bytes` wrote; empty bytes mean that nothing was fitted."""
        if not content:
            return cls()
        classes, learners, trust, known, models, prior_KC, folds, base_C = json.loads(content)
        return cls(classes, tuple(learners), trust, known, models, prior_KC, dict(folds), base_C)


def _centred(logits_PC: NDArray[np.float64]) -> NDArray[np.float64]:
    centred: NDArray[np.float64] = logits_PC - logits_PC.mean(axis=-1, keepdims=True)
    return centred

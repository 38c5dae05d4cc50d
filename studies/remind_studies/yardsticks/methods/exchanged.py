"""Boosted trees that hospitals exchange once. Letters: N patients, C classes, S hospitals."""

from collections.abc import Sequence

import numpy as np
from typing_extensions import override

from remind.data.features import Features
from remind_studies.yardsticks.base import (
    NUMBER,
    Constant,
    Floats,
    Hospital,
    Model,
    Yardstick,
    log_p,
    one_class,
    registry,
)
from remind_studies.yardsticks.methods.boosting import Boosting, BoostingOptions


class Mean(Model):
    """The mean of all hospitals' models, on the shares of the classes of one hospital.

    ln p = Σ_s w_s (ln p_s − ln share_s) + ln share, up to a constant: what each model says beyond the shares of its own
    hospital, weighed by patients; a hospital with one class says nothing. Of numbers the same without logarithms, with
    the means of the hospitals for the shares.
    """

    def __init__(
        self, models: Sequence[Model], shares: Sequence[Model], weight_S: Floats, own: Model, classes: int
    ) -> None:
        self._models, self._shares, self._weight_S, self._own = models, shares, weight_S, own
        self._classes = classes

    @override
    def predict(self, features: Features) -> Floats:
        def said(model: Model) -> Floats:
            predicted_NC = model.predict(features)
            return predicted_NC if self._classes == NUMBER else log_p(predicted_NC)

        says_NC = said(self._own)
        for model, share, weight in zip(self._models, self._shares, self._weight_S, strict=True):
            says_NC = says_NC + weight * (said(model) - said(share))
        if self._classes == NUMBER:
            return says_NC
        says_NC = np.exp(says_NC - says_NC.max(axis=1, keepdims=True))
        return np.asarray(says_NC / says_NC.sum(axis=1, keepdims=True))


@registry.register(
    "exchanged_trees",
    title="boosted trees of each hospital, LightGBM, sent to all once and averaged",
    paper="Guha et al., One-shot federated learning, arXiv 1902.11175",
    year=2019,
    options=BoostingOptions,
)
class ExchangedTrees(Yardstick):
    """One round, if hospitals let models of single hospitals leave, which no method of this package does."""

    federated = True
    options: BoostingOptions

    @override
    def models(self, hospitals: Sequence[Hospital], classes: int) -> Sequence[Model]:
        shares = [Constant(own.train.label_N, classes) for own in hospitals]
        able = [s for s, own in enumerate(hospitals) if not one_class(own.train.label_N)]
        trees = Boosting(self.options)
        models = [trees.fit(hospitals[s], classes) for s in able]
        weight_S = np.array([float(len(hospitals[s].train)) for s in able])
        weight_S = weight_S / max(weight_S.sum(), 1.0)
        return [Mean(models, [shares[s] for s in able], weight_S, own, classes) for own in shares]

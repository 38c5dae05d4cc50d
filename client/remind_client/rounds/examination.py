"""The examination of a model at a site: statistics of its validation and test patients."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from remind.data.cohort.cohort import TEST, VALIDATION
from remind.federation.message_statistics import Tempered
from remind.federation.messages import Examination, Examine
from remind.training.evaluate import temper
from remind.training.outputs import without_gradient
from remind.training.site_data import FreshTokens
from remind_client.engine.model_state import Buffer
from remind_client.engine.site_engine import SiteEngine
from remind_client.question import question_of
from remind_client.rounds.answers import evaluations
from remind_client.rounds.releases import PrivateReleases


@dataclass(frozen=True)
class ModelExamination:
    """Examines a model that is not trained further in this message.

    Attributes
    ----------
    releases
        What leaves under a privacy guarantee; None: the exact statistics leave.
    """

    engine: SiteEngine
    releases: PrivateReleases | None

    def answer(self, task: Examine, buffer: Buffer) -> Examination:
        """Evaluate a model on the validation patients, and on the test patients if the task says so.

        A model that is examined on test patients is the finished one and is stored for predictions; what only further
        rounds would need is removed. Patients are encoded as a prediction encodes them and not read from the cache,
        whose batches are of all patients: sums over batches of other sizes differ in the last digits, and a prediction
        for the test patients must give exactly these numbers.
        """
        started, engine = time.perf_counter(), self.engine
        engine.store.activate(task.round)
        received: Mapping[str, Tensor] = engine.state.receive(task.index, buffer)
        tokens, statistics = FreshTokens(engine.model, engine.state.data), engine.evaluation.statistics
        work = engine.work.evaluation(tokens, received, task.routing)
        with without_gradient(engine.model), engine.methods.rule.measured(work):
            source = work.source  # a rule may replace it
            test = statistics(source, TEST, task.routing) if task.on_test else {}
            validation = statistics(source, VALIDATION, task.routing)
            calibrated = (
                statistics(source, TEST, task.routing, temperature=task.temperature)
                if task.on_test and task.temperature != 1
                else {}
            )
            rows = engine.patients.index[VALIDATION]
            tempered = temper(engine.model, source, rows, task.routing) if task.temper else {}
            if task.on_test:
                engine.store.save_model(engine.part(task))
                engine.store.end()
        if self.releases is not None:
            test, validation = self.releases.scores(task, question_of(task, buffer), test, validation)
            calibrated, tempered = {}, {}
        return Examination(
            round=task.round,
            test=evaluations(test),
            validation=evaluations(validation),
            calibrated=evaluations(calibrated),
            tempered={k: Tempered.of(sums) for k, sums in tempered.items()},
            seconds=time.perf_counter() - started,
        )

"""Validate a site's reply before it is used: a malformed or hostile reply is named and left out."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from remind.config import Config
from remind.federation.message_statistics import Evaluation, LossSum
from remind.federation.messages import Examination, Report
from remind.fusion.base import Context, build_fusion
from remind.methods import methods_of
from remind.metrics.statistics import MOST_LOG_LOSS
from remind.outcomes.base import Outcome
from remind.training.evaluate import most_loss
from remind_server.rounds.member import Member
from remind_server.rounds.tasks import Assignment

SHARE_TOLERANCE = 1e-6
ROUNDING = 1e-6  # relative rounding error allowed in a sum of losses
MOST_EVALUATED = 10  # a site may evaluate at most this many patients per training patient, in each part of its split


@dataclass(frozen=True)
class Limits:
    """The limits for every reply of a run.

    Attributes
    ----------
    outcome
        What the cohort's model predicts.
    experts
        Number of experts of the model (`experts_of`); None: not checked.
    """

    config: Config
    outcome: Outcome
    experts: int | None = None

    @property
    def most_loss(self) -> float:
        """Largest mean loss of a group, in nats: the site clips every patient's loss to this value."""
        return most_loss(self.config, self.outcome) * (1 + ROUNDING)


@lru_cache(maxsize=16)
def experts_of(config: Config, modalities: tuple[str, ...], routing: bool) -> int:
    """Return E, the number of experts whose use the run's fusion model reports; 0 if it has none in this stage.

    Only a model knows this number. A model of minimum width is built and applied to one patient to find it out.
    """
    tiny = config.model.model_copy(update={"width": config.model.heads})
    context = Context(model=tiny, classes=2, modalities=modalities, tokens=(1,) * len(modalities))
    fusion = build_fusion(config.method.fusion, context, config.seed).eval()
    present_Bm = torch.arange(len(modalities))[None] == 0
    with torch.no_grad():
        output = fusion([torch.zeros(1, 1, tiny.width)] * len(modalities), present_Bm, torch.tensor([1]), routing)
    return 0 if output.use_BE is None else output.use_BE.shape[1]


def report_problems(
    assignment: Assignment, report: Report, received: Mapping[str, Tensor], limits: Limits
) -> list[str]:
    """Return what is wrong with a report; empty if it is valid.

    Parameters
    ----------
    assignment
        The site's task, and what the coordinator knows about the expected answer.
    report, received
        The site's answer, and the tensors it sent back.
    limits
        The limits for all sites.
    """
    task = assignment.task
    found = _round(report.round, task.round)
    if abs(report.share - assignment.share) > SHARE_TOLERANCE:
        found.append(
            f"claims share {report.share:.6g} of the objective; its enrolled counts give {assignment.share:.6g}"
        )
    for group, loss in (*report.train.items(), *report.local.items()):
        if group not in task.weights:
            found.append(f"reports group {group}, which it was not sent")
        elif loss.count != assignment.counts[group]:
            found.append(f"reports {loss.count} patients of group {group}; it enrolled {assignment.counts[group]}")
    found += _losses(report.train, limits) + _losses(report.local, limits)
    found += _errors([*report.train.items(), *report.local.items()], limits)
    methods = methods_of(limits.config)
    if wrong := [e for e in report.index if e.dtype != methods.reply_type(e.name, limits.config)]:
        found.append(f"sends tensors that are not {methods.reply_type(wrong[0].name, limits.config)}")
    enrolled = sum(assignment.counts.values())
    found += _evaluations(report.validation, assignment.observed, enrolled, limits)
    return found + _tensors(assignment.expected, received)


def examination_problems(task_round: int, examination: Examination, member: Member, limits: Limits) -> list[str]:
    """Return what is wrong with an examination; empty if it is valid."""
    enrolled = sum(member.counts.values())
    return (
        _round(examination.round, task_round)
        + [
            problem
            for part in (examination.test, examination.validation, examination.calibrated)
            for problem in _evaluations(part, member.observed, enrolled, limits)
        ]
        + _tempered(examination, member.observed)
    )


def _tempered(examination: Examination, observed: Collection[int]) -> list[str]:
    """List where sums for fitting a temperature, or the calibrated test, do not concern the evaluated patients."""
    found = [
        f"tempers group {group}, which it did not enrol" for group in examination.tempered if group not in observed
    ]
    pairs = [(k, sums.count, examination.validation.get(k)) for k, sums in examination.tempered.items()]
    pairs += [(k, after.count, examination.test.get(k)) for k, after in examination.calibrated.items()]
    if any(whole is None or whole.count != count for _, count, whole in pairs):
        found.append("calibrates other patients than it evaluates")
    return found


def _round(answered: int, asked: int) -> list[str]:
    return [] if answered == asked else [f"answers round {answered}, not {asked}"]


def _evaluations(
    evaluations: Mapping[int, Evaluation], observed: Collection[int], enrolled: int, limits: Limits
) -> list[str]:
    """List invented groups, patients or losses: they would change λ (`dro.risk`) and the tables of all sites."""
    outcome, experts = limits.outcome, limits.experts
    classes = len(outcome.strata) if outcome.by_class else 0
    found = [f"evaluates group {group}, which it did not enrol" for group in evaluations if group not in observed]
    if any(len(evaluation.confusion) != classes for evaluation in evaluations.values()):
        found.append(f"confusion matrices are not of {classes} classes")
    else:
        found += sorted({why for one in evaluations.values() if (why := outcome.problem(one.value()))})
    if experts is not None and any(len(evaluation.use_sum) != experts for evaluation in evaluations.values()):
        found.append(f"use of experts is not that of {experts} experts")
    if (patients := sum(evaluation.count for evaluation in evaluations.values())) > MOST_EVALUATED * enrolled:
        found.append(f"evaluates {patients} patients; it enrolled {enrolled} to train on")
    if any(e.log_loss_sum > MOST_LOG_LOSS * (1 + ROUNDING) * e.count for e in evaluations.values()):
        found.append(f"claims a mean log-loss beyond {MOST_LOG_LOSS:g}, which no patient's exceeds")
    return found + _losses(evaluations, limits)


def _losses(losses: Mapping[int, LossSum] | Mapping[int, Evaluation], limits: Limits) -> list[str]:
    most = limits.most_loss
    return [
        f"claims a mean loss of {mean:.3g} in group {group}; one patient's is at most {most:.3g} (federation.max-loss)"
        for group, loss in losses.items()
        if (mean := loss.loss_sum / loss.count) > most
    ]


def _errors(losses: Collection[tuple[int, LossSum]], limits: Limits) -> list[str]:
    """List impossible standard errors: without a sample, or larger than a patient's loss may be."""
    if not limits.config.train.measure_patients:
        sampled = any(loss.variance for _, loss in losses)
        return ["reports the error of a sample, but all patients are measured"] if sampled else []
    most = limits.most_loss
    return [
        f"claims a standard error of {error:.3g} in group {group}; one patient's loss is at most {most:.3g}"
        for group, loss in losses
        if (error := loss.value().error) > most
    ]


def _tensors(sent: Mapping[str, Tensor], received: Mapping[str, Tensor]) -> list[str]:
    if set(sent) != set(received):
        missing, extra = sorted(set(sent) - set(received)), sorted(set(received) - set(sent))
        return [f"tensors missing: {missing[:3]}, not asked for: {extra[:3]}"]
    for name, tensor in received.items():
        if tensor.shape != sent[name].shape:
            return [f"tensor {name} has shape {tuple(tensor.shape)}, not {tuple(sent[name].shape)}"]
        if not bool(torch.isfinite(tensor).all()):
            return [f"tensor {name} has values that are not finite"]
    return []


def size_problem(size: float, max_update: float) -> str:
    """Return why an update of this size is refused regardless of the other updates; empty if it is accepted."""
    if size <= max_update:
        return ""
    return f"its update is {size:.3g} times as large as the model, more than {max_update:g} (federation.max-update)"

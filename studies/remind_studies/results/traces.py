"""The training traces of the report: λ, the gate and the validation loss of each round, averaged over seeds."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from remind_studies.cells.cell import RoundTrace
from remind_studies.results.contenders import Contender
from remind_studies.results.panel_format import Trace, TraceRound


def traces(rows: Iterable[Contender]) -> tuple[Trace, ...]:
    """Return the trace of each arm that has one."""
    found = {row.name: [result.rounds for result in row.results.values()] for row in rows}
    return tuple(Trace(arm=name, rounds=_mean(own)) for name, own in found.items() if any(own))


def _mean(by_seed: Sequence[Sequence[RoundTrace]]) -> tuple[TraceRound, ...]:
    """Average over the seeds, round by round; a group counts in the seeds that have it."""
    rounds: dict[tuple[int, int], list[RoundTrace]] = {}
    for own in by_seed:
        for one in own:
            rounds.setdefault((one.round, one.stage), []).append(one)
    return tuple(_round(number, stage, own) for (number, stage), own in sorted(rounds.items()))


def _round(number: int, stage: int, own: Sequence[RoundTrace]) -> TraceRound:
    losses = [one.validation_log_loss for one in own if one.validation_log_loss is not None]
    return TraceRound.model_validate(
        {
            "round": number,
            "stage": stage,
            "weights": _by_group([one.weights for one in own]),
            "gate_open": _by_group([one.gate_open for one in own]),
            "validation_log_loss": fmean(losses) if losses else None,
        }
    )


def _by_group(by_seed: Sequence[Mapping[int, float]]) -> dict[int, float]:
    masks = sorted({mask for own in by_seed for mask in own})
    return {mask: fmean(own[mask] for own in by_seed if mask in own) for mask in masks}

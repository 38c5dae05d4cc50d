"""Merge experts of a finished simulation's model, and measure what it costs each group (`remind.fusion.merging`)."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from remind import groups
from remind.config import Config
from remind.data.cohort.cohort import TEST, TRAIN
from remind.data.sites.hospitals import SYNTHETIC
from remind.errors import UserError
from remind.federation.rules.base import Rule
from remind.files import write_whole
from remind.fusion.merging import Clusters, blocks_with_experts, clusters, merged, similarity
from remind.methods import methods_of
from remind.metrics.aggregates import tail_groups
from remind.metrics.scores import scores
from remind.metrics.statistics import GroupStatistics, merge, total
from remind.model_file import load_model, save_model
from remind.prediction.bundle import require_new_folder
from remind.prediction.site_part import FILE, SitePart, open_part
from remind.privacy.threshold import default_minimum
from remind_server.outputs.run_folder import MODEL
from remind_studies.analysis.hospitals import Hospitals, View
from remind_studies.analysis.patients import Patients
from remind_studies.analysis.probe import routes
from remind_studies.analysis.stored import SITES, StoredRun, read_run

MERGED = "merged.json"
Tensors = Mapping[str, Tensor]
Statistics = Mapping[int, GroupStatistics]


@dataclass(frozen=True)
class Found:
    """The clusters of each block, the mean use of each expert, and how alike the experts of each cluster are."""

    clusters_L: Sequence[Clusters]
    use_LE: Sequence[Tensor]
    alike_L: Sequence[Sequence[float]]


def merge_experts(folder: Path, number: int, out: Path, min_count: int | None, say: Callable[[str], None]) -> None:
    """Write the model of a run with `number` experts in each block, and print its scores before and after.

    Raises
    ------
    UserError
        The run cannot be read, its model has no experts to merge, or the folder exists.
    """
    run, out = read_run(folder), out.expanduser()
    require_new_folder(out)
    tensors, about = load_model(run.folder / MODEL)
    _check(run, tensors, number)
    minimum = default_minimum(run.config.data.cohort != SYNTHETIC) if min_count is None else min_count
    config = with_experts(run.config, number)
    routing = json.loads(about["routing"]) if "routing" in about else routes(run.config, run.config.train.rounds)
    with TemporaryDirectory(prefix="remind-merge-") as scratch:
        say(f"{folder}: which experts are used alike")
        hospitals = run.hospitals(Path(scratch, "before"), stored=True)
        with hospitals.in_use(tensors, routing) as views:
            found = alike(views, tensors, number)
            before = measured(views)
        new = merged(tensors, found.clusters_L, found.use_LE)
        say(f"{folder}: the model with {number} experts")
        after_hospitals = Hospitals(config, run.number, Path(scratch, "after"), run.sites)
        with after_hospitals.in_use(new, routing) as views:
            after = measured(views)
    rows = cost(before, after, scored_sets(hospitals, before, minimum))
    _write(run, out, config, new, about, found)
    content = {
        "experts": number,
        "blocks": [describe(found, level) for level in range(len(found.use_LE))],
        "cost": rows,
    }
    write_whole(out / MERGED, lambda path: path.write_text(json.dumps(content, indent=1), encoding="utf-8"))
    print(as_text(rows))
    print(
        f"wrote {out}, which predicts like the folder of a run; it has no calibration, which was that of the old model"
    )


def with_experts(config: Config, number: int) -> Config:
    """Return the config of the merged model."""
    return config.model_copy(update={"model": config.model.model_copy(update={"experts": number, "merged": True})})


def alike(views: Sequence[View], tensors: Tensors, number: int) -> Found:
    """Find the experts that the training patients of all hospitals use alike."""
    levels = blocks_with_experts(tensors)
    use: list[list[Tensor]] = [[] for _ in range(levels)]
    for view in views:
        blocks = [view.engine.model.fusion.get_submodule(f"blocks.{level}") for level in range(levels)]
        hooks = [
            block.register_forward_hook(lambda _module, _given, output, own=use[level]: own.append(output[2].cpu()))
            for level, block in enumerate(blocks)
        ]
        try:
            for _ in view.outputs(view.engine.patients.index[TRAIN]):
                pass
        finally:
            for hook in hooks:
                hook.remove()
    use_LBE = [torch.cat(own) for own in use]
    near_LEE = [similarity(own, tensors[f"fusion.blocks.{level}.router.phi_DES"]) for level, own in enumerate(use_LBE)]
    found = [clusters(near_EE, number) for near_EE in near_LEE]
    alike_L = [[_within(near_EE, cluster) for cluster in own] for near_EE, own in zip(near_LEE, found, strict=True)]
    return Found(found, [own.double().mean(dim=0) for own in use_LBE], alike_L)


def measured(views: Sequence[View]) -> Statistics:
    """Return the statistics of the test patients of all hospitals, by group."""
    return merge(view.engine.evaluation.statistics(view.source, TEST, view.routing) for view in views)


def scored_sets(hospitals: Hospitals, before: Statistics, minimum: int) -> dict[str, frozenset[int]]:
    """Return the sets of groups whose scores may be shown: all, the tail, and each group."""
    tail, names = tail_groups(hospitals.counts(), before), hospitals.schema.names
    sets = {"all patients": frozenset(before), "tail patients": frozenset(before) & frozenset(tail)}
    sets |= {groups.name(k, names): frozenset({k}) for k in sorted(before)}
    shown = Patients.of(hospitals).scored(sets, minimum)
    return {name: own for name, own in sets.items() if name in shown}


def cost(
    before: Statistics, after: Statistics, sets: Mapping[str, Collection[int]]
) -> list[dict[str, str | float | None]]:
    """Return AUROC and log-loss of each set of groups before and after."""
    rows: list[dict[str, str | float | None]] = []
    for name, chosen in sets.items():
        pair = [total({k: found[k] for k in chosen if k in found}) for found in (before, after)]
        if pair[0] is None or pair[1] is None:
            continue
        old, new = scores(pair[0]), scores(pair[1])
        rows.append(
            {
                "patients": name,
                "auroc_before": old.auroc,
                "auroc_after": new.auroc,
                "log_loss_before": old.log_loss,
                "log_loss_after": new.log_loss,
            }
        )
    return rows


def as_text(rows: Sequence[Mapping[str, str | float | None]]) -> str:
    """Return a Markdown table."""

    def number(value: str | float | None) -> str:
        return f"{value:.3f}" if isinstance(value, float) else "–"

    lines = ["| test patients | AUROC before | after | log-loss before | after |", "|---|---|---|---|---|"]
    keys = ("auroc_before", "auroc_after", "log_loss_before", "log_loss_after")
    lines += [f"| {row['patients']} | {' | '.join(number(row[key]) for key in keys)} |" for row in rows]
    return "\n".join(lines)


def describe(found: Found, level: int) -> list[dict[str, object]]:
    """Return which experts of a block became one, their share of the use, and how alike they are."""
    pairs = zip(found.clusters_L[level], found.alike_L[level], strict=True)
    return [
        {"experts": list(own), "use": round(float(found.use_LE[level][list(own)].sum()), 6), "alike": round(near, 6)}
        for own, near in pairs
    ]


def _within(near_EE: Tensor, cluster: Sequence[int]) -> float:
    """Return the smallest similarity of two experts of a cluster; 1 for one expert alone."""
    return float(near_EE[list(cluster)][:, list(cluster)].min()) if len(cluster) > 1 else 1.0


def _check(run: StoredRun, tensors: Tensors, number: int) -> None:
    rule, has = methods_of(run.config).rule, run.config.model.experts
    if type(rule).measured is not Rule.measured or not rule.travels("fusion.blocks.0.moe.experts.w1_EDH"):
        raise UserError(
            f"{run.folder}: with rule {run.config.method.rule} each hospital has experts of its own; only those of one "
            "model for all can be merged"
        )
    if not blocks_with_experts(tensors):
        raise UserError(
            f"{run.folder}: {run.config.method.fusion} has no experts in all of whose slots every token has a share; "
            "experts of remind and softmoe can be merged"
        )
    if has < 2:
        raise UserError(f"{run.folder}: the model has one expert, so there is nothing to merge")
    if not 0 < number < has:
        raise UserError(f"--merge-experts {number}: the model has {has} experts; give a number from 1 to {has - 1}")


def _write(run: StoredRun, out: Path, config: Config, new: Tensors, about: Mapping[str, str], found: Found) -> None:
    """Write the model and the hospitals' parts of it."""
    out.mkdir()
    metadata = {**about, "config": config.model_dump_json()}
    write_whole(out / MODEL, lambda path: save_model(path, new, metadata))
    for path in sorted(run.sites.glob(f"*/{FILE}")):
        part = SitePart.of(open_part(path), str(path))
        own = merged(part.tensors, found.clusters_L, found.use_LE)
        content = SitePart(**{**vars(part), "config": config, "tensors": own}).content()
        target = out / SITES / path.parent.name / FILE
        target.parent.mkdir(parents=True)
        write_whole(target, partial(torch.save, content))

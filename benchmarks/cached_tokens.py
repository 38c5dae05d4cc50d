"""Time of a round of stage 2 with cached tokens, and with encoders computed again, measured in one run.

    python benchmarks/cached_tokens.py             # four ViT-B/16, D 768, 128 experts: EMBED's model, 12 GiB of memory
    python benchmarks/cached_tokens.py --small     # ViT-tiny, D 192, 32 experts

In a round, a site evaluates the received model on its training and validation patients, then takes the local steps.
Weights are random, since the time does not depend on them. Prints the seconds of both, their ratio, and the time of
filling the cache once.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from remind.config import Config
from remind.data.batches.batch import SiteData
from remind.data.cohort.cohort import TRAIN, VALIDATION, Cohort, presence
from remind.data.cohort.kinds.pictures import Files, ImageSchema
from remind.data.cohort.schema import CohortSchema
from remind.methods import methods_of
from remind.training.evaluate import evaluate
from remind.training.local import build_optimizer
from remind.training.sampling import steps
from remind.training.site_data import CachedTokens, FreshTokens, TokenSource
from remind.training.site_model import SiteModel
from remind.training.token_cache import TokenCache
from remind.training.work import LocalWork, RoundSettings
from remind_client.store.site_store import digest

NAMES = ("cview_cc", "cview_mlo", "ffdm_cc", "ffdm_mlo")
PRESETS = {
    False: {"model.width": 768, "model.experts": 128, "model.heads": 8, "model.encoders.image": "vit_base_patch16_224"},
    True: {"model.width": 192, "model.experts": 32, "model.heads": 3, "model.encoders.image": "vit_tiny_patch16_224"},
}


def make_cohort(patients: int) -> Cohort:
    """Patients with all four pictures, three quarters of them to train on."""
    rng = np.random.default_rng(0)
    schema = CohortSchema(
        name="pictures",
        classes=("a", "b", "c", "d"),
        modalities=tuple(ImageSchema(name=name, size=(224, 224), channels=1) for name in NAMES),
    )
    modalities = {}
    for name in NAMES:
        source_N = np.empty(patients, dtype=object)
        source_N[:] = list(rng.integers(256, size=(patients, 224, 224), dtype=np.uint8))
        modalities[name] = Files(source_N)
    ids = np.array([f"p{i}" for i in range(patients)])
    split_N = np.where(np.arange(patients) % 4 == 3, VALIDATION, TRAIN).astype(np.int8)
    label_N = rng.integers(4, size=patients)
    return Cohort(schema, ids, ids, label_N, None, split_N, presence(schema, modalities), modalities)


def one_round(model: SiteModel, source: TokenSource, cohort: Cohort, config: Config) -> float:
    """Seconds of a site's round of stage 2."""
    objective, started = methods_of(config).objective, time.perf_counter()
    train, validation = (np.flatnonzero(cohort.split_N == part) for part in (TRAIN, VALIDATION))
    for rows in (train, validation):
        evaluate(model, source, rows, objective, routing=True)
    optimizer = build_optimizer(config.train, model, train_encoders=False)
    counts = {15: len(train)}
    plan = list(steps(config.train, train, cohort.groups_N[train], {15: 1.0}, counts, np.random.default_rng(0)))
    LocalWork(model, objective, source, RoundSettings(lr=1e-4, routing=True), plan, optimizer).steps()
    return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a model that fits anywhere")
    parser.add_argument("--patients", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1, help="rounds of each kind, in turn; medians are printed")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    settings = {"model.encoders.image-weights": "random", "train.batch": options.batch}
    config = Config.from_flat(PRESETS[options.small] | settings | {"train.local-steps": options.steps})
    cohort = make_cohort(options.patients)
    model = SiteModel(cohort.schema, config, NAMES)
    model.fusion.add_groups([15], 0)
    sizes = [sum(p.numel() for p in part.parameters()) / 1e6 for part in (model.encoders, model.fusion)]
    shown = f"encoders {sizes[0]:.1f} M parameters, fusion {sizes[1]:.1f} M"
    print(f"{options.patients} patients, {shown}; torch {torch.__version__}, {options.threads} threads")
    data = SiteData(cohort)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        started = time.perf_counter()
        digests = {name: digest(encoder) for name, encoder in model.encoders.items()}
        cached = CachedTokens(model, data, TokenCache(Path(folder)), digests)
        print(f"filling the cache, once: {time.perf_counter() - started:.1f} s")
        fresh = FreshTokens(model, data)
        with torch.enable_grad():
            seconds = [
                (one_round(model, fresh, cohort, config), one_round(model, cached, cohort, config))
                for _ in range(options.rounds)
            ]
    uncached_s, cached_s = np.median(seconds, axis=0)
    print(f"a round with encoders run again: {uncached_s:.1f} s; with cached tokens: {cached_s:.2f} s")
    print(f"ratio: {uncached_s / cached_s:.1f}")


if __name__ == "__main__":
    main()

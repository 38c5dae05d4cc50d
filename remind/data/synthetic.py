"""Synthetic cohorts that need what REMIND offers: the label lies in cross-modal products whose signs differ per group.

Every modality i has K = 3 standard normal latents u_i. In group g, with the signs σ_g drawn from the seed,

    linear      = Σ_{i∈g} w_i u_{i,2} / √|g|                          (w = ±1, shared by all groups)
    interaction = Σ_{i<j∈g} σ_{g,ij} u_{i,0} u_{j,1} / √pairs         (one modality: σ_{g,ii} u_{i,0} u_{i,1})
    signal      = √(1 − ρ)·linear + √ρ·interaction                    (ρ = config.interaction; variance 1)
    label       = 1[signal + noise·ε > 0]                             (so Pr(1 | latents) = Φ_normal(signal / noise))

Features are linear in the latents: columns of a table, level and trend of a series' items. Of the groups that share a
pair of modalities, in order of their share, every other one has the opposite sign: a rule that serves the head misleads
in the tail. Letters: N patients, m modalities, K latents, F columns, I items.
"""

from dataclasses import dataclass
from math import erf, sqrt

import numpy as np
from numpy.typing import NDArray

from remind import groups
from remind.config import SyntheticConfig
from remind.data.cohort import Cohort, Series, Table, presence
from remind.data.laws import LAWS, Law, draw_independent, draw_law, modality_names, parse_missing
from remind.data.schema import CohortSchema, ModalitySchema, SeriesSchema, TableSchema
from remind.data.write import write_cohort

__all__ = ["LAWS", "Law", "Truth", "generate", "truth", "write_cohort"]

LATENTS = 3
COLUMNS, LEVELS = 8, ("low", "middle", "high")
ITEMS, HORIZON_HOURS = ("heart_rate", "pressure", "temperature"), 48.0
FEWEST, MOST = 12, 30  # observations of a patient's series
FEATURE_NOISE = 0.1  # standard deviation, in units of the clean feature's
CELL_MISSING = 0.05  # of a table's numeric cells


@dataclass(frozen=True)
class Truth:
    """What made the labels.

    Attributes
    ----------
    latents_NmK
        Of all modalities, present or not.
    presence_Nm, groups_N
        Which modalities each patient has.
    linear_N
        The part of the signal that all groups share, variance 1.
    signs
        Per group, σ_{g,ij} for i ≤ j, (m, m); 0 where the group lacks a modality of the pair.
    interaction, noise
        As configured.
    """

    latents_NmK: NDArray[np.float64]
    presence_Nm: NDArray[np.bool_]
    groups_N: NDArray[np.int64]
    linear_N: NDArray[np.float64]
    signs: dict[int, NDArray[np.float64]]
    interaction: float
    noise: float

    def signal_under(self, group: int) -> NDArray[np.float64]:
        """Signal of each patient, (N,), if the signs were those of `group`; pairs that it lacks add nothing."""
        u_Nm, v_Nm = (np.where(self.presence_Nm, self.latents_NmK[:, :, k], 0.0) for k in (0, 1))
        single_N = self.presence_Nm.sum(axis=1) == 1
        sign_mm = self.signs[group]
        cross_N = np.einsum("ni,ij,nj->n", u_Nm, np.triu(sign_mm, k=1), v_Nm)
        own_N = np.einsum("ni,i,ni->n", u_Nm, np.diag(sign_mm), v_Nm)
        n_N = self.presence_Nm.sum(axis=1)
        pairs_N = np.maximum(n_N * (n_N - 1) // 2, 1)
        interaction_N = np.where(single_N, own_N, cross_N / np.sqrt(pairs_N))
        return np.asarray(sqrt(1 - self.interaction) * self.linear_N + sqrt(self.interaction) * interaction_N)

    @property
    def signal_N(self) -> NDArray[np.float64]:
        """Signal of each patient under the signs of their own group."""
        signal_N = np.empty(len(self.groups_N))
        for group in self.signs:
            own_N = self.groups_N == group
            signal_N[own_N] = self.signal_under(group)[own_N]
        return signal_N

    @property
    def logit_N(self) -> NDArray[np.float64]:
        """Bayes logit of class 1 given the latents of the present modalities; ±∞ (no noise) is cut off."""
        z_N = self.signal_N / max(self.noise, 1e-9)
        probability_N = np.array([0.5 * (1 + erf(z / sqrt(2))) for z in z_N.tolist()])
        clipped_N = np.clip(probability_N, 1e-12, 1 - 1e-12)
        logit_N: NDArray[np.float64] = np.log(clipped_N) - np.log1p(-clipped_N)
        return logit_N


def generate(config: SyntheticConfig, seed: int) -> Cohort:
    """A cohort by `config`: M2 is a series, the other modalities are tables; no sites, no split.

    Raises
    ------
    UserError
        ``config.missing`` is no list of probabilities.
    """
    known = truth(config, seed)
    rng = np.random.default_rng([seed, 1])
    n = len(known.groups_N)
    label_N = (known.signal_N + config.noise * rng.standard_normal(n) > 0).astype(np.int64)
    schemas: list[ModalitySchema] = []
    modalities: dict[str, Table | Series] = {}
    for i, name in enumerate(modality_names(known.presence_Nm.shape[1])):
        make = _series if i == 1 else _table
        modality, data = make(name, known.latents_NmK[:, i], np.random.default_rng([seed, 2, i]))
        schemas.append(modality)
        modalities[name] = data.hide(~known.presence_Nm[:, i])
    schema = CohortSchema(name=f"synthetic-{config.law}", classes=("no", "yes"), modalities=tuple(schemas))
    patient_id_N = np.array([f"p{i:06d}" for i in range(n)], dtype=np.str_)
    present_Nm = presence(schema, modalities)
    return Cohort(schema, patient_id_N, patient_id_N, label_N, None, None, present_Nm, modalities)


def truth(config: SyntheticConfig, seed: int) -> Truth:
    """What makes the labels of ``generate(config, seed)``."""
    rng = np.random.default_rng([seed, 0])
    if config.law == "independent":
        missing_m = parse_missing(config.missing)
        presence_Nm = draw_independent(missing_m, config.patients, rng)
        share = {g: groups.probability(g, missing_m) for g in np.unique(groups.masks(presence_Nm)).tolist()}
    else:
        law = LAWS[config.law]
        presence_Nm, share = draw_law(law, config.patients, rng), dict(law.shares)
    n_modalities = presence_Nm.shape[1]
    weight_m = np.random.default_rng([seed, 3]).choice([-1.0, 1.0], size=n_modalities)
    latents_NmK = rng.standard_normal((config.patients, n_modalities, LATENTS))
    linear_N = (presence_Nm * latents_NmK[:, :, 2]) @ weight_m / np.sqrt(presence_Nm.sum(axis=1))
    ranked = sorted(share, key=lambda g: (-share[g], g))
    return Truth(
        latents_NmK=latents_NmK,
        presence_Nm=presence_Nm,
        groups_N=groups.masks(presence_Nm),
        linear_N=linear_N,
        signs=_signs(ranked, n_modalities, np.random.default_rng([seed, 4])),
        interaction=config.interaction,
        noise=config.noise,
    )


def _signs(ranked: list[int], n_modalities: int, rng: np.random.Generator) -> dict[int, NDArray[np.float64]]:
    """Signs of each group, (m, m): the first to hold a pair takes a drawn sign, each later one its opposite in turn."""
    next_mm = rng.choice([-1.0, 1.0], size=(n_modalities, n_modalities))
    signs = {}
    for group in ranked:
        inside_m = np.isin(np.arange(n_modalities), groups.members(group))
        pair_mm = np.outer(inside_m, inside_m)
        if inside_m.sum() > 1:
            np.fill_diagonal(pair_mm, False)
        signs[group] = np.where(pair_mm, next_mm, 0.0)
        next_mm = np.where(pair_mm, -next_mm, next_mm)
    return signs


def _table(name: str, latents_NK: NDArray[np.float64], rng: np.random.Generator) -> tuple[TableSchema, Table]:
    """Numeric columns linear in the latents, some cells missing, and one category cut from the first latent."""
    n = len(latents_NK)
    mix_KF = rng.standard_normal((LATENTS, COLUMNS))
    mix_KF /= np.linalg.norm(mix_KF, axis=0)
    clean_NF = latents_NK @ mix_KF + FEATURE_NOISE * rng.standard_normal((n, COLUMNS))
    numeric_NF = rng.uniform(-50, 50, COLUMNS) + rng.uniform(1, 20, COLUMNS) * clean_NF
    lost_NF = rng.random((n, COLUMNS)) < CELL_MISSING
    lost_NF[:, 0] = False  # a patient who has the modality has a value of it
    level_N = np.digitize(latents_NK[:, 0] + FEATURE_NOISE * rng.standard_normal(n), [-0.43, 0.43])
    values_NF = np.column_stack([np.where(lost_NF, np.nan, numeric_NF), level_N]).astype(np.float32)
    columns = (*(f"x{i + 1}" for i in range(COLUMNS)), "grade")
    return TableSchema(name=name, columns=columns, categories={"grade": LEVELS}), Table(values_NF)


def _series(name: str, latents_NK: NDArray[np.float64], rng: np.random.Generator) -> tuple[SeriesSchema, Series]:
    """Irregular observations: an item's level follows the first and third latent, its trend over time the second."""
    n = len(latents_NK)
    count_N = rng.integers(FEWEST, MOST + 1, n)
    patient_O = np.repeat(np.arange(n), count_N)
    time_O = rng.uniform(0, HORIZON_HOURS, len(patient_O)).astype(np.float32)
    item_O = rng.integers(0, len(ITEMS), len(patient_O))
    angle_I = rng.uniform(0, np.pi) + np.pi / len(ITEMS) * np.arange(len(ITEMS))  # no two items show the same mix
    trend_I = rng.choice([-1.0, 1.0], len(ITEMS)) * rng.uniform(0.7, 1.3, len(ITEMS))
    phase_O = sqrt(3) * (2 * time_O / HORIZON_HOURS - 1)  # mean 0 and variance 1 over the horizon
    u_OK = latents_NK[patient_O]
    clean_O = np.cos(angle_I)[item_O] * u_OK[:, 0] + np.sin(angle_I)[item_O] * u_OK[:, 2]
    clean_O += trend_I[item_O] * u_OK[:, 1] * phase_O + FEATURE_NOISE * rng.standard_normal(len(patient_O))
    value_O = (np.array([80.0, 120.0, 37.0])[item_O] + np.array([12.0, 15.0, 0.7])[item_O] * clean_O).astype(np.float32)
    order_O = np.lexsort((item_O, time_O, patient_O))
    offsets_N1 = np.concatenate([[0], np.cumsum(count_N)]).astype(np.int64)
    series = Series(offsets_N1, time_O[order_O], item_O[order_O].astype(np.int64), value_O[order_O])
    return SeriesSchema(name=name, items=ITEMS, horizon_hours=HORIZON_HOURS), series

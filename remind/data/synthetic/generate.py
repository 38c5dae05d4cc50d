"""Synthetic cohorts for which REMIND is needed: the label depends on cross-modal products whose signs differ per group.

Every modality i has K = 3 standard normal latents u_i. In group g, with the signs σ_g drawn from the seed,

    linear      = Σ_{i∈g} w_i u_{i,2} / √|g|                          (w = ±1, shared by all groups)
    interaction = Σ_{i<j∈g} σ_{g,ij} u_{i,0} u_{j,1} / √pairs         (one modality: σ_{g,ii} u_{i,0} u_{i,1})
    signal      = √(1 − ρ)·linear + √ρ·interaction                    (ρ = config.interaction; variance 1)
    score       = signal + noise·ε
    label       = 1[score > 0]                                        (so Pr(1 | latents) = Φ_normal(signal / noise))

Another outcome than classes makes its label of the same score (`Outcome.made`); masks come with volumes of their own
(`remind.data.synthetic.tumours`), whose patients have the same modalities.
Features are linear in the latents for every kind of modality (`remind.data.synthetic.features`): columns of a table,
level and trend of a series' items, brightness of patterns, counts of words, log-odds of codes. Among the groups that
share a pair of modalities, sorted by their share, the sign alternates: a model that fits the head of the distribution
is wrong in its tail. Letters: N patients, m modalities, K latents.
"""

from dataclasses import dataclass
from math import erf, sqrt

import numpy as np
from numpy.typing import NDArray

from remind import groups
from remind.config import SyntheticConfig
from remind.data.cohort.cohort import Cohort, presence
from remind.data.cohort.contents import Contents
from remind.data.cohort.schema import CohortSchema, ModalitySchema, label_fields
from remind.data.synthetic.features.base import LATENTS, Asked, makers
from remind.data.synthetic.features.kinds import parse_kinds
from remind.data.synthetic.laws import LAWS, Law, draw_independent, draw_law, modality_names, parse_missing
from remind.data.synthetic.tumours import generate_tumours
from remind.data.synthetic.write import write_cohort
from remind.errors import UserError
from remind.outcomes.base import Encoded, Outcome, outcomes
from remind.suggest import did_you_mean

__all__ = ["LAWS", "Law", "Truth", "generate", "truth", "write_cohort"]


@dataclass(frozen=True)
class Truth:
    """The variables that determine the labels.

    Attributes
    ----------
    latents_NmK
        Latents of all modalities, present or not.
    presence_Nm, groups_N
        Modalities and group of each patient.
    linear_N
        The part of the signal that all groups share, variance 1.
    signs
        Per group, σ_{g,ij} for i ≤ j, (m, m); 0 if the group lacks a modality of the pair.
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
        """Return the signal of each patient, (N,), under the signs of `group`.

        Pairs that the group lacks add nothing.
        """
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
        """Return the signal of each patient under the signs of their own group."""
        signal_N = np.empty(len(self.groups_N))
        for group in self.signs:
            own_N = self.groups_N == group
            signal_N[own_N] = self.signal_under(group)[own_N]
        return signal_N

    @property
    def logit_N(self) -> NDArray[np.float64]:
        """Return the Bayes logit of class 1 given the latents of the present modalities; ±∞ (no noise) is clipped."""
        z_N = self.signal_N / max(self.noise, 1e-9)
        probability_N = np.array([0.5 * (1 + erf(z / sqrt(2))) for z in z_N.tolist()])
        clipped_N = np.clip(probability_N, 1e-12, 1 - 1e-12)
        logit_N: NDArray[np.float64] = np.log(clipped_N) - np.log1p(-clipped_N)
        return logit_N


def generate(config: SyntheticConfig, seed: int) -> Cohort:
    """Generate a cohort by `config`, without sites and split. Everything is in memory; pictures are uint8 arrays.

    Raises
    ------
    UserError
        ``config.missing`` is not a list of probabilities, or ``config.kinds`` does not give a kind per modality.
    """
    known = truth(config, seed)
    names = names_of(config, known.presence_Nm.shape[1])
    if config.outcome == "segmentation":
        return generate_tumours(config, names, known.presence_Nm, seed)
    rng = np.random.default_rng([seed, 1])
    n = len(known.groups_N)
    outcome, labels = made(config.outcome, known.signal_N + config.noise * rng.standard_normal(n), [seed, 5])
    schemas: list[ModalitySchema] = []
    modalities: dict[str, Contents] = {}
    for i, (name, kind) in enumerate(zip(names, parse_kinds(config.kinds, names), strict=True)):
        latents_NK, present_N = known.latents_NmK[:, i], known.presence_Nm[:, i]
        features = np.random.default_rng([seed, 2, i])
        modality, data = makers()[kind](
            Asked(kind, name, latents_NK, present_N, config.size, features, config.standardise == "given")
        )
        schemas.append(modality)
        modalities[name] = data.hide(~present_N)
    schema = CohortSchema(name=f"synthetic-{config.law}", modalities=tuple(schemas), **label_fields(outcome))
    patient_id_N = np.array([f"p{i:06d}" for i in range(n)], dtype=np.str_)
    present_Nm = presence(schema, modalities)
    target_NT = labels.target_RT
    return Cohort(
        schema, patient_id_N, patient_id_N, labels.label_R, None, None, present_Nm, modalities, target_NT=target_NT
    )


def names_of(config: SyntheticConfig, modalities: int) -> tuple[str, ...]:
    """Return the names of the modalities: those of the law, or M1, M2 and so on."""
    return modality_names(modalities) if config.law == "independent" else LAWS[config.law].modalities


def made(name: str, score_N: NDArray[np.float64], seed: list[int]) -> tuple[Outcome, Encoded]:
    """Return an outcome and labels that follow from these scores of patients.

    Raises
    ------
    UserError
        There is no such outcome.
    """
    if (outcome := outcomes().get(name)) is None:
        remedy = did_you_mean(name, outcomes())
        raise UserError(f"synthetic.outcome: {name!r} is no outcome; use one of {', '.join(outcomes())}{remedy}")
    return outcome.made(score_N, np.random.default_rng(seed))


def truth(config: SyntheticConfig, seed: int) -> Truth:
    """Return the variables that determine the labels of ``generate(config, seed)``."""
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
    """Return the signs of each group, (m, m): the first group with a pair gets a random sign.

    The sign then alternates.
    """
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

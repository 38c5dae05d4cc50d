"""Notes: with a larger latent, a note names more findings of one list and fewer of another.

Letters: N patients, K latents.
"""

import numpy as np

from remind.data.cohort.kinds.text import Texts, TextSchema
from remind.data.synthetic.features.base import FEATURE_NOISE, Asked, makes

FINDINGS = (  # per latent: findings named if it is large, and if it is small
    (("dyspnoea", "wheeze", "cough", "sputum"), ("fatigue", "pallor", "thirst", "chills")),
    (("oedema", "murmur", "palpitations", "syncope"), ("nausea", "vomiting", "cramps", "bloating")),
    (("headache", "tremor", "numbness", "dizziness"), ("rash", "itching", "bruising", "blisters")),
)
MENTIONS = 12  # per latent, from both lists together
SLOPE = 2.5  # mentions that one unit of the latent moves from one list to the other
PER_SENTENCE = 3
OPENINGS = (
    "The patient reports",
    "The family describes",
    "Examination shows",
    "The night shift noted",
    "The chart lists",
)
CLOSINGS = ("Plan discussed with the team.", "Review tomorrow.", "No change of treatment.", "Relatives informed.")


@makes("text")
def make_notes(asked: Asked) -> tuple[TextSchema, Texts]:
    """Write a note of about sixty words for each patient."""
    name, latents_NK, rng = asked.name, asked.latents_NK, asked.rng
    seen_NK = latents_NK + FEATURE_NOISE * rng.standard_normal(latents_NK.shape)
    large_NK = np.clip(np.rint(MENTIONS / 2 + SLOPE * seen_NK), 0, MENTIONS).astype(int)
    notes_N = np.empty(len(latents_NK), dtype=object)
    for i, large_K in enumerate(large_NK):
        words = [
            str(word)
            for count, (more, fewer) in zip(large_K.tolist(), FINDINGS, strict=True)
            for word in [*rng.choice(more, count), *rng.choice(fewer, MENTIONS - count)]
        ]
        words = [words[place] for place in rng.permutation(len(words))]
        lines = [_sentence(words[at : at + PER_SENTENCE], rng) for at in range(0, len(words), PER_SENTENCE)]
        notes_N[i] = " ".join([*lines, CLOSINGS[rng.integers(len(CLOSINGS))]])
    return TextSchema(name=name), Texts(notes_N)


def _sentence(findings: list[str], rng: np.random.Generator) -> str:
    *first, last = findings
    return f"{OPENINGS[rng.integers(len(OPENINGS))]} {', '.join(first)} and {last}."

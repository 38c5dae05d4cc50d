"""Checks of enrolments: can a site take part, is its number of patients plausible, which schema do most have."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from remind.config import Config
from remind.data.cohort.schema import CohortSchema
from remind.federation.messages import Enrolment
from remind.quoting import SHORT, printable
from remind.version import VERSION

FEWEST_COMPARED = 3  # minimum number of sites for a comparison of their sizes


def enrolment_problem(enrolment: Enrolment, schema: CohortSchema) -> str:
    """Return why a site cannot take part, regardless of the others; empty if it can.

    The schema of a refused site does not count when the common schema is determined.
    """
    if enrolment.version != VERSION:
        return f"version {enrolment.version}; the coordinator has {VERSION}; install the same"
    if not enrolment.counts:
        return "no training patients"
    if any(name != printable(name) or len(name) > SHORT for name in (*schema.names, *schema.strata)):
        return f"a name of a class or a modality in its schema is longer than {SHORT} characters or does not print"
    if enrolment.fingerprint != schema.fingerprint:
        return "its fingerprint is not that of its schema"
    if max([*enrolment.counts, *enrolment.observed]) >> len(schema.modalities):
        return "it claims groups of modalities that its schema does not have"
    wrong = [
        k for k, n in enrolment.labels.items() if len(n) != len(schema.strata) or sum(n) != enrolment.counts.get(k)
    ]
    if wrong:
        return "its patients by class do not add up to its patients"
    if not enrolment.held_out.keys() <= enrolment.counts.keys():
        return "it holds out patients of groups that it does not train on"
    return ""


def implausible_claims(claims: Mapping[int, int], others: Sequence[int], config: Config) -> dict[int, str]:
    """Return node → why its number of training patients is implausible. The weight of a site grows with this number.

    Parameters
    ----------
    claims
        Node → training patients, of the sites that enrol.
    others
        Training patients of the sites that are members.
    """
    federation = config.federation
    found = {
        node_id: f"it claims {claimed} training patients; at most {federation.max_patients} are believed "
        "(federation.max-patients)"
        for node_id, claimed in claims.items()
        if claimed > federation.max_patients
    }
    believed = [*others, *(claimed for node_id, claimed in claims.items() if node_id not in found)]
    if len(believed) < FEWEST_COMPARED:
        return found
    usual = median(believed)
    return found | {
        node_id: f"it claims {claimed} training patients, {claimed / usual:.0f} times the median of "
        f"{len(believed)} sites (federation.max-patients-ratio allows {federation.max_patients_ratio:g})"
        for node_id, claimed in claims.items()
        if node_id not in found and claimed > federation.max_patients_ratio * usual
    }


def commonest_schema(schemas: Iterable[CohortSchema]) -> CohortSchema:
    """Return the schema that most sites have; among equals the first by fingerprint, so that order does not matter."""
    by_print = {}
    number: Counter[str] = Counter()
    for schema in schemas:
        by_print[schema.fingerprint] = schema
        number[schema.fingerprint] += 1
    return by_print[min(number, key=lambda fingerprint: (-number[fingerprint], fingerprint))]

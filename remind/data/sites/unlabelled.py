"""To which hospital a patient without a label belongs."""

import numpy as np

from remind.data.cohort.cohort import Cohort, Text
from remind.data.sites.split import shuffled


def without_label(cohort: Cohort, site_N: Text) -> dict[str, Cohort]:
    """Return the patients without a label by hospital.

    A person with a labelled visit belongs to that visit's hospital, any other to the one of the site column; without
    such a column they are dealt to the hospitals in a random order that does not depend on who else there is.
    """
    others = cohort.unlabelled
    if others is None:
        return {}
    sites = sorted(set(site_N.tolist()))
    home = dict(zip(cohort.person_N.tolist(), site_N.tolist(), strict=True))
    strangers = np.array(sorted(set(others.person_N.tolist()) - home.keys()), dtype=np.str_)
    dealt = {str(strangers[p]): sites[i % len(sites)] for i, p in enumerate(shuffled(strangers, 0))}
    column = [""] * len(others) if others.site_N is None else others.site_N.tolist()
    hospital = [
        home.get(person) or (site if site in sites else dealt[person])
        for person, site in zip(others.person_N.tolist(), column, strict=True)
    ]
    return {site: others.take(np.array(hospital) == site) for site in sites if site in hospital}

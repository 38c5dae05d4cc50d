"""Somebody who writes down every number that is shown, and works out by linear programming what was to be hidden."""

import numpy as np
from scipy.optimize import linprog


class Attacker:
    """Knows that counts are not negative, and sums of patients: which of the disjoint sets each is the sum of.

    Parameters
    ----------
    truth
        Patients of each disjoint set, by any name: what the attacker is after.
    """

    def __init__(self, truth):
        self.place = {name: i for i, name in enumerate(truth)}
        self.count_A = np.array(list(truth.values()), dtype=float)
        self.heard = {}

    @property
    def rows(self):
        """Different sums that were heard, (R, A)."""
        return np.frombuffer(b"".join(self.heard)).reshape(len(self.heard), -1)

    def row(self, atoms):
        """0/1, (A,)."""
        row_A = np.zeros(len(self.place))
        row_A[[self.place[name] for name in atoms]] = 1
        return row_A

    def hears(self, atoms, value):
        """Write a number down, which is true."""
        row_A = self.row(atoms)
        assert value == row_A @ self.count_A, f"{value} shown for {sorted(atoms)[:4]}…"
        self.heard[row_A.tobytes()] = value

    def at_most(self, atoms):
        """The largest number of patients that agrees with everything heard."""
        if not self.heard:
            return np.inf
        known = np.array(list(self.heard.values()), dtype=float)
        found = linprog(-self.row(atoms), A_eq=self.rows, b_eq=known, method="highs")
        assert found.status in (0, 3), found.message
        return np.inf if found.status == 3 else -found.fun

    def follows(self, atoms):
        """Whether the number is in the span of what was heard."""
        rows = self.rows
        return len(rows) > 0 and np.linalg.matrix_rank(np.vstack([rows, self.row(atoms)])) == np.linalg.matrix_rank(
            rows
        )

    def finds_below(self, minimum, sets):
        """Small ones among these sets of patients that must be smaller than the minimum, as far as the attacker sees.

        A sum of hidden counts below the minimum bounds each of them, so it is found too.
        """
        small = [atoms for atoms in sets if 0 < self.row(atoms) @ self.count_A < minimum]
        return [atoms for atoms in small if self.at_most(atoms) < minimum - 1e-3]

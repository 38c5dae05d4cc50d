"""Federated REMIND: multimodal learning across hospitals, fair to rare modality combinations.

Importing this package costs nothing: torch and friends load with the module that needs them.
"""

import sys

from remind.former_names import FormerNames

sys.meta_path.append(FormerNames())

"""The hospital's policy: the site refuses everything that the policy does not allow."""

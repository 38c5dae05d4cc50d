"""Settings of all tests."""

from hypothesis import settings

# The same examples in every run, and no limit of time per example on a busy machine.
settings.register_profile("remind", derandomize=True, deadline=None, max_examples=40)
settings.load_profile("remind")

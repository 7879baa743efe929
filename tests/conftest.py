"""What every test may ask for by name."""

import pytest
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("support.telling_checks")
pytest_plugins = ("support.lab_fixtures", "support.browser")

# How long an example takes says how busy the machine is, and nothing of what is tested.
settings.register_profile(
    "ours", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ours")

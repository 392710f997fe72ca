"""The line with which bad settings are refused."""

import pytest

from settings import BadSetting, Settings


def refusal(**env):
    with pytest.raises(BadSetting) as caught:
        Settings.from_env(env)
    return str(caught.value)

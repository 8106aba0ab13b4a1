"""What SamplerConfig refuses: each would end in a traceback or a silent nonsense later."""

import math

import pytest

from glassgrok.sampling.config import SamplerConfig


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"steps": 100},
        {"steps": 1000, "production": 0.99},
        {"steps": 100, "ladder_steps": 0, "dt": 0.1},
        {"fall": 0.0},
        {"fall": math.nan},
        {"rise": -0.1},
        {"rise": math.nan},
        {"kernel": math.nan},
        {"kernel": 1.6},
        {"quiet": -0.1},
        {"depth": 0.0},
        {"audit": 0.5},
        {"coarse": 1.5},
        {"settle": 1.0},
        {"dt": math.inf},
        {"dt": "fast"},
        {"dt": -1.0},
        {"ladder_steps": 0},
        {"walkers": 10, "tile": 4},
        {"walkers": 8, "tile": 8, "groups": 2},
        {"walkers": 4, "tile": 1, "groups": 8},
        {"block": 15},
        {"integrator": "euler"},
        {"friction": 0.0},
        {"production": 1.0},
    ],
)
def test_bad_values_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SamplerConfig(**wrong)


def test_stages_are_whole_blocks():
    config = SamplerConfig(steps=10_050, production=0.3)
    assert config.total_steps == 10_100
    assert config.production_steps == 3000

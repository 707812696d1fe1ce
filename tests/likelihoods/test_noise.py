"""The camera's noise law: one line, and its way through JSON."""

from __future__ import annotations

import json

import pytest

from vae_sci.errors import ContractError
from vae_sci.likelihoods import CameraNoise

NOISE = CameraNoise(gain=(2.0, 0.5), offset=(100.0, 7.0), read_variance=(9.0, 0.0))


def test_the_line_is_zero_at_the_dark_level_and_constant_at_level_0() -> None:
    for i in range(2):
        gain, offset, read = NOISE.gain[i], NOISE.offset[i], NOISE.read_variance[i]
        assert gain * (NOISE.dark[i] - offset) + read == pytest.approx(0, abs=1e-12)
        assert gain * (0 - offset) + read == pytest.approx(NOISE.constant[i])


def test_survives_json() -> None:
    assert CameraNoise.from_dict(json.loads(json.dumps(NOISE.to_dict()))) == NOISE
    with pytest.raises(ContractError, match="gain, offset, read_variance"):
        CameraNoise.from_dict({"gain": [1.0]})


@pytest.mark.parametrize(
    "numbers",
    [
        ((), (), ()),
        ((0.0,), (1.0,), (1.0,)),
        ((1.0,), (1.0,), (-1.0,)),
        ((1.0, 2.0), (1.0,), (1.0,)),
        ((float("nan"),), (1.0,), (1.0,)),
        ((1.0,), (float("inf"),), (1.0,)),
    ],
)
def test_no_camera_is_no_camera(numbers: tuple[tuple[float, ...], ...]) -> None:
    with pytest.raises(ContractError, match="one gain"):
        CameraNoise(*numbers)

"""Keys: what makes a step a different one."""

from __future__ import annotations

from controller.domain.inputs import build_attempt, build_inputs, validate_inputs
from tests.builders import A1, A2, BUILD, D1, base, release


def test_a_validation_is_of_one_artifact_and_one_release() -> None:
    """Two releases may have the same artifact in one store, and each keeps what was measured of its own servers."""
    mine = release().stable().build()
    assert validate_inputs(mine, A1) == validate_inputs(release().stable().version("v2").build(), A1)
    assert validate_inputs(mine, A1) != validate_inputs(mine, A2)
    assert validate_inputs(mine, A1) != validate_inputs(release().metadata(uid="another").stable().build(), A1)


def test_a_build_is_tried_again_with_other_memory_or_time_and_is_the_same_build() -> None:
    mine = release().stable().build()
    for changed in ({"podTemplate": {"spec": {"nodeSelector": {"gpu": "big"}}}}, {"deadline": "4h"}):
        other = release().stable().spec(build=BUILD | changed).build()
        assert build_inputs(other, base(), D1) == build_inputs(mine, base(), D1)
        assert build_attempt(other, base(), D1) != build_attempt(mine, base(), D1)
    other = release().stable().spec(build={"quantization": {"method": "None"}}).build()
    assert build_inputs(other, base(), D1) != build_inputs(mine, base(), D1)
    assert build_attempt(other, base(), D1) != build_attempt(mine, base(), D1)

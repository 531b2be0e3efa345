"""Keys: what makes a step a different one."""

from __future__ import annotations

from controller.api.status import ArtifactStatus
from controller.domain.inputs import build_attempt, build_inputs, validate_inputs
from tests.builders import A1, A2, BUILD, D1, D2, base, release


def test_a_validation_is_of_one_artifact_and_one_release() -> None:
    """Two releases may have the same artifact in one store, and each keeps what was measured of its own servers."""
    mine, one = release().stable().build(), ArtifactStatus(id=A1, inputs="i", path="p", digest=D1, adapter_digest=D1)
    assert validate_inputs(mine, one) == validate_inputs(release().stable().version("v2").build(), one)
    assert validate_inputs(mine, one) != validate_inputs(mine, one.model_copy(update={"id": A2}))
    assert validate_inputs(mine, one) != validate_inputs(release().metadata(uid="another").stable().build(), one)


def test_a_validation_is_of_these_very_files() -> None:
    """An artifact that was deleted and built again has its id, and may have other files."""
    mine, one = release().stable().build(), ArtifactStatus(id=A1, inputs="i", path="p", digest=D1, adapter_digest=D1)
    assert validate_inputs(mine, one) != validate_inputs(mine, one.model_copy(update={"digest": D2}))


def test_a_build_is_tried_again_with_other_memory_or_time_and_is_the_same_build() -> None:
    mine = release().stable().build()
    for changed in ({"podTemplate": {"spec": {"nodeSelector": {"gpu": "big"}}}}, {"deadline": "4h"}):
        other = release().stable().spec(build=BUILD | changed).build()
        assert build_inputs(other, base(), D1) == build_inputs(mine, base(), D1)
        assert build_attempt(other, base(), D1) != build_attempt(mine, base(), D1)
    other = release().stable().spec(build={"quantization": {"method": "None"}}).build()
    assert build_inputs(other, base(), D1) != build_inputs(mine, base(), D1)
    assert build_attempt(other, base(), D1) != build_attempt(mine, base(), D1)

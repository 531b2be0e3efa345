"""Signs an artifact with a key, and checks that: OpenSSF Model Signing, by its own library (the extra `sign`).

The signature lies beside the artifact, since that is never changed; `model_signing verify key` reads it too. No
network is used. Must not know what else is verified.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

from controller.errors import PermanentError
from controller.job.findings import Finding
from controller.job.reasons import Reason


def signature_beside(artifact: Path) -> Path:
    """Where the signature of the artifact in this directory lies."""
    artifact = artifact.resolve()
    return artifact.with_name(f"{artifact.name}.sig")


def sign(artifact: Path, private_key: Path, signature: Path) -> None:
    """Writes `signature`, by an elliptic curve key in PEM without a password. PermanentError for any other key."""
    signing, _ = _library()
    try:
        signer = signing.Config().use_elliptic_key_signer(private_key=private_key)
    except (ValueError, TypeError, AttributeError) as e:
        raise PermanentError(
            f"{private_key} is no elliptic curve key (P-256, P-384, P-521) in PEM without a password: {e}",
            reason=Reason.INVALID_ARGUMENT,
        ) from e
    partial = signature.with_name(f".{signature.name}.partial")
    try:
        signer.sign(artifact, partial)
        partial.chmod(0o444)
        partial.replace(signature)
    finally:
        partial.unlink(missing_ok=True)


def signature_findings(artifact: Path, public_key: Path, signature: Path) -> list[Finding]:
    """What is wrong with the signature; nothing, if this key made it for these very files. Reads them all."""
    if not os.path.lexists(signature):
        return [Finding(Reason.SIGNATURE_MISSING, f"{artifact} has no signature at {signature}")]
    _, verifying = _library()
    try:
        verifier = verifying.Config().use_elliptic_key_verifier(public_key=public_key)
    except (ValueError, TypeError, AttributeError) as e:
        raise PermanentError(
            f"{public_key} is no public elliptic curve key in PEM: {e}", reason=Reason.INVALID_ARGUMENT
        ) from e
    try:
        verifier.verify(artifact, signature)
    except OSError:
        raise
    except Exception as e:  # the library raises whatever its parts do; none of it is a proof
        why = str(e) or type(e).__name__
        return [Finding(Reason.SIGNATURE_INVALID, f"{signature} is not {public_key}'s signature of {artifact}: {why}")]
    return []


def _library() -> tuple[ModuleType, ModuleType]:
    try:
        from model_signing import signing, verifying
    except ImportError as e:
        raise PermanentError(
            "signatures need model-signing, which is not installed: pip install '.[sign]' in the checkout",
            reason=Reason.TOOL_MISSING,
        ) from e
    return signing, verifying

"""Signatures by a key: made for these very files, and by nobody else."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from controller.errors import PermanentError
from controller.job.signing import sign, signature_beside, signature_findings
from tests.job import artifacts


def keys(directory: Path, name: str) -> tuple[Path, Path]:
    """A private and a public key, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = directory / f"{name}.key", directory / f"{name}.pub"
    private.write_bytes(pem(key))
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, form))
    return private, public


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    none = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, none)


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return artifacts.publish(tmp_path / "store")


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a signature by a key needs no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.usefixtures("no_network")
def test_a_signature_is_good_for_its_files_and_its_key_alone(artifact: Path, tmp_path: Path) -> None:
    private, public = keys(tmp_path, "mine")
    _, stranger = keys(tmp_path, "stranger")
    signature = signature_beside(artifact)
    before = {p.name: p.read_bytes() for p in artifact.iterdir()}
    sign(artifact, private, signature)
    assert signature == artifact.with_name(f"{artifact.name}.sig") and signature.stat().st_mode & 0o777 == 0o444
    assert {p.name: p.read_bytes() for p in artifact.iterdir()} == before
    assert signature_findings(artifact, public, signature) == []
    (finding,) = signature_findings(artifact, stranger, signature)
    assert finding.reason == "SignatureInvalid" and "stranger.pub" in finding.message
    artifact.chmod(0o755)
    (artifact / "artifact.json").chmod(0o644)
    (artifact / "artifact.json").write_text("{}")
    (finding,) = signature_findings(artifact, public, signature)
    assert finding.reason == "SignatureInvalid" and "artifact.json" in finding.message


@pytest.mark.parametrize("text", [b"", b"{}", b"not json", b'{"mediaType": "x"}'])
def test_what_is_no_signature_is_none(text: bytes, artifact: Path, tmp_path: Path) -> None:
    _, public = keys(tmp_path, "mine")
    (tmp_path / "x.sig").write_bytes(text)
    (finding,) = signature_findings(artifact, public, tmp_path / "x.sig")
    assert finding.reason == "SignatureInvalid"


def test_where_there_is_none_it_is_missing(artifact: Path, tmp_path: Path) -> None:
    _, public = keys(tmp_path, "mine")
    (finding,) = signature_findings(artifact, public, signature_beside(artifact))
    assert finding.reason == "SignatureMissing"


@pytest.mark.parametrize("which", ["rsa", "garbage", "public"])
def test_another_sort_of_key_is_refused_and_leaves_nothing(which: str, artifact: Path, tmp_path: Path) -> None:
    _, public = keys(tmp_path, "mine")
    content = {"rsa": pem(rsa.generate_private_key(65537, 2048)), "garbage": b"x", "public": public.read_bytes()}
    (tmp_path / "bad.key").write_bytes(content[which])
    with pytest.raises(PermanentError, match="no elliptic curve key") as e:
        sign(artifact, tmp_path / "bad.key", signature_beside(artifact))
    assert e.value.reason == "InvalidArgument"
    assert [p.name for p in artifact.parent.iterdir()] == [artifact.name]

"""Write an OCI image archive that containerd imports, without any registry.

An image here is an almost empty root (directories, /etc/passwd, the usual symlinks, a static /pause) and a few
scripts; its programs come from the host through containerd's base runtime spec (container_spec.py). Knows nothing
of what the images are for: that is images.py.
"""

import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"

_DIRECTORIES = ["etc", "usr", "proc", "sys", "dev", "run", "root", "home", "var", "var/tmp", "tmp", "opt"]
_LINKS = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}
_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/tmp:/bin/sh\n"
    "nobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n",
    "etc/group": "root:x:0:\napp:x:1000:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
}


@dataclass(frozen=True)
class Image:
    """One image: the name that a pod names, what runs by default, and scripts by file name."""

    name: str
    entrypoint: tuple[str, ...] = ("/pause",)
    scripts: dict[str, str] = field(default_factory=dict)

    @property
    def reference(self) -> str:
        """What containerd calls it: local/app:1 is docker.io/local/app:1, localhost/app:1 that itself."""
        registry = self.name.split("/")[0]
        return self.name if "." in registry or registry == "localhost" else f"docker.io/{self.name}"


def write_archive(out: Path, images: list[Image], pause: bytes, bin_dir: str, path: str) -> None:
    """Write `images` to the tar file `out`; scripts lie in `bin_dir`, which `path` (PATH) should name."""
    blobs: dict[str, bytes] = {}
    index = [_add_image(blobs, image, pause, bin_dir, path) for image in images]
    files = {f"blobs/sha256/{digest}": data for digest, data in blobs.items()}
    files["oci-layout"] = b'{"imageLayoutVersion":"1.0.0"}'
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": index}).encode()
    with tarfile.open(out, "w") as archive:
        for name, data in files.items():
            _add_file(archive, name, data, 0o644)


def _add_image(blobs: dict[str, bytes], image: Image, pause: bytes, bin_dir: str, path: str) -> dict[str, object]:
    raw = _layer(image, pause, bin_dir)
    layer = _put(blobs, gzip.compress(raw, mtime=0), _LAYER)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Env": [f"PATH={path}", "PYTHONUNBUFFERED=1", "PYTHONDONTWRITEBYTECODE=1", "LANG=C.UTF-8", "HOME=/tmp"],
            "Entrypoint": list(image.entrypoint),
            "WorkingDir": "/",
            # Two images of the same bytes would be one to the kubelet.
            "Labels": {"name": image.reference},
        },
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(raw).hexdigest()]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": _put(blobs, json.dumps(config).encode(), _CONFIG),
        "layers": [layer],
    }
    return _put(blobs, json.dumps(manifest).encode(), _MANIFEST) | {
        "annotations": {"io.containerd.image.name": image.reference}
    }


def _layer(image: Image, pause: bytes, bin_dir: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in _DIRECTORIES:
            _add_directory(archive, name, 0o1777 if name.endswith("tmp") else 0o755)
        for name, target in _LINKS.items():
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            archive.addfile(link)
        for name, text in _FILES.items():
            _add_file(archive, name, text.encode(), 0o644)
        _add_file(archive, "pause", pause, 0o755)
        for name, text in image.scripts.items():
            _add_file(archive, f"{bin_dir.lstrip('/')}/{name}", text.encode(), 0o755)
    return buffer.getvalue()


def _put(blobs: dict[str, bytes], data: bytes, media_type: str) -> dict[str, object]:
    digest = hashlib.sha256(data).hexdigest()
    blobs[digest] = data
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}


def _add_directory(archive: tarfile.TarFile, name: str, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, mode
    archive.addfile(entry)


def _add_file(archive: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    archive.addfile(entry, io.BytesIO(data))

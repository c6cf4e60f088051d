"""Downloading a registered data set: resumed where it broke off, checked, and put in place in one step."""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from graphcl.data.config import DataFile, DatasetConfig
from graphcl.data.registry import absent, cache_root, find, search_path

logger = logging.getLogger(__name__)

BLOCK = 1 << 16
TIMEOUT = 30.0  # seconds without a byte

Progress = Callable[[int], object]  # is told of each block how many bytes came, as tqdm's update is


def fetch(name: str, *, root: str | Path | None = None, progress: Progress | None = None, base_url: str | None = None) -> Path:
    """Download the files of a registered data set that are nowhere to be found yet; returns the folder they are in.

    `root`: the folder that holds `<group>/<name>`, by default the download cache. With `root` given, only files there count
    as present. `base_url`: a mirror that serves `<base_url>/<file>` for each file, instead of the registered addresses.

    Raises: ValueError for an unknown name and for a file whose checksum is wrong (it is deleted), FileNotFoundError for a
    file without an address, ConnectionError where the download fails; the last two say where to put which file.
    """
    config = find(name)
    target = Path(root if root is not None else cache_root()) / config.group / config.name
    places = [target] if root is not None else search_path(config)
    found: list[Path] = []
    for role, accepted in config.files.items():
        here = next((place / file.name for place in places for file in accepted if (place / file.name).is_file()), None)
        if here is not None:
            found.append(here.parent)
            continue
        file = next((file for file in accepted if file.url or base_url), None)
        if file is None:
            raise FileNotFoundError(absent(config, role, target if root is not None else None))
        url = f"{base_url.rstrip('/')}/{file.name}" if base_url else file.url
        download(url, target / file.name, config, file, progress)
    return found[0] if len(found) == len(config.files) else target


def download(url: str, path: Path, config: DatasetConfig, file: DataFile, progress: Progress | None = None) -> None:
    """Get one file by way of `<file>.part`, which a broken download leaves for the next to go on from."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "graphcl"})
    if done:
        request.add_header("Range", f"bytes={done}-")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            if done and not resumes(response, done):
                done = 0  # a server that knows no ranges sends the whole file
            length = response.headers.get("Content-Length")
            total = done + int(length) if length else None
            with part.open("ab" if done else "wb") as out:
                while block := response.read(BLOCK):
                    out.write(block)
                    done += len(block)
                    if progress:
                        progress(len(block))
        if total is not None and done != total:
            raise ConnectionError(f"it broke off after {done:,} of {total:,} bytes; run it again to go on from there")
    except urllib.error.HTTPError as error:
        if error.code == 416:  # there is nothing after what we have: the part is whole, or of another file
            if error.headers.get("Content-Range") == f"bytes */{done}":
                verify_part(part, path, url, file)
                return
            part.unlink()
            raise ConnectionError(failed(config, file, path, url, "a part of another file was here; run it again")) from None
        raise ConnectionError(failed(config, file, path, url, f"{error.code} {error.reason}")) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise ConnectionError(failed(config, file, path, url, str(reason))) from None
    verify_part(part, path, url, file)


def resumes(response: http.client.HTTPResponse, done: int) -> bool:
    """Whether the answer starts where we left off."""
    return response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {done}-")


def verify_part(part: Path, path: Path, url: str, file: DataFile) -> None:
    """Rename a whole download if its checksum is right.

    Raises: ValueError, after deleting it, if not.
    """
    kind, expected = ("sha256", file.sha256) if file.sha256 else ("md5", file.md5)
    if expected:
        digest = hashlib.new(kind, usedforsecurity=False)
        with part.open("rb") as whole:
            while block := whole.read(BLOCK):
                digest.update(block)
        if digest.hexdigest() != expected:
            part.unlink()
            raise ValueError(
                f"{url}: the download is corrupt and was deleted ({kind} {digest.hexdigest()[:12]}..., expected "
                f"{expected[:12]}...); fetch it again"
            )
    else:
        logger.warning("%s: no checksum is known; its counts are checked when it is loaded", url)
    os.replace(part, path)


def failed(config: DatasetConfig, file: DataFile, path: Path, url: str, reason: str) -> str:
    return (
        f"{config.full_name}: {url} cannot be downloaded ({reason}); if this machine is offline, get {file.name} elsewhere "
        f"and put it at {path}"
    )

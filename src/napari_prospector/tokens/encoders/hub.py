"""Weights on the Hugging Face hub: asked for, announced, downloaded, and found again in the cache.

huggingface_hub does the work: it knows the login, mirrors (``HF_ENDPOINT``), proxies and the cache that all programs
share, and goes on where a connection broke. What is added here: nothing is downloaded without saying so first,
what is in the cache is used without asking the hub, and every refusal says what to do. Nothing here reads a token.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from napari_prospector.errors import (
    AccessError,
    FileFormatError,
    MissingFileError,
    NetworkError,
    ProspectorError,
    ProspectorWarning,
    StorageError,
)

__all__ = [
    "DEFAULT_FILES",
    "HubFile",
    "HubSource",
    "ask",
    "cache_folder",
    "cached",
    "check_room",
    "check_sha256",
    "fetch",
    "is_offline",
    "offline_error",
    "readable_size",
    "stated_sha256",
]

DEFAULT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "open_clip_pytorch_model.bin",
)
"""Where a card names no weight file, these are looked for, the best first."""

_TRUE = {"1", "ON", "TRUE", "YES"}
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SECRETS = re.compile(r"hf_\w+|(?<=Bearer )\S+")
_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
# Besides the file itself the hub's library keeps small files.
_SPARE_BYTES = 50_000_000
_FROM_ELSEWHERE = "Where there is no network, copy the file by hand and pass weights=FILE (--weights)."


@dataclass(frozen=True)
class HubSource:
    """Which weights of which repository.

    Parameters
    ----------
    repo_id
        Owner and name, such as "MahmoodLab/UNI2-h".
    revision
        Commit, tag or branch; None: what `main` is when it is downloaded.
    filenames
        Looked for in this order.
    """

    repo_id: str
    revision: str | None = None
    filenames: tuple[str, ...] = DEFAULT_FILES

    @property
    def page(self) -> str:
        """Address of the model's page, where its licence is accepted."""
        from huggingface_hub import constants

        return f"{constants.ENDPOINT}/{self.repo_id}"


@dataclass(frozen=True)
class HubFile:
    """One file of a repository.

    Attributes
    ----------
    source, filename, commit
        Where it comes from; the commit is what the source's revision stands for.
    n_bytes
        Its size; None where the hub states none.
    sha256
        What the hub states of large files; None where it states none.
    path
        In the cache; None where it has not been downloaded.
    """

    source: HubSource
    filename: str
    commit: str
    n_bytes: int | None
    sha256: str | None
    path: Path | None = None


def is_offline() -> bool:
    """Whether ``HF_HUB_OFFLINE`` forbids to ask the hub, when its library was imported or now."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE) or os.environ.get("HF_HUB_OFFLINE", "").upper() in _TRUE


def cache_folder() -> Path:
    """Return the folder that downloads go to: ``HF_HUB_CACHE``, or ``hub`` in ``HF_HOME``."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def cached(source: HubSource) -> HubFile | None:
    """Return the first of the files that is in the cache, without asking the hub; None if none is."""
    from huggingface_hub import try_to_load_from_cache

    snapshots = _repo_cache(source.repo_id) / "snapshots"
    for filename in source.filenames:
        found = try_to_load_from_cache(source.repo_id, filename, cache_dir=cache_folder(), revision=source.revision)
        if isinstance(found, str):
            path = Path(found)
            commit = path.relative_to(snapshots).parts[0]
            return HubFile(source, filename, commit, path.stat().st_size, stated_sha256(path), path)
    return None


def ask(source: HubSource) -> HubFile:
    """Ask the hub for size, commit and hash of the first of the files that it has; nothing is downloaded.

    Raises
    ------
    AccessError
        A login is needed or not accepted, or the licence has not been accepted.
    MissingFileError
        There is no such repository, revision or file.
    NetworkError
        The hub cannot be reached or does not answer as a hub does, or the machine is offline.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url

    kinds = _kinds_of_errors()
    if is_offline():
        raise offline_error(source)
    for filename in source.filenames:
        url = hf_hub_url(source.repo_id, filename, revision=source.revision)
        with _refusals(source), contextlib.suppress(kinds.EntryNotFoundError):
            answer = get_hf_file_metadata(url, timeout=constants.HF_HUB_ETAG_TIMEOUT)
            return _described(source, filename, answer)
    raise MissingFileError(
        f"{source.repo_id} at {source.revision or 'main'} must hold one of {', '.join(source.filenames)}; it holds"
        f" none. Look at {source.page}, download its weights, and pass weights=FILE (--weights)."
    )


def fetch(source: HubSource, encoder: str, terms: str = "", *, offline: bool = False) -> HubFile:
    """Return a weight file of the hub: from the cache if it is there, else downloaded after an announcement.

    The announcement is a `ProspectorWarning` with name, size, terms and place, before the first byte comes. What is
    in the cache is taken without asking the hub, so also where `main` has moved on since.

    Parameters
    ----------
    source
        Which file.
    encoder
        Name of the encoder, for what is said.
    terms
        Licence and access, for the announcement, such as "licence apache-2.0".
    offline
        Take it from the cache or not at all, as ``HF_HUB_OFFLINE`` does.

    Returns
    -------
    HubFile
        With its path. Its hash has not been checked: see `check_sha256`.

    Raises
    ------
    AccessError, MissingFileError, NetworkError
        As `ask`; or the connection broke and could not be taken up again.
    StorageError
        The cache has no room, or may not be written to. Nothing incomplete is taken for the file.
    """
    from huggingface_hub import hf_hub_download

    if (found := cached(source)) is not None:
        return found
    if offline or is_offline():
        raise offline_error(source)
    asked = ask(source)
    check_room(asked)
    warnings.warn(_announcement(asked, encoder, terms), ProspectorWarning, stacklevel=2)
    with _refusals(source):
        path = Path(hf_hub_download(source.repo_id, asked.filename, revision=source.revision, cache_dir=cache_folder()))
    commit = path.relative_to(_repo_cache(source.repo_id) / "snapshots").parts[0]
    # without symbolic links the cache does not keep the hash that the hub stated
    stated = stated_sha256(path) or (asked.sha256 if commit == asked.commit else None)
    return replace(asked, commit=commit, sha256=stated, path=path)


def stated_sha256(path: Path) -> str | None:
    """Return the hash that a file of a hub's cache or snapshot should have; None where it does not tell.

    The cache keeps large files under their hash, and links to them from the snapshot.
    """
    if not path.is_symlink():
        return None
    # one step only: newer caches link on to a store that several repositories share
    target = Path(os.readlink(path))
    return target.name if target.parent.name == "blobs" and _SHA256.fullmatch(target.name) else None


def check_sha256(file: HubFile, sha256: str) -> None:
    """Compare the hash of a downloaded file with the one that the hub states; remove the file if they differ.

    Raises
    ------
    FileFormatError
        They differ.
    """
    if file.path is None or file.sha256 is None or file.sha256 == sha256:
        return
    blob = Path(os.path.realpath(file.path))
    try:
        for place in dict.fromkeys((blob, file.path)):
            place.unlink(missing_ok=True)
        what_now = "It was removed from the cache; load the encoder again to download it anew."
    except OSError as error:
        what_now = f"It cannot be removed from the cache ({error.strerror}): delete {blob} and load the encoder again."
    raise FileFormatError(
        f"{file.filename} of {file.source.repo_id} must have the sha256 {file.sha256}, as the hub states; what came"
        f" has {sha256}. It was damaged on its way or on the disk. {what_now}"
    )


def readable_size(n_bytes: int | None) -> str:
    """Return a size as people say it.

    Examples
    --------
    >>> readable_size(1_215_000_000)
    '1.22 GB'
    """
    if n_bytes is None:
        return "of unknown size"
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if n_bytes >= factor:
            return f"{n_bytes / factor:.3g} {unit}"
    return f"{n_bytes} bytes"


def _described(source: HubSource, filename: str, answer: Any) -> HubFile:
    """Return what the answer to a HEAD request says of a file."""
    from huggingface_hub import constants

    if answer.commit_hash is None:
        raise NetworkError(
            f"{constants.ENDPOINT} does not answer as a model hub does. Check HF_ENDPOINT, and whether a proxy or a"
            f" firewall answers instead. {_FROM_ELSEWHERE}"
        )
    sha256 = answer.etag if answer.etag and _SHA256.fullmatch(answer.etag) else None
    return HubFile(source, filename, answer.commit_hash, answer.size, sha256)


def _announcement(file: HubFile, encoder: str, terms: str) -> str:
    """Say what is about to be downloaded."""
    moving = (
        f" Its card pins no revision, so this is what main is now; the commit {file.commit} is recorded."
        if file.source.revision is None
        else ""
    )
    return (
        f"Downloading the weights of {encoder!r}: {file.filename} ({readable_size(file.n_bytes)}) of"
        f" {file.source.repo_id} at {file.commit[:12]}{', ' + terms if terms else ''}, to {cache_folder()}.{moving}"
    )


def _repo_cache(repo_id: str) -> Path:
    """Return the folder of a model in the cache."""
    return cache_folder() / f"models--{repo_id.replace('/', '--')}"


def check_room(file: HubFile) -> None:
    """Raise StorageError before the download if the file cannot fit."""
    place = cache_folder()
    while not place.exists() and place != place.parent:
        place = place.parent
    free = shutil.disk_usage(place).free
    if file.n_bytes is not None and free < file.n_bytes + _SPARE_BYTES:
        raise StorageError(
            f"{file.filename} of {file.source.repo_id} needs {readable_size(file.n_bytes)}; the disk of"
            f" {cache_folder()} has {readable_size(free)} free. Free space there, or name another folder in"
            " HF_HUB_CACHE."
        )


def offline_error(source: HubSource) -> NetworkError:
    """Return the error for weights that are not in the cache while the hub may not be asked."""
    revision = source.revision or "main"
    return NetworkError(
        f"The weights of {source.repo_id} at {revision} are not in the cache {cache_folder()}, and this machine is"
        f" offline (HF_HUB_OFFLINE or --offline). On a machine with network run `hf download {source.repo_id}"
        f" {source.filenames[0]} --revision {revision}`, and copy {_repo_cache(source.repo_id).name} into the cache"
        " here; or copy the file alone and pass weights=FILE (--weights)."
    )


def _kinds_of_errors() -> Any:
    """Return the module in which every version of huggingface_hub shows its errors."""
    from huggingface_hub import utils

    return utils


@contextlib.contextmanager
def _refusals(source: HubSource) -> Iterator[None]:
    """Turn whatever the hub, the network or the disk refuse into errors that say what to do; no telemetry meanwhile."""
    from huggingface_hub import constants

    kinds = _kinds_of_errors()
    # else the library asks the hub for more than the file, and tells it which packages are installed
    telemetry_was_off, constants.HF_HUB_DISABLE_TELEMETRY = constants.HF_HUB_DISABLE_TELEMETRY, True
    # The base of the hub's own errors is that of the HTTP library it uses: requests, httpx, or what comes next. The
    # downloader of large files, hf_xet, raises RuntimeErrors.
    try:
        yield
    except ProspectorError:
        raise
    except (*kinds.HfHubHTTPError.__bases__, OSError, RuntimeError) as error:
        if isinstance(error, kinds.HfHubHTTPError):
            raise _refused_by_hub(source, error) from error
        raise _broken(source, error) from None
    finally:
        constants.HF_HUB_DISABLE_TELEMETRY = telemetry_was_off


def _refused_by_hub(source: HubSource, error: Any) -> ProspectorError:
    """Return the error for an answer of the hub that is no success."""
    from huggingface_hub import get_token

    kinds = _kinds_of_errors()
    repo, page, status = source.repo_id, source.page, error.response.status_code
    log_in = "log in with `hf auth login`, or set HF_TOKEN"
    if isinstance(error, kinds.GatedRepoError):
        if status == 401 or get_token() is None:
            return AccessError(
                f"{repo} is gated: only accounts that accepted its licence may read it. Accept it at {page}, then"
                f" {log_in}. {_FROM_ELSEWHERE}"
            )
        return AccessError(
            f"{repo} is gated, and the account of your token has no access yet. Accept the licence at {page} and wait"
            " until its owner grants access; a fine-grained token must also be allowed to read gated repositories."
            f" {_FROM_ELSEWHERE}"
        )
    if isinstance(error, kinds.RevisionNotFoundError):
        return MissingFileError(
            f"{repo} must have the revision {source.revision or 'main'}; the hub knows none. Look at {page}, or pass"
            " revision=… (--revision)."
        )
    if isinstance(error, kinds.RepositoryNotFoundError):
        return MissingFileError(
            f"The hub shows no repository {repo}: there is none, or it is private. Check the name at {page}; if it is"
            f" private, {log_in}."
        )
    if status == 401:
        came = "asks for a login" if get_token() is None else "does not accept your token"
        return AccessError(f"The hub {came} for {repo}. Make a token on the hub's settings page and {log_in}.")
    if status == 403:
        reason = _words(error.response.headers.get("X-Error-Message") or "")
        return AccessError(
            f"The hub forbids to read {repo}: {reason}. Look at {page}, and at the permissions of your token."
        )
    return NetworkError(
        f"The hub answers with status {status} for {repo}. Try again later; what is in the cache is used without it."
    )


def _broken(source: HubSource, error: BaseException) -> ProspectorError:
    """Return the error for a network or a disk that failed."""
    if isinstance(error, OSError) and error.errno in _FULL:
        return StorageError(
            f"The disk of {cache_folder()} is full: the weights of {source.repo_id} were not stored. Free space there,"
            " or name another folder in HF_HUB_CACHE."
        )
    if isinstance(error, PermissionError):
        return StorageError(
            f"{cache_folder()} may not be written to, so the weights of {source.repo_id} cannot be stored. Name another"
            " folder in HF_HUB_CACHE."
        )
    cause = error.__cause__ or error
    return NetworkError(
        f"The weights of {source.repo_id} cannot be had from the hub: {type(cause).__name__}: {_words(str(cause))}."
        f" Check the network, HTTPS_PROXY and HF_ENDPOINT, and run the same again. {_FROM_ELSEWHERE}"
    )


def _words(text: str) -> str:
    """Return the first line of a text without anything that may be a secret."""
    first = text.strip().splitlines()[0] if text.strip() else "no reason given"
    return _SECRETS.sub("…", first).rstrip(". ")

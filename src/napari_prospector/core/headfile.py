"""Head files ``*.prospector``: safetensors with a JSON card in the metadata.

Nothing is ever pickled or unpickled. The card carries a digest of the tensors, because safetensors itself does
not notice a flipped bit. A file is written beside its place and moved there whole.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from napari_prospector.errors import FileFormatError, MismatchError, MissingFileError, StorageError

__all__ = ["FORMAT", "FORMAT_VERSION", "check_tokens_card", "kind_of_tokens", "read_head_file", "write_head_file"]

FORMAT = "napari-prospector head"
FORMAT_VERSION = 2
HIDING_VERSION = 3
READABLE_VERSIONS = (1, 2, 3)
"""Version 1 had neither a refined map nor a choice. Version 3 is version 2 with hidden concepts: who does not know them
would draw other maps, and must refuse."""
MPP_TOLERANCE = 0.05

Tensors = Mapping[str, NDArray[Any]]


def write_head_file(path: str | os.PathLike[str], tensors: Tensors, card: Mapping[str, Any]) -> None:
    """Write tensors and card to `path`; an existing file is replaced only by a complete one.

    Raises
    ------
    StorageError
        If the file cannot be written; nothing is left behind and an older file stays as it was.
    """
    target = Path(path)
    arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    is_hiding = bool((card.get("concept_edits") or {}).get("hidden"))
    version = HIDING_VERSION if is_hiding else FORMAT_VERSION
    full = {"format": FORMAT, "format_version": version, "tensors_sha256": _digest(arrays), **card}
    content = to_bytes(arrays, metadata={"card": json.dumps(full, allow_nan=False)})
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, target)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StorageError(
            f"The head could not be written to {target}: {error.strerror or error}. "
            "Check that the folder exists, may be written to and has free space."
        ) from error


def read_head_file(path: str | os.PathLike[str]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read tensors and card of a head file.

    Raises
    ------
    MissingFileError
        If there is no such file.
    FileFormatError
        If it is not a head, is damaged, or was written by a newer version.
    """
    source = Path(path)
    if not source.is_file():
        raise MissingFileError(f"No head file at {source}. Pass the path of a *.prospector file.")
    try:
        with safe_open(source, framework="numpy") as stream:
            metadata = stream.metadata() or {}
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}
        card = json.loads(metadata.get("card", "null"))
    except (SafetensorError, ValueError, OSError) as error:
        raise FileFormatError(
            f"{source.name} is not a head file, or it is damaged ({error}). Fit the head again or copy the file again."
        ) from error
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise FileFormatError(f"{source.name} is a safetensors file but not a head of napari-prospector.")
    version = card.get("format_version")
    if version not in READABLE_VERSIONS:
        raise FileFormatError(
            f"{source.name} has head format version {version}; this version of napari-prospector reads "
            f"versions {READABLE_VERSIONS[0]} to {READABLE_VERSIONS[-1]}. Update napari-prospector or fit the head "
            "again."
        )
    if card.get("tensors_sha256") != _digest(tensors):
        raise FileFormatError(
            f"{source.name} is damaged: its tensors do not match the digest in its card. Copy the file again."
        )
    return tensors, card


def check_tokens_card(head_card: Mapping[str, Any], n_dims: int, tokens_card: Mapping[str, Any]) -> None:
    """Refuse tokens that are not what a head was fitted on.

    Parameters
    ----------
    head_card
        Encoder card that the head keeps; empty where its caller gave none.
    n_dims
        Width of the embeddings that the head was fitted on.
    tokens_card
        Encoder card of the tokens; only what both cards state is compared.

    Raises
    ------
    MismatchError
        If encoder, width, weights, tile size, pixel size or stain normalization differ.
    """
    name = head_card.get("name")
    if name and "name" in tokens_card:
        _check_kind_of_tokens(head_card, tokens_card)
    if (name and tokens_card.get("name", name) != name) or tokens_card.get("n_dims", n_dims) != n_dims:
        raise MismatchError(
            f"This head was fitted on {name!r} ({n_dims} dims); the grid holds {tokens_card.get('name')!r} "
            f"({tokens_card.get('n_dims')}). Embed again with {name!r}."
        )
    # a card that is silent about it is older than the option: nothing was normalized
    normalized = head_card.get("stain_normalize"), tokens_card.get("stain_normalize")
    if name and "name" in tokens_card and normalized[0] != normalized[1]:
        raise MismatchError(
            f"This head was fitted on tiles with stain_normalize={normalized[0]!r}; the grid was embedded with"
            f" stain_normalize={normalized[1]!r}. Embed again as the head was fitted."
        )
    for key, what in (("weights_sha256", "weights"), ("revision", "revision"), ("tile_px", "tile_px"), ("mpp", "mpp")):
        mine, theirs = head_card.get(key), tokens_card.get(key)
        if mine is None or theirs is None or mine == theirs:
            continue
        # the same weights, whatever the revision that they were published in
        if key == "revision" and head_card.get("weights_sha256") and tokens_card.get("weights_sha256"):
            continue
        # a pixel size is rounded to whole level-0 pixels, differently on every scanner
        if key == "mpp" and abs(theirs / mine - 1) < MPP_TOLERANCE:
            continue
        raise MismatchError(
            f"This head was fitted on {name!r} with {what} {mine}; the grid was embedded with {what} {theirs}. "
            "Embed again as the head was fitted."
        )


def _check_kind_of_tokens(head_card: Mapping[str, Any], tokens_card: Mapping[str, Any]) -> None:
    """Refuse tiles for a head of patches, patches for one of tiles, another overlap or projection."""
    if head_card["name"] != tokens_card["name"]:
        return  # what is said of that is plainer
    mine, theirs = (kind_of_tokens(card) for card in (head_card, tokens_card))
    if mine != theirs:
        raise MismatchError(
            f"This head was fitted on {mine} of {head_card['name']!r}; the grid holds {theirs}. "
            "Embed again as the head was fitted."
        )


def kind_of_tokens(card: Mapping[str, Any]) -> str:
    """Say what the tokens of an encoder card are: tile or patch tokens, their overlap and projection.

    A card that is silent is of whole tiles.
    """
    overlap, projection = card.get("overlap_px") or 0, card.get("projection")
    words = f"{card.get('tokens') or 'tile'} tokens" + (f" with an overlap of {overlap} px" if overlap else "")
    if not projection:
        return words
    origin = f" {projection['sha256'][:8]}" if projection.get("sha256") else f" of seed {projection.get('seed')}"
    return f"{words} projected by {projection.get('kind')}{origin} to {projection.get('n_dims')} dims"


def _digest(tensors: Tensors) -> str:
    """Return the sha256 of names, types, shapes and bytes of the tensors."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()

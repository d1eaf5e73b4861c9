"""Weights from a hub: the real client against a hub on the loopback interface."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from loopback_hub import COMMIT, GOOD_TOKEN, LoopbackHub, Repository, point_to, serving, sha256

from napari_prospector.errors import (
    AccessError,
    FileFormatError,
    MissingFileError,
    NetworkError,
    ProspectorWarning,
    StorageError,
)
from napari_prospector.tokens.encoders import hub as the_hub
from napari_prospector.tokens.encoders.hub import HubSource, ask, cached, check_sha256, fetch, readable_size

WEIGHTS = np.random.default_rng(11).bytes(300_007)
REPO = "owner/model"
PINNED = HubSource(REPO, COMMIT, ("model.safetensors",))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "a cache"


@pytest.fixture
def hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    with serving({REPO: Repository({"model.safetensors": WEIGHTS, "README.md": b"a model"})}) as running:
        point_to(running, cache, monkeypatch)
        yield running


def fetched(source: HubSource = PINNED, terms: str = "") -> the_hub.HubFile:
    with pytest.warns(ProspectorWarning, match="Downloading the weights of 'tiny'"):
        return fetch(source, "tiny", terms)


def leftovers(cache: Path) -> list[str]:
    return [path.name for path in cache.rglob("*.incomplete")]


def test_a_file_is_announced_downloaded_and_known_by_commit_and_hash(hub: LoopbackHub, cache: Path) -> None:
    with pytest.warns(ProspectorWarning) as said:
        file = fetch(PINNED, "tiny", "licence mit, gated")
    assert file.path is not None
    assert file.path.read_bytes() == WEIGHTS
    assert (file.commit, file.n_bytes, file.sha256) == (COMMIT, len(WEIGHTS), sha256(WEIGHTS))
    assert [str(one.message) for one in said] == [
        f"Downloading the weights of 'tiny': model.safetensors (300 kB) of {REPO} at 0123456789ab,"
        f" licence mit, gated, to {cache}."
    ]


def test_the_announcement_comes_before_the_first_byte(hub: LoopbackHub) -> None:
    with pytest.raises(ProspectorWarning, match="Downloading"):
        fetch(PINNED, "tiny")
    assert hub.gets() == []


def test_the_hub_is_asked_for_the_file_alone_and_told_no_more_than_the_versions_of_client_and_python(
    hub: LoopbackHub,
) -> None:
    fetched()
    assert {path.split("/")[1] for _, path, _, _ in hub.requests} == {"owner", "blobs"}
    said = {word.partition("/")[0].strip() for agent in hub.user_agents for word in agent.split(";")}
    assert said <= {"unknown", "hf_hub", "python"}


def test_what_is_in_the_cache_is_taken_without_asking_anybody(hub: LoopbackHub) -> None:
    first = fetched()
    hub.requests.clear()
    assert fetch(PINNED, "tiny").path == first.path
    assert hub.requests == []


def test_a_revision_that_is_not_pinned_is_resolved_to_a_commit_and_said(hub: LoopbackHub) -> None:
    with pytest.warns(ProspectorWarning, match=f"pins no revision.*the commit {COMMIT} is recorded"):
        file = fetch(replace(PINNED, revision=None), "tiny")
    assert file.commit == COMMIT
    # main moves on; what was downloaded stays what is used
    hub.repositories[REPO].revisions["main"] = "f" * 40
    again = fetch(replace(PINNED, revision=None), "tiny")
    assert (again.commit, again.path) == (COMMIT, file.path)


def test_the_first_file_name_that_the_hub_has_is_taken(hub: LoopbackHub) -> None:
    hub.repositories[REPO].files = {"pytorch_model.bin": WEIGHTS[:7001]}
    assert fetched(HubSource(REPO, COMMIT)).filename == "pytorch_model.bin"


def test_asking_downloads_nothing(hub: LoopbackHub, cache: Path) -> None:
    file = ask(PINNED)
    assert (file.n_bytes, file.sha256, file.path) == (len(WEIGHTS), sha256(WEIGHTS), None)
    assert hub.gets() == []
    assert {method for method, *_ in hub.requests} == {"HEAD"}
    assert not cache.exists()


def test_a_cut_connection_goes_on_where_it_broke(hub: LoopbackHub, cache: Path) -> None:
    # the client stores chunks of 10 MiB: what broke off in the middle of one is fetched again, no more
    chunk, content = 10 * 2**20, np.random.default_rng(13).bytes(31_000_003)
    hub.repositories[REPO].files = {"model.safetensors": content}
    hub.cut_after, hub.cuts = 2 * chunk + 1009, 1
    try:
        file = fetched()
    except NetworkError:  # early clients go on only when they are asked again
        file = fetched()
    assert file.path is not None
    assert file.path.read_bytes() == content
    ranges = [asked for _, path, asked, _ in hub.gets() if path.startswith("/blobs/")]
    assert ranges == [None, f"bytes={2 * chunk}-"]
    assert hub.sent == len(content) + 1009
    assert leftovers(cache) == []


def test_a_hub_that_is_gone_in_the_middle_leaves_nothing_that_passes_for_the_file(
    hub: LoopbackHub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    hub.cut_after, hub.cuts = 0, 1000
    with (
        pytest.warns(ProspectorWarning, match="Downloading"),
        pytest.raises(NetworkError, match="owner/model cannot be had from the hub.*HTTPS_PROXY.*run the same again"),
    ):
        fetch(PINNED, "tiny")
    assert cached(PINNED) is None
    hub.cuts = 0
    assert fetched().path.read_bytes() == WEIGHTS  # type: ignore[union-attr]


def test_a_connection_that_is_reset_says_to_run_the_same_again(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    hub.cut_after, hub.cuts, hub.reset = 50_021, 1000, True
    with (
        pytest.warns(ProspectorWarning, match="Downloading"),
        pytest.raises(NetworkError, match="run the same again"),
    ):
        fetch(PINNED, "tiny")
    assert cached(PINNED) is None


def test_wrong_bytes_are_refused_and_removed_from_the_cache(hub: LoopbackHub) -> None:
    hub.wrong_bytes = True
    file = fetched()
    assert file.path is not None
    came = sha256(file.path.read_bytes())
    with pytest.raises(FileFormatError, match=f"must have the sha256 {sha256(WEIGHTS)}.*what came has {came}.*removed"):
        check_sha256(file, came)
    assert cached(PINNED) is None
    hub.wrong_bytes = False
    sound = fetched()
    check_sha256(sound, sha256(WEIGHTS))
    assert sound.path is not None
    assert sound.path.read_bytes() == WEIGHTS


def test_wrong_bytes_that_cannot_be_removed_are_named(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    file = fetched()

    def refused(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refused)
    with pytest.raises(
        FileFormatError, match=r"cannot be removed from the cache \(Permission denied\): delete .*blobs"
    ):
        check_sha256(file, "0" * 64)


def test_a_gated_model_without_a_login_names_page_and_login(hub: LoopbackHub) -> None:
    hub.repositories[REPO].access = "gated"
    with pytest.raises(
        AccessError, match=rf"gated.*Accept it at {hub.endpoint}/owner/model.*`hf auth login`.*HF_TOKEN"
    ):
        fetch(PINNED, "tiny")
    assert hub.gets() == []


def test_a_gated_model_whose_licence_is_not_accepted_names_the_page(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", GOOD_TOKEN)
    hub.repositories[REPO].access = "gated"
    with pytest.raises(
        AccessError, match=rf"no access yet. Accept the licence at {hub.endpoint}/owner/model"
    ) as refusal:
        fetch(PINNED, "tiny")
    assert GOOD_TOKEN not in str(refusal.value)


def test_a_gated_model_that_was_granted_is_read_and_its_store_sees_no_token(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", GOOD_TOKEN)
    hub.repositories[REPO] = replace(hub.repositories[REPO], access="gated", granted=True)
    assert fetched().path is not None
    seen = {path.startswith("/blobs/"): token for _, path, _, token in hub.requests}
    assert seen == {False: f"Bearer {GOOD_TOKEN}", True: None}


def test_a_token_that_the_hub_does_not_know_is_not_shown(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_outdatedSecret")
    with pytest.raises(AccessError, match="does not accept your token.*hf auth login") as refusal:
        fetch(PINNED, "tiny")
    assert "outdatedSecret" not in str(refusal.value)


def test_a_reason_that_repeats_the_token_is_blotted(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", GOOD_TOKEN)
    hub.repositories[REPO].access = "forbidden"
    with pytest.raises(AccessError, match="forbids to read owner/model: Your token … lacks a permission") as refusal:
        fetch(PINNED, "tiny")
    assert GOOD_TOKEN not in str(refusal.value)


@pytest.mark.parametrize("token", [None, GOOD_TOKEN])
def test_a_repository_that_is_not_there_or_private_says_both(
    token: str | None, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(MissingFileError, match="no repository owner/gone: there is none, or it is private"):
        fetch(replace(PINNED, repo_id="owner/gone"), "tiny")


def test_a_revision_that_is_not_there_is_named(hub: LoopbackHub) -> None:
    with pytest.raises(MissingFileError, match="must have the revision v9; the hub knows none"):
        fetch(replace(PINNED, revision="v9"), "tiny")


def test_a_file_that_is_not_there_is_named(hub: LoopbackHub) -> None:
    with pytest.raises(MissingFileError, match=r"must hold one of a\.safetensors, b\.bin; it holds none"):
        fetch(replace(PINNED, filenames=("a.safetensors", "b.bin")), "tiny")


def test_a_hub_that_is_down_says_so(hub: LoopbackHub) -> None:
    hub.status = 503
    with pytest.raises(NetworkError, match="answers with status 503 for owner/model. Try again later"):
        fetch(PINNED, "tiny")


def test_no_network_at_all_says_what_to_check(hub: LoopbackHub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        point_to(replace(hub, endpoint=f"http://127.0.0.1:{deaf.getsockname()[1]}"), cache, monkeypatch)
        with pytest.raises(NetworkError, match="Connect.*Check the network, HTTPS_PROXY and HF_ENDPOINT"):
            fetch(PINNED, "tiny")


def test_a_server_that_is_no_hub_is_not_trusted(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repositories[REPO].revisions = {}
    hub.status = 200
    with pytest.raises(NetworkError, match="does not answer as a model hub does. Check HF_ENDPOINT"):
        fetch(PINNED, "tiny")


@pytest.mark.parametrize("how", ["argument", "HF_HUB_OFFLINE"])
def test_offline_with_a_filled_cache_works_and_without_it_says_how_to_fill_it(
    how: str, hub: LoopbackHub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    downloaded = fetched()
    if how == "HF_HUB_OFFLINE":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.requests.clear()
    found = fetch(PINNED, "tiny", offline=how == "argument")
    assert (found.path, found.commit, found.sha256) == (downloaded.path, COMMIT, sha256(WEIGHTS))
    shutil.rmtree(cache)
    with pytest.raises(
        NetworkError,
        match=rf"not in the cache .*a cache, and this machine is offline.*`hf download owner/model model\.safetensors"
        rf" --revision {COMMIT}`, and copy models--owner--model.*--weights",
    ):
        fetch(PINNED, "tiny", offline=how == "argument")
    assert hub.requests == []


def test_asking_offline_is_refused(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(NetworkError, match="this machine is offline"):
        ask(PINNED)
    assert hub.requests == []


def test_a_file_that_cannot_fit_is_refused_before_a_byte_comes(hub: LoopbackHub, cache: Path) -> None:
    hub.pretended_size = 10**17
    with pytest.raises(StorageError, match=r"needs 1e\+08 GB; the disk of .*a cache has .* free. Free space"):
        fetch(PINNED, "tiny")
    assert hub.gets() == []
    assert not cache.exists()


def test_a_disk_that_fills_up_meanwhile_says_so_and_leaves_nothing(
    hub: LoopbackHub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = pytest.importorskip("resource")
    signal = pytest.importorskip("signal")
    before, on_signal = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_009, before[1]))
    try:
        with (
            pytest.warns(ProspectorWarning, match="Downloading"),
            pytest.raises(StorageError, match="disk of .*a cache is full: the weights of owner/model were not stored"),
        ):
            fetch(PINNED, "tiny")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, on_signal)
    assert cached(PINNED) is None


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_that_may_not_be_written_to_says_so(hub: LoopbackHub, cache: Path) -> None:
    cache.mkdir()
    cache.chmod(0o500)
    with (
        pytest.warns(ProspectorWarning, match="Downloading"),
        pytest.raises(StorageError, match="may not be written to.*HF_HUB_CACHE"),
    ):
        fetch(PINNED, "tiny")


def test_a_refusal_to_write_names_another_folder(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def refused(*args: object, **kwargs: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refused)
    with (
        pytest.warns(ProspectorWarning, match="Downloading"),
        pytest.raises(StorageError, match="may not be written to.*HF_HUB_CACHE"),
    ):
        fetch(PINNED, "tiny")


@pytest.mark.parametrize(
    ("n_bytes", "said"), [(None, "of unknown size"), (17, "17 bytes"), (5_300, "5.3 kB"), (2_720_000_000, "2.72 GB")]
)
def test_sizes_are_readable(n_bytes: int | None, said: str) -> None:
    assert readable_size(n_bytes) == said

"""What every test stands on: no network, the same random examples each run, and skips that cannot hide.

`PROSPECTOR_SHARED` names the folder of shared data and goldens (default: `shared` beside the checkout).
`PROSPECTOR_REQUIRE=gui,shared` turns a skip for want of a screen, or of that folder, into a failure, and
wants at least one test of each kind to pass.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

REPOSITORY = Path(__file__).resolve().parents[1]
GUI_FIXTURES = {"make_napari_viewer", "make_napari_viewer_proxy", "qapp", "qtbot"}
REQUIRED = {word for word in os.environ.get("PROSPECTOR_REQUIRE", "").split(",") if word}
KINDS = {"gui", "shared"}

# A model hub that is asked anyway answers "offline" at once, in child processes too.
os.environ["HF_HUB_OFFLINE"] = "1"
# Neither is what somebody once downloaded there for the tests to find.
os.environ["HF_HOME"] = os.environ["HF_HUB_CACHE"] = str(Path(tempfile.gettempdir()) / "no hub for tests")
# With it set, napari's canvas stays blank and a test of a screenshot passes blindly.
os.environ.pop("QT_QPA_PLATFORM", None)

settings.register_profile(
    "prospector", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)
settings.load_profile("prospector")

_passed: set[str] = set()


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a requirement that nobody knows."""
    if unknown := REQUIRED - KINDS:
        raise pytest.UsageError(f"PROSPECTOR_REQUIRE takes {sorted(KINDS)}; got {sorted(unknown)}.")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what opens windows."""
    for item in items:
        if GUI_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("gui")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what opens windows where there is no screen."""
    if item.get_closest_marker("gui") and not _has_screen():
        pytest.skip("no screen: install xvfb and the libraries that `make test` lists")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Turn the skip of a required test into a failure, and remember which kinds passed."""
    report: Any = yield
    missed = _kinds(item) & REQUIRED
    if report.skipped and missed:
        report.outcome = "failed"
        report.longrepr = f"PROSPECTOR_REQUIRE={','.join(sorted(missed))}, yet skipped: {call.excinfo}"
    if report.when == "call" and report.passed:
        _passed.update(_kinds(item))
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    """Turn the skip of a whole file into a failure where anything is required."""
    report: Any = yield
    if report.skipped and REQUIRED:
        report.outcome = "failed"
        report.longrepr = f"PROSPECTOR_REQUIRE is set, yet {collector.nodeid} skips all its tests: {report.longrepr}"
    return report


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail a run in which a required kind never passed."""
    if _unmet(session.config) and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say which required kind never passed."""
    if unmet := _unmet(config):
        terminalreporter.write_line(f"PROSPECTOR_REQUIRE: no test of {unmet} passed.", red=True)


def _unmet(config: pytest.Config) -> list[str]:
    """List the required kinds of which no test passed."""
    return [] if config.option.collectonly else sorted(REQUIRED - _passed)


def _kinds(item: pytest.Item) -> set[str]:
    """Which of the requirements a test belongs to."""
    kinds = {"shared"} if "shared" in getattr(item, "fixturenames", ()) else set()
    return kinds | ({"gui"} if item.get_closest_marker("gui") else set())


def _has_screen() -> bool:
    """Whether a window can open; pytest-xvfb sets DISPLAY where Xvfb is installed."""
    return not sys.platform.startswith("linux") or bool(os.environ.get("DISPLAY") or shutil.which("Xvfb"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared data and goldens."""
    folder = Path(os.environ.get("PROSPECTOR_SHARED", REPOSITORY.parent / "shared"))
    if not (folder / "golden").is_dir():
        pytest.skip(f"no shared data at {folder}: name the folder in PROSPECTOR_SHARED")
    return folder


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Close every socket but those that stay on this machine."""
    for method in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, method, _guarded(getattr(socket.socket, method)))
    look_up = socket.getaddrinfo

    def guarded_look_up(host: Any, *args: Any, **kwargs: Any) -> Any:
        _refuse_remote(host)
        return look_up(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", guarded_look_up)


def _guarded(method: Any) -> Any:
    """Wrap a method of a socket so that it refuses the address of another machine."""

    def guarded(self: socket.socket, *args: Any) -> Any:
        # The address is the last argument of all three; that of a Unix socket is a path.
        if self.family in (socket.AF_INET, socket.AF_INET6):
            _refuse_remote(args[-1][0])
        return method(self, *args)

    return guarded


def _refuse_remote(host: str | bytes | None) -> None:
    """Fail the test if `host` is another machine."""
    name = host.decode() if isinstance(host, bytes) else host
    if name in (None, "", "localhost"):
        return
    try:
        remote = not ipaddress.ip_address(name.partition("%")[0]).is_loopback
    except ValueError:
        remote = True
    if remote:
        pytest.fail(f"a test must not use the network; it asked for {name}")

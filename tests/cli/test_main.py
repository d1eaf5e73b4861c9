import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import click
import pytest

from napari_prospector.cli import main
from napari_prospector.cli.main import prospect as group
from napari_prospector.errors import ProspectorWarning

COMMANDS = [
    "demo",
    "doctor",
    "embed",
    "import",
    "fit",
    "map",
    "evaluate",
    "concepts",
    "view",
    "info",
    "quality",
    "verify",
    "encoders",
]


def test_the_commands_come_in_the_order_of_the_work() -> None:
    assert group.list_commands(click.Context(group))[: len(COMMANDS)] == COMMANDS


@pytest.mark.parametrize(
    "command", [[], *([name] for name in COMMANDS)], ids=lambda words: "".join(words) or "prospect"
)
def test_help_reads_well(command: list[str], prospect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    code, out, err = prospect(*command, "--help")
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 100
    assert "\\b" not in out
    assert "..." not in out.partition("Commands:")[2], "a short help was cut"
    assert "--json" in out or command == ["view"]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_does(name: str) -> None:
    command = group.get_command(click.Context(group), name)
    assert command is not None
    silent = [option.name for option in command.params if isinstance(option, click.Option) and not option.help]
    assert silent == []


@pytest.mark.parametrize("name", ["embed", "fit", "map", "evaluate", "view", "info", "demo"])
def test_every_help_ends_in_examples_that_parse(name: str) -> None:
    command = group.get_command(click.Context(group), name)
    assert command is not None
    lines = [line.split()[2:] for line in str(command.epilog).splitlines() if line.startswith("  prospect")]
    assert lines
    for words in lines:
        command.make_context(name, words)


def test_a_wrong_command_names_a_close_one(prospect: Any) -> None:
    code, _, err = prospect("embd")
    assert code == 2
    assert "There is no command 'embd'. Did you mean 'embed'?" in err


def test_wrong_usage_exits_with_2_and_as_json_where_asked(prospect: Any, prospect_json: Any) -> None:
    assert prospect("fit")[0] == 2
    code, found = prospect_json("fit")
    assert (code, found["exit_code"]) == (2, 2)
    assert "COHORT" in found["error"]


def test_version_is_that_of_the_package(prospect: Any) -> None:
    import napari_prospector

    assert napari_prospector.__version__ in prospect("--version")[1]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, click.Abort])
def test_an_interruption_exits_with_130(
    stop: type[BaseException], prospect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group, "invoke", _raising(stop()))
    code, out, err = prospect("info", "x")
    assert (code, out) == (130, "")
    assert "What was finished is kept" in err


def test_an_error_that_is_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "invoke", _raising(ZeroDivisionError("a bug")))
    with pytest.raises(ZeroDivisionError, match="a bug"):
        main(["info", "x"])


def test_a_warning_of_ours_is_a_note_without_a_place_in_the_source(
    prospect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def invoke(*_: Any) -> int:
        warnings.simplefilter("always")
        warnings.warn("Slow disk.", ProspectorWarning, stacklevel=1)
        return 0

    monkeypatch.setattr(group, "invoke", invoke)
    assert prospect("info", "x") == (0, "", "Note: Slow disk.\n")


def test_the_command_is_installed_and_a_missing_file_is_no_traceback() -> None:
    code = "import sys; from napari_prospector.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "info", "no such file"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Error: There is no no such file.")
    assert "Traceback" not in done.stderr


def test_what_a_terminal_cannot_print_is_escaped() -> None:
    code = "import sys; from napari_prospector.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "info", "größe→"],
        check=False,
        capture_output=True,
        env={"PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "1", "PATH": ""},
    )
    assert done.returncode == 1
    assert "größe".encode("latin-1") + b"\\u2192" in done.stderr


def test_encoders_lists_the_cards(prospect: Any, prospect_json: Any) -> None:
    assert "stain-texture" in prospect("encoders")[1]
    _, found = prospect_json("encoders")
    assert "mobilenetv2_100" in [card["name"] for card in found["encoders"]]


def _raising(error: BaseException) -> Callable[..., Any]:
    def invoke(*_: Any) -> Any:
        raise error

    return invoke

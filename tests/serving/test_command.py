"""`perank serve` refuses what it can't serve before it loads a model."""

from __future__ import annotations

import socket

import pytest

from perank.errors import BadInput
from perank.serving import command
from perank.serving.limits import Limits


@pytest.mark.parametrize(
    ("host", "port"),
    [("127.0.0.1", 99999), ("127.0.0.1", -1), ("no such host", 0), ("203.0.113.9", 0), ("a" * 70, 0)],
)
def test_an_address_that_cannot_be_listened_at_is_refused_before_anything_is_loaded(
    host: str, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "application", lambda options: pytest.fail("the model was loaded"))
    with pytest.raises(BadInput, match="can't listen at"):
        command.serve(["--host", host, "--port", str(port)])


def test_a_port_in_use_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(BadInput, match="Address already in use"):
            command.check_address("127.0.0.1", port)
    command.check_address("127.0.0.1", port)


def test_an_unknown_log_level_ends_with_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        command.serve(["--log-level", "2"])
    assert end.value.code == 2
    assert "choose from 'critical'" in capsys.readouterr().err


@pytest.mark.parametrize("seconds", [float("nan"), -1.0])
def test_seconds_are_numbers_from_zero_on(seconds: float) -> None:
    with pytest.raises(BadInput, match="max_seconds is"):
        Limits(max_seconds=seconds)

"""`pagein config`: every setting, its value in force, and where that comes from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.command import run_here

from pagein.config import SETTINGS


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in SETTINGS:
        monkeypatch.delenv(setting.variable, raising=False)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "settings.toml"
    path.write_text('size = "2 GiB"\ndirty_age_s = inf')
    monkeypatch.setenv("PAGEIN_CONFIG", str(path))
    return path


def test_every_setting_is_shown_with_its_value_its_origin_and_its_meaning(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAGEIN_DIRTY_LIMIT", "0.25")
    ended = run_here(capsys, "config")
    assert (ended.status, ended.err) == (0, "")
    rows = {line.split()[0]: line for line in ended.out.splitlines() if line.strip()}
    for setting in SETTINGS:
        assert setting.meaning[:20] in rows[setting.name]
    assert "2 GiB" in rows["size"]
    assert rows["dirty_limit"].split()[1:3] == ["0.25", "PAGEIN_DIRTY_LIMIT"]
    assert rows["debug"].split()[1:3] == ["false", "default"]
    assert ended.out.endswith(f"{file}: read\n")


def test_for_programs_it_is_json(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAGEIN_SZIE", "1 GiB")
    document = json.loads(run_here(capsys, "config", "--json").out, parse_constant=pytest.fail)
    assert list(document["settings"]) == [setting.name for setting in SETTINGS]
    assert document["settings"]["size"] == {"value": 2 << 30, "origin": str(file), "variable": "PAGEIN_SIZE"}
    assert document["settings"]["dirty_age_s"]["value"] == "inf"
    assert document["settings"]["debug"] == {"value": False, "origin": "default", "variable": "PAGEIN_DEBUG"}
    assert document["files"] == [{"path": str(file), "state": "read"}]
    assert document["misspelt_variables"] == {"PAGEIN_SZIE": "PAGEIN_SIZE"}


def test_a_variable_that_looks_misspelt_is_told_of(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAGEIN_SZIE", "1 GiB")
    assert run_here(capsys, "config").out.endswith("PAGEIN_SZIE is no setting: did you mean PAGEIN_SIZE?\n")


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_what_is_wrong_is_one_line_and_the_files_are_told_all_the_same(
    options: list[str], file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text("sizes = 1")
    ended = run_here(capsys, "config", *options)
    assert (ended.status, ended.out) == (1, "")
    assert ended.complaint.startswith(f"pagein: unknown key 'sizes' in {file} (did you mean 'size'?): known are ")
    ended = run_here(capsys, "config", "--path", *options)
    assert (ended.status, ended.out) == (0, f'["{file}"]\n' if options else f"{file}\n")

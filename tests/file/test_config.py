"""Configuration: an argument wins over the environment, that over a file, that over the default, setting by setting;
what cannot be used is told with its place and what is accepted.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pagein import PageCache, config
from pagein.config import DEBUG, DEBUG_READ_TIMEOUT_S, DIRTY_AGE_S, DIRTY_BACKGROUND, DIRTY_LIMIT, SETTINGS, SIZE

GIVEN: dict[str, tuple[str, str, Any]] = {  # in TOML, in a variable, and what both are
    "size": ('"3 MiB"', "3 MiB", 3 << 20),
    "dirty_background": ("0.05", "0.05", 0.05),
    "dirty_limit": ("1", "1", 1.0),
    "dirty_age_s": ("2.5", "2.5", 2.5),
    "revalidate": ('"never"', "never", "never"),
    "debug": ("true", "yes", True),
    "debug_read_timeout_s": ("7", "7", 7.0),
}


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in SETTINGS:
        monkeypatch.delenv(setting.variable, raising=False)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Named by PAGEIN_CONFIG, and still to be written."""
    path = tmp_path / "settings.toml"
    monkeypatch.setenv("PAGEIN_CONFIG", str(path))
    return path


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The user's file and the site's, each in a directory that is there."""
    monkeypatch.delenv("PAGEIN_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(config, "SITE_FILE", str(tmp_path / "site.toml"))
    (tmp_path / "home" / "pagein").mkdir(parents=True)
    return tmp_path / "home" / "pagein" / "pagein.toml", tmp_path / "site.toml"


# -- who wins ----------------------------------------------------------------------------------------


def test_with_nothing_configured_all_is_as_documented(places: tuple[Path, Path]) -> None:
    found = {setting.name: found for setting, found in config.in_force()}
    assert {origin for _, origin in found.values()} == {"default"}
    size_bytes = found.pop("size").value
    assert 0 < size_bytes <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4
    assert {name: value for name, (value, _) in found.items()} == {
        "dirty_background": 0.1, "dirty_limit": 0.2, "dirty_age_s": 30.0, "revalidate": "open",
        "debug": False, "debug_read_timeout_s": 30.0,
    }  # fmt: skip


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_an_argument_wins_over_a_variable_over_a_file_over_the_default(
    setting: config.Setting[Any], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_toml, in_variable, value = GIVEN[setting.name]
    file.write_text("")
    assert setting.found().origin == "default"
    other = {"size": 1 << 20, "debug": False}.get(setting.name, 0.5)
    toml = file.with_name("other.toml")
    toml.write_text(f"{setting.name} = {in_toml}")
    monkeypatch.setenv("PAGEIN_CONFIG", str(toml))
    assert setting.found() == (value, str(toml))
    monkeypatch.setenv(setting.variable, str(other).lower())
    assert setting.found() == (other, setting.variable)
    monkeypatch.setenv(setting.variable, in_variable)
    assert setting.found() == (value, setting.variable)
    assert setting.found(other) == (other, "argument")
    monkeypatch.setenv(setting.variable, "")  # as if it were not set
    assert setting.found() == (value, str(toml))


def test_a_cache_is_as_the_file_says(file: Path) -> None:
    file.write_text("\n".join(f"{name} = {toml}" for name, (toml, _, _) in GIVEN.items()))
    with PageCache() as cache:
        assert cache.stats().size_bytes == 3 << 20
        cap_pages = cache._zone.cap_pages
        assert cache._zone.dirty_limits == (int(cap_pages * 0.05), cap_pages, 2.5)
        assert cache._zone.checks is not None
        assert cache._zone.checks.read_timeout_s == 7.0
    with PageCache("1 MiB", dirty_background=0.1, dirty_limit=0.5, dirty_age_s=9, debug=False) as cache:
        assert cache.stats().size_bytes == 1 << 20
        assert cache._zone.dirty_limits == (25, 128, 9.0)
        assert cache._zone.checks is None


def test_the_users_file_wins_over_the_sites_key_by_key(places: tuple[Path, Path]) -> None:
    own, site = places
    own.write_text('size = "8 MiB"')
    site.write_text('size = "1 MiB"\ndirty_age_s = 5')
    assert SIZE.found() == (8 << 20, str(own))
    assert DIRTY_AGE_S.found() == (5.0, str(site))
    assert config.files() == [str(own), str(site)]


def test_a_named_file_is_the_only_one(places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    for path in places:
        path.write_text("size = 'not even read'")
    monkeypatch.setenv("PAGEIN_CONFIG", os.devnull)
    assert SIZE.found().origin == "default"


def test_no_file_is_read_from_the_working_directory(
    places: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pagein.toml").write_text("debug = true")
    monkeypatch.chdir(tmp_path)
    for home in (".", ""):  # the specification says: ignored unless it is absolute
        monkeypatch.setenv("XDG_CONFIG_HOME", home)
        assert str(tmp_path / "pagein.toml") not in map(os.path.abspath, config.files())
    monkeypatch.setenv("XDG_CONFIG_HOME", "")
    monkeypatch.setenv("HOME", "nowhere")
    assert config.files() == [config.SITE_FILE]


def test_without_xdg_config_home_it_is_dot_config(places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert config.files()[0] == "/home/somebody/.config/pagein/pagein.toml"


def test_a_file_is_read_once(file: Path) -> None:
    file.write_text("dirty_age_s = 5")
    assert DIRTY_AGE_S.found().value == 5
    file.write_text("dirty_age_s = 6")
    assert DIRTY_AGE_S.found().value == 5


def test_a_file_that_was_wrong_is_read_again(file: Path) -> None:
    file.write_text("dirty_age_s =")
    with pytest.raises(ValueError, match="TOML"):
        PageCache()
    file.write_text("dirty_age_s = 6")
    assert DIRTY_AGE_S.found().value == 6


# -- what contradicts --------------------------------------------------------------------------------


def test_who_only_lowers_the_limit_need_not_lower_where_write_back_begins(file: Path) -> None:
    file.write_text("dirty_limit = 0.04")
    with PageCache("1 MiB") as cache:
        assert cache._zone.dirty_limits[:2] == (5, 10)
    assert {setting.name: found.value for setting, found in config.in_force()}["dirty_background"] == 0.02


def test_two_that_contradict_are_both_named_with_their_places(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("dirty_limit = 0.3")
    monkeypatch.setenv("PAGEIN_DIRTY_BACKGROUND", "0.5")
    with pytest.raises(ValueError, match=r"^dirty_background \(0.5, PAGEIN_DIRTY_BACKGROUND\) must not be above ") as e:
        PageCache()
    assert str(e.value).endswith(f"dirty_limit (0.3, {file})")


# -- what cannot be used -----------------------------------------------------------------------------

WRONG_TEXT = [
    (SIZE, "much", "a number of bytes, or a string such as"),
    (SIZE, "-1", "a number of bytes"),
    (SIZE, "100", "at least one page"),
    (DIRTY_BACKGROUND, "1.5", "a share of the cache, from 0 to 1"),
    (DIRTY_BACKGROUND, "10%", "a share of the cache, from 0 to 1"),
    (DIRTY_LIMIT, "0", "a share of the cache, more than 0 and at most 1"),
    (DIRTY_LIMIT, "nan", "a share of the cache, more than 0 and at most 1"),
    (DIRTY_AGE_S, "-3", "a number of seconds, more than 0"),
    (DIRTY_AGE_S, "5 s", "a number of seconds, more than 0"),
    (DEBUG, "2", r"true or false \(in a variable also 1, yes, on, 0, no, off\)"),
    (DEBUG_READ_TIMEOUT_S, "inf", "a finite number of seconds, more than 0"),
]


@pytest.mark.parametrize(("setting", "text", "accepted"), WRONG_TEXT)
def test_a_variable_that_cannot_be_used_is_named(
    setting: config.Setting[Any], text: str, accepted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(setting.variable, text)
    with pytest.raises(ValueError, match=accepted) as raised:
        setting.found()
    assert str(raised.value).startswith(setting.variable)
    assert text in str(raised.value)


WRONG_TOML = [
    ("size", "1.5", "a number of bytes"),
    ("size", "true", "a number of bytes"),
    ("size", "4095", "at least one page"),
    ("dirty_background", '"0.1"', "a share of the cache, from 0 to 1"),
    ("dirty_limit", "true", "a share of the cache"),
    ("dirty_limit", "[0.1]", "a share of the cache"),
    ("dirty_limit", "1" * 400, "a share of the cache"),
    ("dirty_age_s", "2026-11-29", "a number of seconds"),
    ("debug", "1", "true or false"),
    ("debug", '"yes"', "true or false"),
]


@pytest.mark.parametrize(("key", "toml", "accepted"), WRONG_TOML)
def test_a_key_that_cannot_be_used_is_named_with_its_file(key: str, toml: str, accepted: str, file: Path) -> None:
    file.write_text(f"{key} = {toml}")
    with pytest.raises(ValueError, match=accepted) as raised:
        PageCache("1 MiB")  # also if something else is given
    assert str(raised.value).startswith(f"{key} in {file}")


@pytest.mark.parametrize(
    "arguments",
    [{"dirty_limit": "0.1"}, {"dirty_background": True}, {"dirty_age_s": [1]}, {"debug": "yes"}, {"size": 1.5}],
    ids=repr,
)
def test_an_argument_of_another_type_is_a_type_error(arguments: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=f"^{next(iter(arguments))} must be"):
        PageCache(**arguments)


@pytest.mark.parametrize(
    ("key", "said"),
    [("dirty_limits", r"\(did you mean 'dirty_limit'\?\): known are size, "), ("x", ": known are size")],
)
def test_an_unknown_key_is_an_error_that_names_the_nearest(key: str, said: str, file: Path) -> None:
    file.write_text(f"[{key}]")
    with pytest.raises(ValueError, match=f"^unknown key '{key}' in {file} ?{said}"):
        PageCache()


@pytest.mark.parametrize("content", [b"size = ", b"\xff\xfe", b"size = 1\nsize = 2", b"a = " + b"[" * 100_000])
def test_a_file_that_is_no_toml_is_named(content: bytes, file: Path) -> None:
    file.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{file} cannot be read as TOML: "):
        PageCache()


def test_a_file_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGEIN_CONFIG", "/dev/zero")
    with pytest.raises(ValueError, match=r"^/dev/zero cannot be read as TOML: it has more than 1048576 bytes"):
        PageCache()


def test_a_named_file_that_cannot_be_read_is_an_error(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FileNotFoundError, match="cannot read the settings of pagein") as raised:
        PageCache()
    assert raised.value.filename == str(file)
    monkeypatch.setenv("PAGEIN_CONFIG", str(tmp_path))
    with pytest.raises(IsADirectoryError, match="cannot read the settings of pagein"):
        PageCache()


def test_a_file_of_the_user_that_may_not_be_read_is_an_error_a_home_of_another_is_not(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    own, _ = places
    own.mkdir()  # root may read everything, but no directory
    with pytest.raises(OSError, match="cannot read the settings of pagein") as raised:
        PageCache()
    assert (raised.value.errno, raised.value.filename) == (errno.EISDIR, str(own))
    (own.parent.parent / "file").write_text("")
    monkeypatch.setenv(
        "XDG_CONFIG_HOME", str(own.parent.parent / "file")
    )  # ENOTDIR, as EACCES: nothing of ours is in it
    assert SIZE.found().origin == "default"


# -- the process -------------------------------------------------------------------------------------


def test_nothing_is_read_at_import(tmp_path: Path) -> None:
    program = "import sys, pagein; assert 'tomllib' not in sys.modules; pagein.default_cache()"
    broken = tmp_path / "settings.toml"
    broken.write_text("size = 'much'")
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PAGEIN_CONFIG": str(broken)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.stderr.splitlines()[-1].startswith(f"ValueError: size in {broken} must be a number of bytes")
    assert "default_cache" in ended.stderr


def test_variables_that_look_like_a_setting_are_told_of_and_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PAGEIN_SZIE", "PAGEIN_PORT_80_TCP", "PAGEIN_KILL_SEED", "pagein_debug"):
        monkeypatch.setenv(name, "1")
    assert config.misspelt_variables() == {"PAGEIN_SZIE": "PAGEIN_SIZE", "pagein_debug": "PAGEIN_DEBUG"}


# -- how much memory there is ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("groups", "files", "limits"),
    [
        ("0::/\n", {"memory.max": "max\n"}, []),
        ("0::/\n", {"memory.max": "4096000\n"}, [4096000]),
        (
            "0::/system.slice/a.service\n",
            {"system.slice/a.service/memory.max": "5000000", "system.slice/memory.max": "max", "memory.max": "7000000"},
            [5000000, 7000000],
        ),
        ("0::/../job\n", {"memory.max": "6000000"}, [6000000]),
        (
            "5:cpu,memory:/slurm/job_1\n3:cpuset:/\n0::/\n",
            {"memory/slurm/memory.limit_in_bytes": "8000000", "memory/memory.limit_in_bytes": str((1 << 63) - 4096)},
            [8000000, (1 << 63) - 4096],
        ),
        ("4:memory:/docker/seen-from-outside\n", {"memory/memory.limit_in_bytes": "9000000"}, [9000000]),
        ("nonsense\n\n", {"memory.max": "1"}, []),
        (None, {"memory.max": "1"}, []),
    ],
    ids=["none", "a container", "a unit and above", "outside", "version 1", "docker", "nonsense", "no"],
)
def test_the_default_heeds_each_control_group_that_the_process_is_in(
    tmp_path: Path, groups: str | None, files: dict[str, str], limits: list[int]
) -> None:
    for name, text in files.items():
        (tmp_path / "mount" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mount" / name).write_text(text)
    if groups is not None:
        (tmp_path / "groups").write_text(groups)
    assert list(config._group_limits(str(tmp_path / "groups"), str(tmp_path / "mount"))) == limits


def test_the_default_is_a_quarter_of_the_least_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "_group_limits", lambda: iter([1 << 62, 8 << 20]))
    assert config._default_cap_bytes() == 2 << 20

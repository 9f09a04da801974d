"""What a copy is called in the directory, or below the URL, that it goes into."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.command import run_here

from pagein.cli.places import below, place_of, target_of

fsspec = pytest.importorskip("fsspec")


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("some/where/a#b?c.csv", "a#b?c.csv"),
        ("https://host/dir/a.csv?token=x/y#z", "a.csv"),
        ("https://host/dir/", "dir"),
        ("http://[::1]:80/dir/a::b.csv", "a::b.csv"),
        ("s3://bucket/dir/a#b?c.csv", "a#b?c.csv"),
        ("s3://bucket/dir/a::b", "a::b"),
        ("memory://dir/a#b.csv", "a#b.csv"),
        ("memory://a.csv", "a.csv"),
        ("zip://m/a.csv::file:///some/arch.zip", "a.csv"),
        ("zip://a.csv::arch.zip", "a.csv"),
        ("simplecache::https://host/a.csv", "a.csv"),
        ("simplecache::zip://m/a.csv::https://host/arch.zip", "a.csv"),
        ("file:///dir/u%20v%23.txt", "u v#.txt"),
        ("file:u%20v.txt", "u v.txt"),
    ],
)
def test_a_copy_has_the_name_of_what_is_copied(source: str, name: str, tmp_path: Path) -> None:
    if source.startswith("s3:"):
        pytest.importorskip("obstore")
    assert target_of(place_of(source), str(tmp_path)) == str(tmp_path / name)
    assert target_of(place_of(source), f"{tmp_path}/not-yet/") == str(tmp_path / "not-yet" / name)


@pytest.mark.parametrize("source", ["https://host", "https://host/?a=b", "zip://::arch.zip", "/", "dir/.."])
def test_what_has_no_name_must_be_given_one(source: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no name that a copy could have"):
        target_of(source, str(tmp_path))


@pytest.mark.parametrize(
    ("place", "relative", "called"),
    [
        ("dir", "a/b c", "dir/a/b c"),
        ("s3://bucket", "a#b?c::d%20e", "s3://bucket/a#b?c::d%20e"),
        ("s3://bucket/p/", "a/b", "s3://bucket/p/a/b"),
        ("https://host/p", "a/b c?d#e%", "https://host/p/a/b%20c%3Fd%23e%25"),
        ("memory://", "a/b", "memory://a/b"),
        ("memory://dir/", "a#b?c", "memory://dir/a#b?c"),
        ("local:///", "a", "local:///a"),
        ("pagein::memory://dir", "a", "pagein::memory://dir/a"),
        ("ftp://host/dir", "a#b", "ftp://host/dir/a#b"),
    ],
)
def test_a_file_below_a_place_is_called(place: str, relative: str, called: str) -> None:
    if place.startswith("s3:"):
        pytest.importorskip("obstore")
    assert below(place, relative) == called


@pytest.mark.parametrize(
    ("place", "relative", "why"),
    [
        ("memory://dir", "a::b", "takes what follows '::' for another"),
        ("ftp://host/dir", "a?b", "takes ftp://host/dir/a?b for /dir/a"),
        ("s3://bucket", "a\udcff", "no UTF-8"),
    ],
)
def test_what_would_be_read_as_another_is_refused(place: str, relative: str, why: str) -> None:
    if place.startswith("s3:"):
        pytest.importorskip("obstore")
    with pytest.raises(ValueError, match=why.replace("?", r"\?")):
        below(place, relative)


def test_keys_that_look_like_fragments_do_not_overwrite_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe({"/places/a#b.csv": b"b", "/places/a#c.csv": b"c"})
    try:
        for name in ("a#b.csv", "a#c.csv"):
            assert run_here(capsys, "cp", f"memory://places/{name}", f"file://{tmp_path}").status == 0
    finally:
        memory.rm("/places", recursive=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a#b.csv": b"b", "a#c.csv": b"c"}

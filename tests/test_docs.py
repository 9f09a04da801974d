"""What the documentation shows works: its Python blocks run, in order, as written."""

import codeop
import importlib.util
import inspect
import json
import os
import re
import sqlite3
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from typing import Any, get_args

import fsspec
import pytest
from tests import store_clauses
from tests.ecosystem.cases import MAKES

import pagein.testing
from pagein import config, default
from pagein.testing import Link, Request
from pagein.testing.faulty import Kind
from pagein.testing.httpserver import RangeServerProcess

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: str) -> list[str]:
    found = BLOCK.findall((ROOT / page).read_text())
    assert found, f"no Python in {page}"
    return found


@pytest.fixture(autouse=True)
def in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(page: str, instead: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What the page has defined in the end; *instead* of what is written, something else."""
    names: dict[str, Any] = {}
    for block in blocks(page):
        if "from torch" in block and importlib.util.find_spec("torch") is None:
            continue
        code = block
        for written, meant in (instead or {}).items():
            code = code.replace(written, meant)
        exec(compile(code, page, "exec"), names)
    return names


def test_the_stores_of_the_how_to_bring_their_pages(capsys: pytest.CaptureFixture[str]) -> None:
    data = os.urandom(999_000).replace(b"\n", b"") + b"\nthe rest"
    with closing(sqlite3.connect("files.db")) as db, db:
        db.execute("CREATE TABLE files (data BLOB)")
        for _ in range(7):
            db.execute("INSERT INTO files VALUES (?)", (data.ljust(1_000_000),))
    names = run("docs/how-to/write-your-own-store.md")
    assert capsys.readouterr().out == f"{data[: data.index(10) + 1]!r}\n"

    with names["cache"].inode(names["Counting"](), size_bytes=1 << 20).open() as file:
        assert file.pread(16, 8192) == b"0000000200000002"

    class Client:
        def fetch(self, offset: int, size_bytes: int) -> "Future[bytes]":
            future: Future[bytes] = Future()
            if offset:
                future.set_exception(ConnectionResetError("gone"))
            else:
                future.set_result(b"x" * size_bytes)
            return future

    with names["cache"].inode(names["Later"](Client()), size_bytes=8192).open() as file:
        assert file.read(4096) == b"x" * 4096
        with pytest.raises(ConnectionResetError, match="gone"):
            file.read(1)
    names["cache"].close()


def test_the_tutorial_runs_as_it_stands() -> None:
    run("docs/tutorial/first-steps.md")


def test_the_tutorial_can_be_pasted_into_an_interpreter() -> None:
    """Which takes it line by line, and wants an empty one behind a block."""
    for block in blocks("docs/tutorial/first-steps.md"):
        lines: list[str] = []
        for line in [*block.splitlines(), ""]:
            lines.append(line)
            if codeop.compile_command("\n".join(lines), "<stdin>") is not None:
                lines = []
        assert not any(lines), "an empty line behind it ends it"


def test_the_asyncio_how_to_runs_as_it_stands() -> None:
    run("docs/how-to/asyncio.md")


def test_the_fsspec_how_to_runs_as_it_stands() -> None:
    run("docs/how-to/fsspec.md")


@pytest.mark.filterwarnings("default")  # the other projects' warnings are theirs
@pytest.mark.parametrize(
    ("page", "packages", "files"),
    [
        ("pandas", ["pandas", "pyarrow"], ["table.parquet", "table.csv"]),
        ("pyarrow", ["pyarrow"], ["part-0.parquet"]),
        ("polars", ["polars", "pyarrow"], ["table.parquet"]),
        ("duckdb", ["duckdb", "pyarrow"], ["table.parquet"]),
        ("zarr-and-xarray", ["zarr", "xarray"], ["cube.zarr"]),
        ("obstore", ["zarr", "xarray", "h5py", "virtualizarr"], ["data.h5"]),
        ("h5py", ["h5py"], ["data.h5"]),
        ("numpy", [], ["array.npy"]),
        ("archives", [], ["archive.zip", "archive.tar"]),
        ("pillow", ["PIL"], ["picture.png"]),
        ("pytorch", [], ["samples.bin"]),
        ("dask", ["dask.dataframe", "pandas", "pyarrow"], ["part-0.parquet"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_how_to_of_a_project_runs_over_a_real_server(
    page: str, packages: list[str], files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in packages:
        pytest.importorskip(package)
    for file in files:
        MAKES[file](tmp_path, 1)
    with RangeServerProcess(tmp_path) as server, pagein.PageCache("64 MiB") as cache:
        monkeypatch.setattr(default, "_cache", cache)
        instead = {
            # obstore must be told that http: is meant.
            'cube.zarr")\n': 'cube.zarr", client_options={"allow_http": True})\n',
            "from_url(place)": 'from_url(place, client_options={"allow_http": True})',
            "https://host/data": server.base_url,
        }
        names = run(f"docs/how-to/{page}.md", instead)
        if page == "numpy":
            names.clear()  # an array over a view keeps its pages
        fsspec.get_filesystem_class("pagein").clear_instance_cache()


def test_the_how_to_of_checks_finds_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    run("docs/how-to/check-your-store.md")
    broken = [line for line in capsys.readouterr().out.splitlines() if line.startswith("BROKEN")]
    assert broken == ["BROKEN R14: a page is not written to after it was released"]


def test_the_how_to_of_interleavings_finds_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    names = run("docs/how-to/explore-interleavings.md")
    printed = capsys.readouterr().out
    assert "AssertionError: a page of two versions\n" in printed
    assert "\nrepeat with Prescribed({" in printed
    assert names["found"].repeat in printed
    assert re.findall(r"^\d+ schedules", printed, re.MULTILINE)[1:] == ["200 schedules", "200 schedules"]


def test_every_clause_has_its_section() -> None:
    assert store_clauses.PAGE.read_text() == store_clauses.page(), "python -m tests.store_clauses"


def test_the_writable_store_of_the_how_to_keeps_what_it_is_given() -> None:
    names: dict[str, Any] = {}
    exec(blocks("docs/how-to/a-writable-store.md")[1], names)  # the first is about a bucket
    data = os.urandom(10_000)
    with pagein.PageCache("1 MiB") as cache, cache.inode(names["Rows"]("rows.db"), size_bytes=0).open("r+b") as file:
        file.write(data)
        file.truncate(9_000)
        file.fsync()
    with pagein.PageCache("1 MiB") as cache, cache.inode(names["Rows"]("rows.db"), size_bytes=9_000).open() as file:
        assert file.read() == data[:9_000]


def test_the_configuration_is_as_the_reference_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in config.SETTINGS:
        monkeypatch.setenv(setting.variable, "")  # what the page sets is taken back afterwards
        assert f"| `{setting.name}`" in (ROOT / "docs/reference/configuration.md").read_text()
        assert f"| `{setting.variable}` |" in (ROOT / "docs/reference/configuration.md").read_text()
    monkeypatch.setenv("PAGEIN_CONFIG", os.devnull)
    run("docs/reference/configuration.md")


def test_an_error_of_write_back_is_told_as_the_explanation_says() -> None:
    run("docs/explanation/writeback.md")


def test_what_the_cache_does_is_seen_as_the_how_to_says() -> None:
    names = run("docs/how-to/see-what-the-cache-does.md")
    names["cache"].close()
    names["REGISTRY"].unregister(next(one for one in names["REGISTRY"]._collector_to_names if "PageCache" in repr(one)))
    assert any(event.get("cat") == "read" for event in json.loads(Path("trace.json").read_text()))


def test_slow_and_failing_stores_are_as_the_how_to_says() -> None:
    run("docs/how-to/test-against-a-slow-or-failing-store.md")


def test_the_public_testing_tools_are_in_the_reference() -> None:
    page = (ROOT / "docs/reference/testing.md").read_text()
    tools = [
        name for name, tool in vars(pagein.testing).items() if getattr(tool, "__module__", "").startswith("pagein.")
    ]
    for name in ("ContractSuite", *tools):
        assert f"`{name}" in page or name.startswith("_"), f"{name} is public and stands not in the reference"
    for kind in get_args(Kind):
        assert f"`{kind}`" in page
    for option in (*inspect.signature(Link).parameters, *vars(Request("open", "a", 0, 0, 0.0))):
        assert f"`{option}" in page, option
    run("docs/reference/testing.md")


def test_a_file_that_has_changed_is_stale_as_the_explanation_says() -> None:
    run("docs/explanation/freshness.md")


def test_the_example_of_the_readme_runs_as_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    names = run("README.md")
    assert "CacheStats(" in capsys.readouterr().out
    with names["cache"].open((names["store"], "numbers.bin")) as file:
        assert (file.read(3), file.pread(2, 1_000_000)) == (b"\xff\xfe\2", b"!A")
    names["cache"].close()


def test_every_page_of_the_documentation_is_found_from_its_index_and_no_link_is_dead() -> None:
    linked = {ROOT / "docs/index.md"}
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", page.read_text()):
            path = (page.parent / target).resolve()
            assert path.exists(), f"{page.relative_to(ROOT)} links to {target}"
            if "index" in page.name:
                linked.add(path)
    missing = set((ROOT / "docs").rglob("*.md")) - linked
    assert not missing


def test_every_test_file_that_the_documentation_names_is_there() -> None:
    """By its name, or, as a pattern, one at least."""
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for named in re.findall(r"\btests/[\w/.*-]*[\w*]", page.read_text()):
            assert any(ROOT.glob(named)), f"{page.relative_to(ROOT)} names {named}"


def test_what_is_public_is_documented() -> None:
    pages = "".join(page.read_text() for page in (ROOT / "docs").rglob("*.md"))
    for name in pagein.__all__:
        assert name in pages, f"{name} is public and stands nowhere in docs/"


def test_the_readme_shows_what_make_bench_printed() -> None:
    shown = (ROOT / "README.md").read_text().partition("<!-- what make bench printed: begin -->")[2]
    table = shown.partition("<!-- what make bench printed: end -->")[0].strip()
    assert table.startswith("| what ")
    assert table in (ROOT / "benchmarks/results.md").read_text()

"""The demo's parts: what it packs, how it finds wrong members, and what it says about them."""

from __future__ import annotations

import hashlib
import io
import re
import sysconfig
import tarfile
from pathlib import Path
from typing import Any

import pytest
from tests.cli.command import StuckObjects
from tests.cli.test_demo import MEMBERS, TAR, flipped, tar_of

from pagein.cli.demo.archive import library_files, pack_library
from pagein.cli.demo.contenders import Contender, Cost, Fsspec, Pagein, PlainRanges
from pagein.cli.demo.contest import Contest, Score
from pagein.cli.demo.reference import Member, Reference, is_tar, members_of
from pagein.cli.demo.report import row, sentence
from pagein.testing.httpserver import RangeServer

LIBRARY = Path(sysconfig.get_path("stdlib"))


def reference_of(members: dict[str, bytes]) -> Reference:
    found = [Member(name, hashlib.sha256(data).hexdigest(), len(data)) for name, data in members.items()]
    return Reference(what="a test", members=found, size_bytes=0, is_tar=True)


# -- packing -----------------------------------------------------------------------------------------


def test_the_library_is_packed_whole_but_for_what_was_compiled_or_installed() -> None:
    files = library_files(LIBRARY)
    assert files == sorted(files)
    assert {LIBRARY / "os.py", LIBRARY / "json" / "decoder.py"} <= set(files)
    assert not [path for path in files if "__pycache__" in path.parts or "site-packages" in path.parts]


def test_a_sample_is_the_same_every_time_and_its_digests_are_those_of_the_disk(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    reference = pack_library(tmp_path / "a.tar", 25, lambda done, total: told.append((done, total)))
    again = pack_library(tmp_path / "b.tar", 25, lambda done, total: None)
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    assert reference == again
    assert len(reference.members) == 25
    for member in reference.members:
        data = (LIBRARY / member.name).read_bytes()
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (member.sha256, member.size_bytes)
    with (tmp_path / "a.tar").open("rb") as file:
        assert list(members_of(file, is_tar=True, report=lambda size_bytes: None)) == reference.members
    assert told[-1] == (reference.member_bytes, reference.member_bytes)
    assert "25 files of Python's standard library (of " in reference.what


def test_a_library_that_is_small_enough_is_packed_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(LIBRARY / "json"))
    reference = pack_library(tmp_path / "a.tar", 1000, lambda done, total: None)
    assert [member.name for member in reference.members] == [path.name for path in library_files(LIBRARY / "json")]
    assert "chosen" not in reference.what


def test_what_cannot_be_read_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "library"
    root.mkdir()
    for name in ("a.py", "b.py", "c.py"):
        (root / name).write_text(name)
    (root / "link.py").symlink_to(root / "a.py")
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(root))
    read_bytes = Path.read_bytes

    def refuse_b(path: Path) -> bytes:
        if path.name == "b.py":
            raise PermissionError
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", refuse_b)
    reference = pack_library(tmp_path / "a.tar", 1000, lambda done, total: None)
    assert [member.name for member in reference.members] == ["a.py", "c.py"]


def test_a_tar_is_told_from_what_is_none() -> None:
    assert is_tar(io.BytesIO(TAR))
    for data in (b"", b"x" * 10_000, TAR[7:]):
        assert not is_tar(io.BytesIO(data))


# -- the walk ----------------------------------------------------------------------------------------

KINDS = [Pagein, PlainRanges, Fsspec]
HEADER_BYTES = 512


def score_of(kind: Any, served: bytes, reference: Reference, *, thread_count: int = 2) -> Score:
    with RangeServer({"a.tar": served}) as server:
        contender: Contender = kind(server.url("a.tar"))
        try:
            return Contest(contender, reference, thread_count=thread_count).run(lambda read_bytes: None)
        finally:
            contender.close()


@pytest.mark.parametrize("kind", KINDS)
def test_right_bytes_have_no_wrong_member_and_all_were_checked(kind: Any) -> None:
    score = score_of(kind, TAR, reference_of(MEMBERS), thread_count=4)
    assert (score.wrong_members, score.checked_members, score.error) == (0, 4 * len(MEMBERS), None)
    assert score.read_bytes == 4 * sum(map(len, MEMBERS.values()))
    assert score.cost.requests > 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at", [0, 100, 999])
def test_one_flipped_byte_of_one_member_is_one_wrong_member_a_thread(kind: Any, at: int) -> None:
    served = flipped(TAR, TAR.index(MEMBERS["dir/1"]) + at)
    score = score_of(kind, served, reference_of(MEMBERS))
    assert (score.wrong_members, score.checked_members) == (2, 2 * len(MEMBERS))


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_header_makes_its_member_and_all_that_follow_wrong(kind: Any) -> None:
    broken = flipped(TAR, TAR.index(MEMBERS["dir/10"]) - HEADER_BYTES)  # its name, so that its checksum is wrong
    score = score_of(kind, broken, reference_of(MEMBERS))
    assert (score.wrong_members, score.checked_members) == (2 * 20, 2 * len(MEMBERS))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("served", "wrong_members"),
    [
        (tar_of({name: MEMBERS[name] for name in list(MEMBERS)[:-3]}), 3),  # missing at the end
        (tar_of(MEMBERS | {"one more": b"x"}), 1),
        (tar_of({**dict.fromkeys(["renamed"], b""), **dict(list(MEMBERS.items())[1:])}), 1),
        (TAR[: TAR.index(MEMBERS["dir/20"]) + 5], 10),  # breaks off in the middle of a member
        (b"no tar at all" * 100, 30),
    ],
    ids=["missing", "one more", "renamed", "broken off", "no tar"],
)
def test_members_that_are_missing_or_too_many_or_have_another_name_are_wrong(
    kind: Any, served: bytes, wrong_members: int
) -> None:
    assert score_of(kind, served, reference_of(MEMBERS)).wrong_members == 2 * wrong_members


@pytest.mark.parametrize("kind", KINDS)
def test_a_contender_that_cannot_read_has_an_error_and_no_right_members(kind: Any) -> None:
    with RangeServer({}) as server:
        contender = kind(server.url("absent"))
        score = Contest(contender, reference_of(MEMBERS), thread_count=3).run(lambda read_bytes: None)
        contender.close()
    assert isinstance(score.error, FileNotFoundError)
    assert score.checked_members == 0


def test_one_that_is_too_slow_is_stopped_and_the_table_says_how_far_it_came() -> None:
    objects = StuckObjects({"a.tar": TAR}, answers=20)
    with RangeServer(objects) as server:
        contest = Contest(PlainRanges(server.url("a.tar")), reference_of(MEMBERS), thread_count=2)
        score = contest.run(lambda read_bytes: None, limit_s=0.05)
        objects.answer_all()
    assert score.was_stopped
    assert 0 < score.checked_members < 2 * len(MEMBERS)
    assert score.wrong_members == 0
    assert re.fullmatch(r"0 \(stopped, at \d+ %\)", row(score, reference_of(MEMBERS), 2)[-1])


def test_progress_is_told_and_never_goes_back() -> None:
    told: list[int] = []
    with RangeServer({"a.tar": TAR}, latency_s=0.005) as server:
        contender = PlainRanges(server.url("a.tar"))
        Contest(contender, reference_of(MEMBERS), thread_count=4).run(told.append)
    assert told == sorted(told)
    assert told[-1] == 4 * sum(map(len, MEMBERS.values()))


def test_the_plain_file_is_a_file_and_asks_once_for_each_read() -> None:
    with RangeServer({"a.tar": TAR}) as server:
        contender = PlainRanges(server.url("a.tar"))
        with contender.open() as file:
            server.reset()
            assert file.read(100) == TAR[:100]
            assert file.seek(-50, 2) == len(TAR) - 50
            assert file.read(100) == TAR[-50:]
            assert file.read(100) == b""
            assert (file.seek(5), file.seek(5, 1), file.tell()) == (5, 10, 10)
            assert server.stats().get_count == 2
            assert server.stats().sent_bytes == 150
        assert contender.cost() == Cost(2, 150)


def test_pagein_s_threads_share_what_one_of_them_fetched() -> None:
    with RangeServer({"a.tar": TAR}) as server:
        contender = Pagein(server.url("a.tar"))
        score = Contest(contender, reference_of(MEMBERS), thread_count=8).run(lambda read_bytes: None)
        contender.close()
        assert score.wrong_members == 0
        assert server.stats().sent_bytes == score.cost.downloaded_bytes <= len(TAR)


# -- what is said ------------------------------------------------------------------------------------


def scored(contender: Any, *, wrong: int = 0, requests: int = 10, error: Exception | None = None) -> Score:
    return Score(contender, 1.0, wrong, 100, 0, Cost(requests, 1 << 20), error)


def test_the_sentence_claims_only_what_the_numbers_say() -> None:
    reference = reference_of({"a": bytes(1 << 20)})
    right = "Every byte was right: through pagein, 4 threads read 4 MiB and fetched 1 MiB"
    assert sentence([scored(Pagein)], reference, 4) == f"{right}."
    assert (
        sentence([scored(Pagein), scored(PlainRanges, requests=5000), scored(Fsspec, requests=50)], reference, 4)
        == f"{right}, in 10 requests instead of the 5,000 of plain range reads."
    )
    assert sentence([scored(Pagein), scored(PlainRanges, requests=9)], reference, 4) == f"{right}."
    failed = scored(PlainRanges, requests=5000, error=OSError("broken"))
    assert sentence([scored(Pagein), failed], reference, 4) == f"{right}."
    assert row(failed, reference, 100)[-1] == "0 (failed, at 100 %)"
    for scores in ([scored(Pagein, wrong=3)], [scored(Pagein), scored(Fsspec, wrong=3)]):
        assert sentence(scores, reference, 4).startswith("WRONG BYTES")


def test_a_tar_of_the_demo_is_what_tarfile_writes() -> None:
    with tarfile.open(fileobj=io.BytesIO(TAR)) as archive:
        assert archive.getnames() == list(MEMBERS)

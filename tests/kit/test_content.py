"""What a checked store is given to store shows each mistake, however small."""

from __future__ import annotations

from pagein.testing.contract.content import content, turned
from pagein.units import PAGE_SIZE

SIZE = 17 * PAGE_SIZE + 321


def test_no_byte_is_zero() -> None:
    assert all(0 not in content(0, SIZE, version=version) for version in range(260))
    assert 0 not in turned(content(0, SIZE, version=254))


def test_every_byte_of_another_version_is_another() -> None:
    whole = [content(0, SIZE, version=version) for version in range(255)]
    assert all(len(set(values)) == len(values) for values in zip(*whole, strict=True))
    assert [turned(one) for one in whole] == [*whole[1:], whole[0]]


def test_each_place_has_bytes_of_its_own() -> None:
    whole = content(0, SIZE)
    assert all(whole.find(whole[at : at + 16]) == at for at in range(0, SIZE - 16, 97))
    assert all(content(at, size) == whole[at : at + size] for at in (0, 1, 4095, 4096, 8000) for size in (0, 1, 5000))

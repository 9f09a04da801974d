"""What the projects read, each as its users would: one function makes the files, one reads them through a `Door`.

Guarantees: what is read is compared as plain Python values, and comes out the same by every door or is wrong.
Each case imports its project where it uses it.
Assumes: the directory for the files is empty, and one case's own.
"""

from __future__ import annotations

import hashlib
import io
import random
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.ecosystem.doors import Door, LocalCopy, PageinFiles, PageinProtocol, PageinStore, PlainFsspec, PlainObstore

SEED = 20_091
COLUMNS = 8
WORKERS = 2


class Case(NamedTuple):
    """One way in which one project reads."""

    title: str
    packages: tuple[str, ...]
    """What has to be there for it."""
    make: Callable[[Path, int], None]
    """Writes its files: some MB for each unit of the second argument."""
    read: Callable[[Door], Any]
    doors: tuple[type[Door], ...] = (PageinFiles, PageinProtocol)
    """Of pagein, by which it is read."""
    plain: type[Door] = PlainFsspec
    """What they are measured beside."""
    in_processes: bool = False
    """Whether processes of the project's own read, of which each has a cache of its own."""


# -- tables ----------------------------------------------------------------------------------------------------------


def _make_table(directory: Path, size: int) -> None:
    _write_table(directory / "table.parquet", size * 60_000, first=0)


def _make_tables(directory: Path, size: int) -> None:
    for number in range(4):
        _write_table(directory / f"part-{number}.parquet", size * 15_000, first=number * size * 15_000)


def _write_table(path: Path, row_count: int, *, first: int) -> None:
    """Ten row groups of numbers that do not compress, in the order of their ``id``."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    draw = np.random.default_rng(SEED + first)
    columns = {f"c{number}": draw.random(row_count) for number in range(COLUMNS - 1)}
    table = pa.table({"id": np.arange(first, first + row_count), **columns})
    pq.write_table(table, path, row_group_size=row_count // 10, compression="none", use_dictionary=False)


def _make_csv(directory: Path, size: int) -> None:
    draw = random.Random(SEED)
    with open(directory / "table.csv", "w") as file:
        file.write("id,name,value\n")
        for number in range(size * 50_000):
            file.write(f"{number},name-{number % 97},{draw.random()}\n")


def _pandas_parquet(door: Door) -> Any:
    import pandas as pd

    with door.given("table.parquet") as table:
        return pd.read_parquet(table, columns=["id", "c3"]).to_dict("list")


def _pandas_csv(door: Door) -> Any:
    import pandas as pd

    with door.given("table.csv") as table:
        return pd.read_csv(table).to_dict("list")


def _pyarrow_dataset(door: Door) -> Any:
    import pyarrow.dataset as ds

    parts = [door.where(f"part-{number}.parquet") for number in range(4)]
    dataset = ds.dataset(parts, filesystem=door.filesystem)
    last = dataset.count_rows() - 1
    return dataset.to_table(columns=["id", "c1"], filter=ds.field("id") > last - 100).to_pydict()


def _polars(door: Door) -> Any:
    import polars as pl

    with door.open("table.parquet") as file:
        table = pl.scan_parquet(file).select(pl.col("c2").max(), pl.col("id").sum()).collect()
    return table.to_dict(as_series=False)


def _duckdb(door: Door) -> Any:
    import duckdb

    with duckdb.connect() as connection:
        table = door.for_duckdb(connection, "table.parquet")
        return connection.execute(f"SELECT sum(id), max(c5) FROM '{table}' WHERE id % 2 = 0").fetchall()


def _dask(door: Door) -> Any:
    import dask.dataframe as dd

    table = dd.read_parquet([door.url(f"part-{number}.parquet") for number in range(4)], columns=["id", "c4"])
    scheduler = "sync" if isinstance(door, LocalCopy) else "processes"
    table = table.compute(scheduler=scheduler, num_workers=WORKERS)
    return table.sort_values("id").to_dict("list")


# -- arrays ----------------------------------------------------------------------------------------------------------


def _make_zarr(directory: Path, size: int) -> None:
    import numpy as np
    import xarray as xr

    draw = np.random.default_rng(SEED)
    shape = 16, size * 128, 256
    data = xr.DataArray(draw.random(shape, dtype="f4"), dims=("time", "y", "x"), name="temperature")
    chunks = {"temperature": {"chunks": (4, 64, 64), "compressors": None}}
    data.to_dataset().to_zarr(directory / "cube.zarr", zarr_format=3, consolidated=True, encoding=chunks)


def _xarray(door: Door) -> Any:
    import xarray as xr

    with xr.open_zarr(door.zarr_store("cube.zarr"), consolidated=True) as data:
        part = data.temperature.sel(time=slice(2, 9), x=slice(10, 99))
        return part.values.tobytes()


def _make_hdf5(directory: Path, size: int) -> None:
    import h5py
    import numpy as np

    draw = np.random.default_rng(SEED)
    with h5py.File(directory / "data.h5", "w") as file:
        for name in ("a", "b"):
            file.create_dataset(name, data=draw.random((size * 256, 1024), dtype="f4"), chunks=(64, 128))


def _h5py(door: Door) -> Any:
    import h5py

    with door.open("data.h5") as file, h5py.File(file) as data:
        return list(data), data["b"][100:200, 300:400].tobytes()


def _virtualizarr(door: Door) -> Any:
    import xarray as xr
    from virtualizarr import open_virtual_dataset
    from virtualizarr.parsers import HDFParser

    registry, base = door.registry()
    parser = HDFParser()
    with open_virtual_dataset(f"{base}/data.h5", registry=registry, parser=parser, loadable_variables=[]) as virtual:
        names = sorted(virtual.variables)
    with xr.open_zarr(parser(f"{base}/data.h5", registry), zarr_format=3, consolidated=False) as data:
        return names, data.b[100:200, 300:400].values.tobytes()


def _make_npy(directory: Path, size: int) -> None:
    import numpy as np

    np.save(directory / "array.npy", np.random.default_rng(SEED).random((size * 512, 1024), dtype="f4"))


def _numpy(door: Door) -> Any:
    import numpy as np

    with door.open("array.npy") as file:
        return _digest(np.load(file).tobytes())


# -- archives and pictures -------------------------------------------------------------------------------------------

MEMBERS = 40


def _members(size: int) -> Mapping[str, bytes]:
    draw = random.Random(SEED)
    return {
        f"dir/member-{number}.bin": draw.randbytes(size * draw.randrange(20_000, 120_000)) for number in range(MEMBERS)
    }


def _make_zip(directory: Path, size: int) -> None:
    with zipfile.ZipFile(directory / "archive.zip", "w") as archive:
        for name, data in _members(size).items():
            archive.writestr(name, data)


def _zipfile(door: Door) -> Any:
    with door.open("archive.zip") as file, zipfile.ZipFile(file) as archive:
        return archive.namelist(), _digest(archive.read("dir/member-7.bin")), _digest(archive.read("dir/member-31.bin"))


def _make_tar(directory: Path, size: int) -> None:
    with tarfile.open(directory / "archive.tar", "w") as archive:
        for name, data in _members(size).items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def _tarfile(door: Door) -> Any:
    with door.open("archive.tar") as file, tarfile.open(fileobj=file) as archive:
        names = archive.getnames()
        member = archive.extractfile("dir/member-31.bin")
        assert member is not None
        return names, _digest(member.read())


def _make_picture(directory: Path, size: int) -> None:
    from PIL import Image

    side = 256 * size + 768
    noise = random.Random(SEED).randbytes(side * side * 3)
    Image.frombytes("RGB", (side, side), noise).save(directory / "picture.png", compress_level=1)


def _pillow(door: Door) -> Any:
    from PIL import Image

    with door.open("picture.png") as file, Image.open(file) as picture:
        return picture.size, picture.format, _digest(picture.crop((100, 100, 400, 300)).tobytes())


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# -- data loaders ----------------------------------------------------------------------------------------------------

SAMPLE_BYTES = 4096


def _make_samples(directory: Path, size: int) -> None:
    (directory / "samples.bin").write_bytes(random.Random(SEED).randbytes(size * 512 * SAMPLE_BYTES))


class Samples:
    """A map-style dataset over one file, which each worker opens when it needs it."""

    def __init__(self, door: Door, name: str, count: int) -> None:
        self._door, self._name, self._count = door, name, count
        self._file: Any = None

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> bytes:
        if self._file is None:
            self._file = self._door.open(self._name)
        self._file.seek(number * SAMPLE_BYTES)
        data: bytes = self._file.read(SAMPLE_BYTES)
        return data

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}


def _first(batch: list[bytes]) -> list[bytes]:
    return batch


def _torch(door: Door, context: str) -> Any:
    from torch.utils.data import DataLoader

    with door.open("samples.bin") as file:
        count = file.seek(0, io.SEEK_END) // SAMPLE_BYTES
    samples = Samples(door, "samples.bin", count)
    samples[0]  # the parent has read, and so has a cache and connections, before it forks
    # A file of the system's own is not among the doors: forked workers would share its position.
    workers: dict[str, Any] = {"num_workers": WORKERS, "multiprocessing_context": context}
    if isinstance(door, LocalCopy):
        workers = {}
    loader = DataLoader(samples, batch_size=32, collate_fn=_first, shuffle=False, **workers)
    return [_digest(sample) for batch in loader for sample in batch]


def _torch_fork(door: Door) -> Any:
    return _torch(door, "fork")


def _torch_spawn(door: Door) -> Any:
    return _torch(door, "spawn")


MAKES: Mapping[str, Callable[[Path, int], None]] = {
    "table.parquet": _make_table,
    "part-0.parquet": _make_tables,
    "table.csv": _make_csv,
    "cube.zarr": _make_zarr,
    "data.h5": _make_hdf5,
    "array.npy": _make_npy,
    "archive.zip": _make_zip,
    "archive.tar": _make_tar,
    "picture.png": _make_picture,
    "samples.bin": _make_samples,
}
"""Who makes a file of this name, for whoever needs one."""

PROTOCOL_ONLY = (PageinProtocol,)

CASES = (
    Case("pandas: `read_parquet`, 2 of 8 columns", ("pandas", "pyarrow"), _make_table, _pandas_parquet),
    Case("pandas: `read_csv`", ("pandas",), _make_csv, _pandas_csv),
    Case(
        "pyarrow: dataset of 4 files, 2 of 8 columns, the last 100 rows",
        ("pyarrow",),
        _make_tables,
        _pyarrow_dataset,
        doors=PROTOCOL_ONLY,
    ),
    Case("polars: `scan_parquet`, 2 of 8 columns", ("polars", "pyarrow"), _make_table, _polars),
    Case("DuckDB: 2 of 8 columns of a Parquet file", ("duckdb", "pyarrow"), _make_table, _duckdb),
    Case("xarray: a part of a zarr 3 store", ("xarray", "zarr"), _make_zarr, _xarray, doors=PROTOCOL_ONLY),
    Case(
        "xarray: the same, by zarr's `ObjectStore`",
        ("xarray", "zarr", "obstore"),
        _make_zarr,
        _xarray,
        doors=(PageinStore,),
        plain=PlainObstore,
    ),
    Case("h5py: a part of a dataset", ("h5py",), _make_hdf5, _h5py),
    Case(
        "VirtualiZarr: the same file as zarr, a part of a dataset",
        ("virtualizarr", "obspec_utils", "h5py", "xarray", "obstore"),
        _make_hdf5,
        _virtualizarr,
        doors=(PageinStore,),
        plain=PlainObstore,
    ),
    Case("NumPy: `load`", ("numpy",), _make_npy, _numpy),
    Case("zipfile: 2 of 40 members", (), _make_zip, _zipfile),
    Case("tarfile: the names, and 1 of 40 members", (), _make_tar, _tarfile),
    Case("Pillow: a part of a PNG", ("PIL",), _make_picture, _pillow),
    Case(
        "dask: 4 Parquet files, 2 of 8 columns, 2 processes",
        ("dask.dataframe", "pandas", "pyarrow"),
        _make_tables,
        _dask,
        doors=PROTOCOL_ONLY,
        in_processes=True,
    ),
    Case(
        "PyTorch: `DataLoader`, 2 forked workers",
        ("torch",),
        _make_samples,
        _torch_fork,
        doors=PROTOCOL_ONLY,
        in_processes=True,
    ),
    Case(
        "PyTorch: `DataLoader`, 2 spawned workers",
        ("torch",),
        _make_samples,
        _torch_spawn,
        doors=(PageinFiles, PageinProtocol),
        in_processes=True,
    ),
)

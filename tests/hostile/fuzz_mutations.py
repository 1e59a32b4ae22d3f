"""Damage to files: by chance, and by somebody who knows the format. Everything follows from one generator."""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
from collections.abc import Callable

import h5py
import numpy as np

Mutation = Callable[[bytes, np.random.Generator], bytes]

NUMBERS = (0, 1, 2, 255, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63, 2**64 - 1)
WORDS = (
    "nan", "NaN", "-1", "0", "1e999", "-1e30", "1" * 5000, "true", "null", '"text"', "[]", "{}", "[[[[1]]]]",
    "1979-05-27", "[" * 3000, "{" * 500, '{"a":' * 2000, "9223372036854775808",
    "\x00", "\ufeff", "é", '"\\ud800"', "a.b.c",
)  # fmt: skip


def mutate(raw: bytes, rng: np.random.Generator, aware: tuple[Mutation, ...] = ()) -> bytes:
    """One to three kinds of damage, half of the time one of those that know the format.

    What opens the file comes first, and once: the library that it uses may never return from a damaged one.
    """
    drawn = []
    for _ in range(int(rng.integers(1, 4))):
        kinds = aware if aware and rng.random() < 0.5 else BLIND
        drawn.append(kinds[int(rng.integers(len(kinds)))])
    if hdf5_content in drawn:
        drawn = [hdf5_content, *(kind for kind in drawn if kind is not hdf5_content)]
    for kind in drawn:
        raw = kind(raw, rng)
    return raw


def _place(raw: bytes, rng: np.random.Generator) -> int:
    """Anywhere, and as often near the beginning, where headers are."""
    return int(rng.integers(min(len(raw), 4096) if rng.random() < 0.5 else len(raw))) if raw else 0


def flip_bits(raw: bytes, rng: np.random.Generator) -> bytes:
    data = bytearray(raw)
    for _ in range(int(rng.integers(1, 6)) if data else 0):
        data[_place(raw, rng)] ^= 1 << int(rng.integers(8))
    return bytes(data)


def set_bytes(raw: bytes, rng: np.random.Generator) -> bytes:
    at, n = _place(raw, rng), int(rng.integers(1, 17))
    return raw[:at] + (rng.bytes(n) if rng.random() < 0.5 else bytes([int(rng.choice([0, 255]))]) * n) + raw[at + n :]


def set_number(raw: bytes, rng: np.random.Generator) -> bytes:
    at, size = _place(raw, rng), int(rng.choice([1, 2, 4, 8]))
    number = NUMBERS[int(rng.integers(len(NUMBERS)))] % 256**size
    return raw[:at] + number.to_bytes(size, "little") + raw[at + size :]


def truncate(raw: bytes, rng: np.random.Generator) -> bytes:
    return raw[: _place(raw, rng)]


def extend(raw: bytes, rng: np.random.Generator) -> bytes:
    return raw + rng.bytes(int(rng.integers(1, 5000)))


def splice(raw: bytes, rng: np.random.Generator) -> bytes:
    """A piece of the file goes to another place, over what is there or between it."""
    start, at, n = _place(raw, rng), _place(raw, rng), int(rng.integers(1, 600))
    piece = raw[start : start + n]
    return raw[:at] + piece + raw[at + (n if rng.random() < 0.5 else 0) :]


def cut_out(raw: bytes, rng: np.random.Generator) -> bytes:
    at = _place(raw, rng)
    return raw[:at] + raw[at + int(rng.integers(1, 600)) :]


BLIND: tuple[Mutation, ...] = (flip_bits, flip_bits, set_bytes, set_number, truncate, extend, splice, cut_out)


def another_word(raw: bytes, rng: np.random.Generator) -> bytes:
    """A number or a word of a text becomes another."""
    found = list(re.finditer(rb"[\w.+-]+", raw[:200_000]))
    if not found:
        return raw
    one = found[int(rng.integers(len(found)))]
    return raw[: one.start()] + WORDS[int(rng.integers(len(WORDS)))].encode() + raw[one.end() :]


def another_line(raw: bytes, rng: np.random.Generator) -> bytes:
    """A line is doubled, left out, put elsewhere, or one more stands there."""
    lines = raw.split(b"\n")
    i, j = int(rng.integers(len(lines))), int(rng.integers(len(lines)))
    match int(rng.integers(5)):
        case 0:
            lines.insert(i, lines[i])
        case 1:
            del lines[i]
        case 2:
            lines.insert(j, lines.pop(i))
        case 3:
            lines.insert(i, b"unknown_key = 1")
        case _:
            lines.insert(i, b"a." * int(rng.integers(1, 3000)) + b"a = " + b"[" * int(rng.integers(3000)))
    return b"\n".join(lines)


def another_key(raw: bytes, rng: np.random.Generator) -> bytes:
    """JSON: a key is there that nobody knows, or one is missing, or one stands twice."""
    found = list(re.finditer(rb'"[\w ]+"\s*:', raw[:200_000]))
    if not found:
        return raw
    one = found[int(rng.integers(len(found)))]
    match int(rng.integers(3)):
        case 0:
            return raw[: one.start()] + b'"unknown": 1, ' + raw[one.start() :]
        case 1:
            return raw[: one.start()] + b'"unknown":' + raw[one.end() :]
        case _:
            return raw[: one.start()] + one[0] + b" 1, " + raw[one.start() :]


TEXT: tuple[Mutation, ...] = (another_word, another_word, another_line, another_key)


def safetensors_header(raw: bytes, rng: np.random.Generator) -> bytes:
    """The header says something else; the data stay."""
    try:
        length = int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8 : 8 + length])
        names = [name for name in header if name != "__metadata__"]
        name = names[int(rng.integers(len(names)))]
        entry, number = header[name], NUMBERS[int(rng.integers(len(NUMBERS)))]
        match int(rng.integers(11)):
            case 0:
                entry["shape"] = [number]
            case 1:
                entry["shape"] = [number, number, number]
            case 2:
                entry["data_offsets"] = [0, number]
            case 3:
                entry["dtype"] = str(rng.choice(["F16", "F32", "F64", "I64", "BF16", "U8", "F4", "C64"]))
            case 4:
                header["one more"] = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
            case 5:
                header["__metadata__"] = {**header.get("__metadata__", {}), "unknown": "1"}
            case 6:
                header["__metadata__"] = {"calibration": number}
            case 7:
                del header[name]
            case 8:
                key = str(rng.choice(list(header.get("__metadata__", {"a": ""}))))
                inner = header["__metadata__"][key]
                header["__metadata__"][key] = another_word(inner.encode(), rng).decode(errors="replace")
            case 9:
                entry["shape"] = [[entry["shape"]]]
            case _:
                return number.to_bytes(8, "little") + raw[8:]
        text = json.dumps(header).encode()
        return len(text).to_bytes(8, "little") + text + raw[8 + length :]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return flip_bits(raw, rng)


def hdf5_content(raw: bytes, rng: np.random.Generator) -> bytes:
    """A well-formed file that holds something else, leads elsewhere or claims more than it has."""
    buffer = io.BytesIO(raw)
    try:
        with h5py.File(buffer, "r+") as file:
            names: list[str] = []
            file.visititems(lambda name, thing: names.append(name) if isinstance(thing, h5py.Dataset) else None)
            _change(file, names[int(rng.integers(len(names)))], rng)
    except Exception:  # what was damaged before cannot be changed with a plan
        return flip_bits(raw, rng)
    return buffer.getvalue()


def _change(file: h5py.File, name: str, rng: np.random.Generator) -> None:
    shape, values = file[name].shape, file[name][()]
    kind = int(rng.integers(20))
    if kind < 14:
        attrs = dict(file[name].attrs)
        if kind != 11:
            del file[name]
        _replace(file, name, kind, shape, values)
        if kind != 0 and name in file and isinstance(file.get(name, getlink=True), h5py.HardLink):
            file[name].attrs.update(attrs)
        return
    thing = file[name] if rng.random() < 0.5 else file
    key = str(rng.choice(list(thing.attrs) or ["unknown"]))
    changes = (7, 7.5, "text", np.array([1.0, np.nan]), b"\xff\xfe", 1j, np.zeros((2, 2)), ["a", "b"], h5py.Empty("f"))
    if kind == 14 and key in thing.attrs:
        del thing.attrs[key]
    elif kind == 15:
        thing.attrs["unknown"] = 1
    else:
        thing.attrs[key] = changes[int(rng.integers(len(changes)))]


def _replace(file: h5py.File, name: str, kind: int, shape: tuple[int, ...], values: np.ndarray) -> None:
    if kind == 0:
        file[name] = h5py.ExternalLink("/etc/hostname", "/x")
    elif kind == 1:
        file[name] = h5py.SoftLink(f"/{name}")
    elif kind == 2:
        layout = h5py.VirtualLayout(shape, values.dtype)
        layout[...] = h5py.VirtualSource("other.h5", "x", shape)
        file.create_virtual_dataset(name, layout)
    elif kind == 3:
        file.create_dataset(name, shape, values.dtype, external=[("/etc/hostname", 0, max(values.nbytes, 1))])
    elif kind == 4:
        file.create_dataset(name, (10**6, 10**6), values.dtype, fillvalue=1)
    elif kind == 5:
        file.create_dataset(name, (10**9,), values.dtype, chunks=(10**6,), compression="gzip", fillvalue=1)
    elif kind == 6:
        file.create_dataset(name, data=np.zeros(10**6, values.dtype), chunks=(10**6,), compression="gzip")
    elif kind == 7:
        file[name] = values.astype(complex)
    elif kind == 8:
        file[name] = values.astype("f4" if values.dtype == "f8" else "i2")
    elif kind == 9:
        file[name] = values[..., None]
    elif kind == 10:
        wrong = values.astype(float)
        wrong.flat[:1] = np.nan
        file[name] = wrong
    elif kind == 11:
        file[f"{name}_more"] = values
    elif kind == 12:
        file.create_dataset(name, data=["a", "b"], dtype=h5py.string_dtype())
    else:
        file[name] = file["/"]


def hdf5_heap(raw: bytes, rng: np.random.Generator) -> bytes:
    """The structures that HDF5 walks through say something else of themselves."""
    signature = (b"GCOL", b"HEAP", b"SNOD", b"TREE", b"OHDR", b"FRHP", b"BTHD")[int(rng.integers(7))]
    places = [found.start() for found in re.finditer(signature, raw)]
    if not places:
        return set_number(raw, rng)
    at = places[int(rng.integers(len(places)))] + int(rng.integers(4, 64))
    size = int(rng.choice([1, 2, 8]))
    return raw[:at] + (NUMBERS[int(rng.integers(len(NUMBERS)))] % 256**size).to_bytes(size, "little") + raw[at + size :]


HDF5: tuple[Mutation, ...] = (hdf5_content, hdf5_content, hdf5_heap)
SAFETENSORS: tuple[Mutation, ...] = (safetensors_header,)


def gguf_number(raw: bytes, rng: np.random.Generator) -> bytes:
    """Counts, lengths, types and offsets lie before the data: one of them becomes another."""
    at = int(rng.choice([4, 8, 16])) if rng.random() < 0.3 else int(rng.integers(8, min(len(raw), 20_000)))
    size = int(rng.choice([4, 8]))
    return raw[:at] + (NUMBERS[int(rng.integers(len(NUMBERS)))] % 256**size).to_bytes(size, "little") + raw[at + size :]


def gguf_value(raw: bytes, rng: np.random.Generator) -> bytes:
    """A number that belongs to a key becomes another."""
    keys = list(re.finditer(rb"[a-z0-9_]+\.[a-z0-9_.]{4,}", raw[:20_000]))
    if not keys:
        return flip_bits(raw, rng)
    at = keys[int(rng.integers(len(keys)))].end() + int(rng.choice([0, 4]))
    return raw[:at] + (NUMBERS[int(rng.integers(len(NUMBERS)))] % 2**32).to_bytes(4, "little") + raw[at + 4 :]


def first_integers(raw: bytes, rng: np.random.Generator) -> bytes:
    """llama2.c: one of the seven sizes."""
    at = 4 * int(rng.integers(7))
    return raw[:at] + struct.pack("<I", NUMBERS[int(rng.integers(len(NUMBERS)))] % 2**32) + raw[at + 4 :]


def npy_header(raw: bytes, rng: np.random.Generator) -> bytes:
    """The header of an array says another type, shape or order."""
    if raw[:6] != b"\x93NUMPY":
        return flip_bits(raw, rng)
    length = int.from_bytes(raw[8:10], "little")
    head, body = raw[10 : 10 + length].decode("latin-1"), raw[10 + length :]
    match int(rng.integers(4)):
        case 0:
            head = re.sub(
                r"'descr': '[^']*'",
                f"'descr': '{rng.choice(['|O', '<U9', '<c16', '<i2', '>f8', '|V8', 'M8[s]'])}'",
                head,
            )
        case 1:
            shape = rng.choice(
                ["(1000000, 1000000)", "(-1,)", "()", "(0,)", "(9223372036854775807, 4)", "(1.5,)", "('a',)"]
            )
            head = re.sub(r"'shape': \([^)]*\)", f"'shape': {shape}", head)
        case 2:
            head = head.replace("False", "True")
        case _:
            head = "{" + "(" * int(rng.integers(1, 5000)) + head
    return raw[:8] + (len(head) % 65536).to_bytes(2, "little") + head.encode("latin-1") + body


def tiff_tag(raw: bytes, rng: np.random.Generator) -> bytes:
    """A tag of a page, or where the next page begins, says something else."""
    pages = [at for at in range(8, max(8, len(raw) - 14), 2) if raw[at + 2 : at + 6] in (b"\0\1\3\0", b"\0\1\4\0")]
    if not pages:
        return set_number(raw, rng)
    page = pages[int(rng.integers(len(pages)))]
    tags = int.from_bytes(raw[page : page + 2], "little")
    entry = page + 2 + 12 * int(rng.integers(tags + 1))
    at, size = (entry, 4) if entry == page + 2 + 12 * tags else (entry + int(rng.choice([0, 2, 4, 8])), 4)
    number = page if rng.random() < 0.2 else NUMBERS[int(rng.integers(len(NUMBERS)))]
    return raw[:at] + (number % 2**32).to_bytes(size, "little") + raw[at + size :]


def npz_members(raw: bytes, rng: np.random.Generator) -> bytes:
    """One array of the archive is damaged inside, doubled, or much larger than what is stored."""
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    except Exception:
        return flip_bits(raw, rng)
    if not members:
        return flip_bits(raw, rng)
    name = str(rng.choice(list(members)))
    members[name] = npy_header(members[name], rng) if rng.random() < 0.6 else mutate(members[name], rng)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for one, data in members.items():
            archive.writestr(one, data)
        if rng.random() < 0.2:
            archive.writestr("bomb.npy", b"\0" * 20_000_000)
    return buffer.getvalue()

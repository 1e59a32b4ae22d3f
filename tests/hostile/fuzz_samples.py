"""One small valid file of each format, how it is read, and what of it may not change unseen."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import fuzz_mutations as kinds
import h5py
import numpy as np
import pytest


def _nothing(path: Path) -> None:
    pass


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes
    ----------
    make
        Writes a valid file into a folder, the same every time, and returns its path.
    read
        Reads a file as the suite does, and returns the digest of everything that was read.
    aware
        Mutations that know the format.
    sealed
        Whether the format vouches for its content: whatever differs from what was written is then refused.
    settle
        Called with the path after a mutation was written there.
    """

    make: Callable[[Path], Path]
    read: Callable[[Path], str]
    aware: tuple[kinds.Mutation, ...] = ()
    sealed: bool = False
    settle: Callable[[Path], None] = _nothing

    def damaged(self, raw: bytes, rng: np.random.Generator) -> bytes:
        return kinds.mutate(raw, rng, self.aware)


def digest(*values: Any) -> str:
    """Equal for what is equal to the last bit."""
    sha256 = hashlib.sha256()
    for value in values:
        _add(sha256, value)
    return sha256.hexdigest()


def _add(sha256: Any, value: Any) -> None:
    if isinstance(value, np.ndarray):
        sha256.update(f"{value.dtype}{value.shape}".encode() + np.ascontiguousarray(value).tobytes())
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        _add(sha256, {field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    elif isinstance(value, Mapping):
        for key in sorted(value):
            sha256.update(f"{key}:".encode())
            _add(sha256, value[key])
    elif isinstance(value, list | tuple):
        sha256.update(f"[{len(value)}]".encode())
        for one in value:
            _add(sha256, one)
    else:
        sha256.update(f"{type(value).__name__} {value!r};".encode())


# -- calibrations and responses


def _calibration(folder: Path) -> tuple[Path, Path]:
    from cal_bench import bench

    from calibration.machine.artefact import Calibration, Domain, save
    from calibration.machine.findings import Findings
    from calibration.machine.noise import Noise
    from calibration.machine.registration import Registration

    rng = np.random.default_rng(1)
    machine = bench((5, 6), "full").machine()
    channel = replace(
        machine.channel, gain_stderr_dn=rng.random((5, 6)), noise=Noise(12.25, 0.3, 1 / 3000, rng.random(3))
    )
    points = rng.random((7, 2)) * 900
    seen = {
        panel: Registration(panel, np.eye(3) + 0.01, points, points + 1, points * 0.001, "affine", 0.25)
        for panel in ("display", "slm")
    }
    return save(
        Calibration(
            replace(machine, channel=channel), Domain(0.004, 5, 6, 0.62, 532.0), "2026-11-23T02:00:00Z",
            "2026-11-24T02:00:00Z", Findings.from_json({"validation": {"nrmse": 0.01}}),
            {"run_id": "r-1", "bench": "mock", "commit": None}, "cal-0123456789abcdef", seen,
        ),
        folder,
    )  # fmt: skip


def _response(folder: Path) -> tuple[Path, Path]:
    from calibration.response.artefact import save_response
    from calibration.response.fit import fit_response
    from calibration.response.observations import Observations

    rng = np.random.default_rng(0)
    weights, x = rng.random((4, 6)), rng.random((300, 6))
    y = 50 + 900 * x @ weights.T
    return save_response(fit_response(Observations(x, weights, rng.normal(y, 2 + 0.02 * y))).response, folder)


def _read_calibration(path: Path) -> str:
    from calibration.loading import load_calibration
    from labctl.archive.calibrations import read_header

    found = load_calibration(path)
    arrays = found._arrays() if hasattr(found, "_arrays") else found.arrays()
    return digest(read_header(path), found.header(), arrays, getattr(found, "registrations", {}))


# -- workloads, segments and documents of a run


def _workload(folder: Path) -> Path:
    from calibration.frames.products import ProductGroup
    from labctl.workload import write_workload

    rng, groups = np.random.default_rng(2), []
    for index in range(2):
        weight = rng.normal(size=(3, 4)).astype(np.float32)
        inputs = rng.normal(size=(5, 4)).astype(np.float32)
        positions = np.stack([np.zeros(5, np.int64), np.arange(5)], axis=1)
        groups.append(
            ProductGroup(f"blocks.{index}.ffn", "linear", index, weight, inputs, inputs @ weight.T, positions, 1.5)
        )
    write_workload(folder / "products.h5", groups, {"model": "tiny", "text": "t", "seed": 7, "layers": [0, 3]})
    return folder / "products.h5"


def _read_workload(path: Path) -> str:
    from labctl.workload import read_workload

    found = read_workload(path)
    return digest(found.groups, found.model, found.text, found.seed, found.attrs)


def _segment(folder: Path) -> Path:
    from labctl.archive.segments import SegmentWriter

    rng = np.random.default_rng(3)
    arrays = {"readings_dn": rng.random((20, 4)), "frames": rng.integers(0, 999, 20), "names": np.array([b"abc", b"d"])}
    return SegmentWriter(folder / "segments").write(
        "products", arrays, {"node": "validation", "setting": {"a": [1, 2]}}
    )


def _read_segment(path: Path) -> str:
    from labctl.archive.segments import read_segments

    return digest([(one.arrays, one.attrs) for one in read_segments(path.parent)])


def _list_again(path: Path) -> None:
    """Whoever damages a segment puts its new hash into the manifest, too."""
    manifest = path.parent / "manifest.jsonl"
    row = json.loads(manifest.read_bytes())
    data = path.read_bytes()
    manifest.write_text(json.dumps({**row, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}) + "\n")


def _manifest(folder: Path) -> Path:
    return _segment(folder).parent / "manifest.jsonl"


def _read_manifest(path: Path) -> str:
    from labctl.archive.segments import read_segments

    return digest([(one.row, one.arrays) for one in read_segments(path.parent)])


def _seal(folder: Path) -> Path:
    from labctl.archive.seal import write_seal
    from labctl.verdicts import Verdict

    _segment(folder)
    (folder / "config.toml").write_text("a = 1\n")
    write_seal(folder, "r-1", Verdict.OK, 0, "2026-11-23T02:00:00Z")
    return folder / "SEAL"


def _read_seal(path: Path) -> str:
    from labctl.archive.seal import read_seal, verify_run

    verify_run(path.parent)
    return digest(read_seal(path.parent))


def _run_json(folder: Path) -> Path:
    about = {
        "schema": "labctl.run/1",
        "run_id": "r-1",
        "purpose": "measure",
        "started": "2026-11-23T02:00:00Z",
        "tags": [1, None],
    }
    (folder / "run.json").write_text(json.dumps(about, indent=2))
    return folder / "run.json"


def _read_run_json(path: Path) -> str:
    from labctl.archive.reader import read_run_json

    return digest(read_run_json(path.parent))


def _summary(folder: Path) -> Path:
    from labctl.summary import Summary
    from labctl.verdicts import Verdict

    (folder / "summary.json").write_text(Summary(verdict=Verdict.OK, exit_code=0).to_json())
    return folder / "summary.json"


def _read_summary(path: Path) -> str:
    from labctl.summary import read_summary

    return digest(read_summary(path).to_json())


# -- stations and tables


def _copy(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        from labctl.resources import data_path

        source = data_path(name)
        (folder / source.name).write_bytes(source.read_bytes())
        return folder / source.name

    return make


def _read_station(path: Path) -> str:
    from labctl.station.loading import load_station

    loaded = load_station(path)
    return digest(loaded.to_toml(), loaded.values())


def _read_components(path: Path) -> str:
    from simulation.energy.constants import load_components

    return digest(repr(load_components(path, "today")))


def _read_shapes(path: Path) -> str:
    from simulation.energy.shapes import load_shapes

    return digest(repr(load_shapes(path)))


def _text(folder: Path) -> Path:
    (folder / "text.txt").write_text("\ufeffThe light is cheap, the answer is noisy.\r\n" * 40, encoding="utf-8")
    return folder / "text.txt"


def _read_text(path: Path) -> str:
    from labctl.studies.simulate import evaluation_text
    from simulation.models.text import load_texts

    (text,) = load_texts([path])
    ids = evaluation_text(lambda content: [ord(letter) for letter in content], path, None).ids
    return digest(text.content, text.sha256, ids)


# -- models


def _tiny() -> tuple[Any, Any]:
    import torch

    from simulation.models.gpt import GPT, GPTConfig
    from simulation.models.text import train_tokenizer

    torch.set_num_threads(1)
    config = GPTConfig(vocabulary=270, context=16, width=8, blocks=2, heads=2)
    return GPT(config, torch.Generator().manual_seed(1)).eval(), train_tokenizer(["the light is cheap"], 270)


def _checkpoint(folder: Path) -> Path:
    from simulation.models.checkpoint import save_checkpoint

    save_checkpoint(folder / "tiny.safetensors", *_tiny(), {"seed": 1, "texts": [{"name": "a.txt"}]})
    return folder / "tiny.safetensors"


def _read_checkpoint(path: Path) -> str:
    from simulation.models.checkpoint import load_checkpoint

    found = load_checkpoint(path)
    return digest(_tensors(found.model), repr(found.model.config), found.tokenizer.to_str(), found.record)


def _tensors(model: Any) -> dict[str, Any]:
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def _state(folder: Path) -> Path:
    _training().save(folder / "state.safetensors", {"recipe": 1})
    return folder / "state.safetensors"


def _training() -> Any:
    import torch

    from simulation.training.state import TrainingState

    model, _ = _tiny()
    optimiser = torch.optim.AdamW(model.parameters())
    model(torch.zeros(1, 4, dtype=torch.long)).sum().backward()
    optimiser.step()
    return TrainingState(model, optimiser, torch.Generator().manual_seed(2), 5, [[1.0, 2.0, 3.0]], [0.5], 12.0)


def _read_state(path: Path) -> str:
    state = _training()
    state.restore(path, {"recipe": 1})
    moments = {
        f"{index}{name}": tensor.numpy()
        for index, one in state.optimiser.state_dict()["state"].items()
        for name, tensor in one.items()
    }
    counts = (state.step, state.curve, state.since, state.seconds)
    return digest(_tensors(state.model), moments, state.generator.get_state().numpy(), counts)


def _language(path: Path) -> str:
    import torch

    from simulation.models.loading import load_language

    found = load_language(path)
    tokens = found.encode("the light is cheap")[: found.context]
    with torch.no_grad():
        logits = found.model(torch.tensor([tokens], dtype=torch.long))
    return digest(getattr(logits, "logits", logits).numpy())


def _llama2c(folder: Path) -> Path:
    d, ffn, layers, heads, kv, vocabulary, context = 16, 24, 2, 4, 2, 300, 32
    rng = np.random.default_rng(4)
    count = (
        vocabulary * d + 2 * layers * d + 2 * layers * d * d + 2 * layers * d * (d * kv // heads) + 3 * layers * ffn * d
        + d + context * (d // heads)
    )  # fmt: skip
    head = struct.pack("<7i", d, ffn, layers, heads, kv, vocabulary, context)
    (folder / "tiny.bin").write_bytes(head + (0.1 * rng.normal(size=count)).astype("<f4").tobytes())
    pieces = [b"<unk>", b"<s>", b"</s>", *(bytes([i]) for i in range(256))]
    pieces += [f"p{i}".encode() for i in range(vocabulary - len(pieces))]
    rows = [struct.pack("<fi", float(-i), len(piece)) + piece for i, piece in enumerate(pieces)]
    (folder / "tok300.bin").write_bytes(struct.pack("<i", 8) + b"".join(rows))
    return folder / "tiny.bin"


def _llama2c_tokenizer(folder: Path) -> Path:
    return _llama2c(folder).with_name("tok300.bin")


def _byte_letters() -> dict[int, str]:
    """What byte-level tokenizers write for each byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {byte: chr(256 + i) for i, byte in enumerate(others)}


def _gguf(folder: Path) -> Path:
    import gguf

    path = folder / "tiny.gguf"
    d, ffn, layers, heads, vocabulary = 16, 24, 2, 4, 258
    rng = np.random.default_rng(5)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(32)
    writer.add_embedding_length(d)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(ffn)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(d // heads)
    writer.add_vocab_size(vocabulary)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([*_byte_letters().values(), "th", "<e>"])
    writer.add_token_types([1] * (vocabulary - 1) + [3])
    writer.add_token_merges(["t h"])
    writer.add_bos_token_id(vocabulary - 1)
    writer.add_eos_token_id(vocabulary - 1)

    def add(name: str, *shape: int) -> None:
        writer.add_tensor(name, (0.1 * rng.normal(size=shape)).astype(np.float32))

    add("token_embd.weight", vocabulary, d)
    add("output_norm.weight", d)
    for i in range(layers):
        for name in ("attn_norm", "ffn_norm"):
            add(f"blk.{i}.{name}.weight", d)
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add(f"blk.{i}.{name}.weight", d, d)
        add(f"blk.{i}.ffn_gate.weight", ffn, d)
        add(f"blk.{i}.ffn_up.weight", ffn, d)
        add(f"blk.{i}.ffn_down.weight", d, ffn)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _hugging_face(folder: Path) -> Path:
    import transformers

    where = folder / "model"
    config = transformers.LlamaConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4, intermediate_size=24,
        vocab_size=270,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(where)
    transformers.PreTrainedTokenizerFast(tokenizer_object=_tiny()[1]).save_pretrained(where)
    return where


def _hf_file(name: str) -> Callable[[Path], Path]:
    return lambda folder: _hugging_face(folder) / name


def _read_folder(path: Path) -> str:
    return _language(path.parent)


# -- what others measured, and pictures


def _measured() -> dict[str, Any]:
    rng = np.random.default_rng(6)
    x, w = rng.uniform(0, 10, (40, 5)), rng.uniform(0, 1, (3, 5))
    return {"inputs": x, "weights": w, "readings": 100 + 40 * x @ w.T + rng.normal(0, 1, (40, 3))}


def _npz(folder: Path) -> Path:
    np.savez(folder / "m.npz", **_measured())
    return folder / "m.npz"


def _import_h5(folder: Path) -> Path:
    with h5py.File(folder / "m.h5", "w") as file:
        for name, values in _measured().items():
            file.create_dataset(name, data=values, chunks=True, compression="gzip")
        file["readings"].attrs["units"] = "counts"
    return folder / "m.h5"


def _csv(folder: Path) -> Path:
    found = _measured()
    columns = {f"input_{k}": found["inputs"][:, k] for k in range(5)} | {
        f"reading_{k}": found["readings"][:, k] for k in range(3)
    }
    lines = [",".join(columns)] + [",".join(f"{v:.6g}" for v in row) for row in zip(*columns.values(), strict=True)]
    (folder / "m.csv").write_text("\n".join(lines) + "\n")
    return folder / "m.csv"


def _import_json(folder: Path) -> Path:
    (folder / "m.json").write_text(json.dumps({name: values.tolist() for name, values in _measured().items()}))
    return folder / "m.json"


def _mat(folder: Path) -> Path:
    from scipy.io import savemat

    savemat(folder / "m.mat", _measured(), do_compression=True)
    return folder / "m.mat"


def _mat_7_3(folder: Path) -> Path:
    """HDF5 behind a block of text, dimensions in reverse: as MATLAB writes it."""
    with h5py.File(folder / "m.mat", "w", userblock_size=512) as file:
        for name, values in _measured().items():
            file.create_dataset(name, data=values.T, chunks=True, compression="gzip")
            file[name].attrs["MATLAB_class"] = np.bytes_(b"double")
    with (folder / "m.mat").open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM")
    return folder / "m.mat"


def _npy_pair(folder: Path) -> Path:
    for name, values in _measured().items():
        np.save(folder / f"{name}.npy", values)
    return folder / "inputs.npy"


def _read_import(path: Path) -> str:
    from labctl.foreign.files.capture import open_capture

    with open_capture(path, default_weights=_measured()["weights"]) as capture:
        checked = capture.check()
        return digest(checked.weights, [rows[:] for rows in checked.per_row().values()], checked.unit)


def _tiff(folder: Path) -> Path:
    import cv2

    _npy_pair(folder)
    frames = np.random.default_rng(7).integers(0, 255, (40, 1, 5)).astype(np.uint8)
    cv2.imwritemulti(str(folder / "inputs.tif"), list(frames))
    return folder / "inputs.tif"


def _read_import_pair(path: Path) -> str:
    from labctl.foreign.files.capture import open_capture
    from labctl.foreign.files.request import Elsewhere, Request

    files = {name: Elsewhere(path.with_name(f"{name}.npy"), None) for name in ("weights", "readings")}
    files["inputs"] = Elsewhere(path, None)
    with open_capture(path, Request(files=files)) as capture:
        checked = capture.check()
        return digest(checked.weights, [rows[:] for rows in checked.per_row().values()])


def _picture(folder: Path) -> Path:
    np.save(folder / "p.npy", np.arange(48, dtype=np.uint8).reshape(6, 8))
    return folder / "p.npy"


def _png(folder: Path) -> Path:
    import cv2

    cv2.imwrite(str(folder / "p.png"), np.arange(48, dtype=np.uint8).reshape(6, 8))
    return folder / "p.png"


def _read_picture(path: Path) -> str:
    from labctl.instruments.patterns import _from_file

    return digest(_from_file(path, (6, 8), 256))


def _replay(folder: Path) -> Path:
    frames = np.arange(120, dtype=np.uint16).reshape(5, 4, 6)
    with h5py.File(folder / "frames.h5", "w") as file:
        file.create_dataset("frames", data=frames, chunks=(1, 4, 6), compression="gzip")
    return folder / "frames.h5"


def _read_replay(path: Path) -> str:
    from drivers.cameras.replay import Stack

    stack = Stack("camera", path, "frames", None)
    try:
        frames = []
        while len(frames) < 50 and (pixels := stack.next_pixels()) is not None:
            frames.append(pixels)
        return digest(frames)
    finally:
        stack.close()


CALIBRATIONS: Mapping[str, Format] = {
    "calibration": Format(lambda f: _calibration(f)[0], _read_calibration, kinds.HDF5, sealed=True),
    "calibration-twin": Format(lambda f: _calibration(f)[1], _read_calibration, kinds.SAFETENSORS, sealed=True),
    "response": Format(lambda f: _response(f)[0], _read_calibration, kinds.HDF5, sealed=True),
    "response-twin": Format(lambda f: _response(f)[1], _read_calibration, kinds.SAFETENSORS, sealed=True),
    "workload": Format(_workload, _read_workload, kinds.HDF5, sealed=True),
}
RUNS: Mapping[str, Format] = {
    "segment": Format(_segment, _read_segment, kinds.HDF5, sealed=True),
    "segment-listed": Format(_segment, _read_segment, kinds.HDF5, settle=_list_again),
    "manifest": Format(_manifest, _read_manifest, kinds.TEXT),
    "seal": Format(_seal, _read_seal, kinds.TEXT, sealed=True),
    "run-json": Format(_run_json, _read_run_json, kinds.TEXT),
    "summary": Format(_summary, _read_summary, kinds.TEXT),
    "station": Format(_copy("stations/mock.toml"), _read_station, kinds.TEXT),
    "components": Format(_copy("energy/components.toml"), _read_components, kinds.TEXT),
    "shapes": Format(_copy("energy/models.toml"), _read_shapes, kinds.TEXT),
}
MODELS: Mapping[str, Format] = {
    "checkpoint": Format(_checkpoint, _read_checkpoint, kinds.SAFETENSORS, sealed=True),
    "training-state": Format(_state, _read_state, kinds.SAFETENSORS, sealed=True),
    "text": Format(_text, _read_text, kinds.TEXT),
    "gguf": Format(_gguf, _language, (kinds.gguf_number, kinds.gguf_value)),
    "llama2c": Format(_llama2c, _language, (kinds.first_integers,)),
    "llama2c-tokenizer": Format(_llama2c_tokenizer, lambda path: _language(path.with_name("tiny.bin"))),
    "hf-weights": Format(_hf_file("model.safetensors"), _read_folder, kinds.SAFETENSORS),
    "hf-config": Format(_hf_file("config.json"), _read_folder, kinds.TEXT),
    "hf-tokenizer": Format(_hf_file("tokenizer.json"), _read_folder, kinds.TEXT),
}
MEASUREMENTS: Mapping[str, Format] = {
    "import-npz": Format(_npz, _read_import, (kinds.npz_members,)),
    "import-h5": Format(_import_h5, _read_import, kinds.HDF5),
    "import-csv": Format(_csv, _read_import, kinds.TEXT),
    "import-json": Format(_import_json, _read_import, kinds.TEXT),
    "import-mat": Format(_mat, _read_import),
    "import-mat-7.3": Format(_mat_7_3, _read_import, kinds.HDF5),
    "import-tiff": Format(_tiff, _read_import_pair, (kinds.tiff_tag,)),
    "import-npy": Format(_npy_pair, _read_import_pair, (kinds.npy_header,)),
    "picture-npy": Format(_picture, _read_picture, (kinds.npy_header,)),
    "picture-png": Format(_png, _read_picture),
    "replay": Format(_replay, _read_replay, kinds.HDF5),
}
FORMATS: Mapping[str, Format] = {**CALIBRATIONS, **RUNS, **MODELS, **MEASUREMENTS}
"""Name → format."""


def required(formats: Mapping[str, Format]) -> None:
    """Skip where the libraries for these formats are not installed."""
    if formats is MODELS:
        pytest.importorskip("transformers")
        pytest.importorskip("gguf")

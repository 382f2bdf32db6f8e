import dataclasses
import hashlib
import json

import numpy as np
import pytest
from safetensors.numpy import save

from streamclust.core.errors import CorruptModel, ProfileMismatch
from streamclust.core.specs import ProfileSpec
from streamclust.model.bundle import MANIFEST, TENSORS, Bundle, from_bytes

PROFILE = ProfileSpec()
ARRAYS = {
    "components": (2, 7),
    "mean": (7,),
    "centroids": (3, 2),
    "noise_median": (2, 3),
    "noise_spread": (2, 3),
    "fallback_median": (3,),
    "fallback_spread": (3,),
    "calibration": (5,),
}


def parts(**changes):
    rng = np.random.default_rng(0)
    arrays = {name: rng.uniform(1, 2, size=shape).astype(np.float32) for name, shape in ARRAYS.items()}
    arrays["calibration"].sort()
    values = {
        "profile": PROFILE.label,
        "profile_digest": PROFILE.digest,
        "shape": (1, 3, 2),
        "energy_weight": 0.5,
        "clusters": ("C1", "C2", "C3"),
        "scale": 1.5,
        "noise_streams": ("FDSN:BW_RJOB__E_H_Z", "probe0/ch12"),
        "card": {"windows": 9},
    }
    return {**values, **arrays, **changes}


def resealed(files, **changes):
    """Write a manifest with other values; a change to ... takes the key away."""
    manifest = json.loads(files[MANIFEST])
    manifest.update(changes)
    manifest = {key: value for key, value in manifest.items() if value is not ...}
    return {**files, MANIFEST: json.dumps(manifest).encode()}


def test_what_is_written_is_read():
    bundle = Bundle(**parts())
    again = from_bytes(bundle.to_bytes())
    for field in dataclasses.fields(Bundle):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(bundle, field.name))
    assert type(again.shape) is type(again.clusters) is tuple


def test_the_same_model_has_the_same_bytes():
    bundle = Bundle(**parts())
    assert from_bytes(bundle.to_bytes()).to_bytes() == bundle.to_bytes()
    assert set(bundle.to_bytes()) == {TENSORS, MANIFEST}


def test_a_model_without_noise_profiles_of_its_own_is_written_and_read():
    none = np.empty((0, 3), np.float32)
    bundle = Bundle(**parts(noise_streams=(), noise_median=none, noise_spread=none))
    assert from_bytes(bundle.to_bytes()).noise_median.shape == (0, 3)


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_cannot_be_changed(name):
    for bundle in (Bundle(**parts()), from_bytes(Bundle(**parts()).to_bytes())):
        with pytest.raises(ValueError, match="read-only"):
            getattr(bundle, name)[...] = 0


@pytest.mark.parametrize("name", ARRAYS)
def test_a_wrong_shape_type_or_value_is_corrupt(name):
    good = parts()[name]
    shorter = good[:1] if name == "calibration" else good[..., :-1]
    for bad in (shorter, good[None], good.astype(np.float64), np.full_like(good, np.nan)):
        with pytest.raises(CorruptModel):
            Bundle(**parts(**{name: bad}))


@pytest.mark.parametrize(
    "change",
    [
        {"scale": 0.0},
        {"scale": float("nan")},
        {"energy_weight": -1.0},
        {"energy_weight": float("inf")},
        {"shape": (1, 3, 3)},
        {"shape": (1, 3, -2)},
        {"shape": (3, 2)},
        {"clusters": ("C1", "C2")},
        {"clusters": ("C1", "C1", "C2")},
        {"clusters": ("C1", "C2", 3)},
        {"clusters": ("C1", "C2", "")},
        {"clusters": ()},
        {"noise_streams": ("a",)},
        {"noise_spread": np.zeros((2, 3), np.float32)},
        {"fallback_spread": np.zeros(3, np.float32)},
        {"calibration": np.array([2, 1, 3, 4, 5], np.float32)},
        {"calibration": np.array([-1, 1, 3, 4, 5], np.float32)},
    ],
)
def test_a_value_out_of_range_is_corrupt(change):
    with pytest.raises(CorruptModel):
        Bundle(**parts(**change))


def test_one_flipped_byte_anywhere_in_the_tensors_is_corrupt():
    files = Bundle(**parts()).to_bytes()
    for at in (0, 8, 40, len(files[TENSORS]) // 2, len(files[TENSORS]) - 1):
        broken = bytearray(files[TENSORS])
        broken[at] ^= 1
        with pytest.raises(CorruptModel, match="sha256"):
            from_bytes({**files, TENSORS: bytes(broken)})


@pytest.mark.parametrize("missing", [TENSORS, MANIFEST])
def test_a_missing_file_is_corrupt(missing):
    files = dict(Bundle(**parts()).to_bytes())
    del files[missing]
    with pytest.raises(CorruptModel, match=missing):
        from_bytes(files)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"format": 1}', b'{"format": NaN}', b"[" * 100_000],
)
def test_a_manifest_that_is_none_is_corrupt(content):
    files = {**Bundle(**parts()).to_bytes(), MANIFEST: content}
    with pytest.raises(CorruptModel):
        from_bytes(files)


@pytest.mark.parametrize("key", ["kind", "profile", "shape", "clusters", "scale", "card", "tensors_sha256"])
def test_a_manifest_key_that_is_missing_or_of_another_type_is_corrupt(key):
    files = Bundle(**parts()).to_bytes()
    for bad in (..., None, 1):
        with pytest.raises(CorruptModel, match=key):
            from_bytes(resealed(files, **{key: bad}))


@pytest.mark.parametrize("items", [[1], [None], [{}], [[]]])
def test_ids_that_are_no_texts_are_corrupt(items):
    with pytest.raises(CorruptModel):
        from_bytes(resealed(Bundle(**parts()).to_bytes(), noise_streams=items, clusters=items * 3))


def test_another_format_version_is_refused():
    with pytest.raises(CorruptModel, match="format"):
        from_bytes(resealed(Bundle(**parts()).to_bytes(), format=2))


@pytest.mark.parametrize("tensors", [b"", b"\x00" * 64, b"\xff" * 64, save({"mean": np.zeros(7, np.float32)})], ids=len)
def test_tensors_that_are_none_are_corrupt_also_with_a_right_hash(tensors):
    files = {**Bundle(**parts()).to_bytes(), TENSORS: tensors}
    with pytest.raises(CorruptModel):
        from_bytes(resealed(files, tensors_sha256=hashlib.sha256(tensors).hexdigest()))


def test_another_profile_is_a_mismatch():
    bundle = Bundle(**parts())
    bundle.require(PROFILE)
    with pytest.raises(ProfileMismatch, match="seismic/1"):
        bundle.require(ProfileSpec(clip=9.0))

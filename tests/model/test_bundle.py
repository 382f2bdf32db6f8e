import dataclasses
import hashlib
import io
import json
import pickle

import numpy as np
import pytest
from safetensors.numpy import load, save

from streamclust.core.errors import CorruptModel, ProfileMismatch
from streamclust.core.specs import ProfileSpec
from streamclust.model.assigner import Assigner, Head, Layer, Mixture
from streamclust.model.bundle import FORMAT, MANIFEST, TENSORS, Bundle, from_bytes
from streamclust.model.encoder import EncoderWeights
from streamclust.model.features import Block
from streamclust.model.novelty import Tails
from streamclust.model.score import Scorer

PROFILE = ProfileSpec()
NOISE = {"noise_median": (2, 1, 3), "noise_spread": (2, 1, 3), "fallback_median": (1, 3), "fallback_spread": (1, 3)}


ENCODER = {"name": "encoder", "scale": 2.5, "residual": 0.25}


def values(rng, *shape):
    return rng.uniform(1, 2, size=shape).astype(np.float32)


def parts(**changes):
    """Two blocks of 2 + 3 features, a head of two layers, three clusters in two dimensions."""
    rng = np.random.default_rng(0)
    arrays = {name: values(rng, *shape) for name, shape in NOISE.items()}
    head = Head((Layer(values(rng, 4, 5), values(rng, 4)), Layer(values(rng, 2, 4), values(rng, 2))))
    mixture = Mixture(values(rng, 3, 2), values(rng, 3, 2, 2), values(rng, 3), 2.5, 1.5)
    fixed = {
        "method": "gmm",
        "profile": PROFILE,
        "shape": (1, 3, 2),
        "clusters": ("C1", "C2", "C3"),
        "noise_streams": ("FDSN:BW_RJOB__E_H_Z", "probe0/ch12"),
        "blocks": (
            Block("spectrogram", values(rng, 6), values(rng, 2, 6), 1.5, 0.5),
            Block("encoder", values(rng, 7), values(rng, 3, 7), 2.5, 0.25),
        ),
        "encoders": (EncoderWeights("small", "spectrogram", {"family": "x"}, {"a.weight": values(rng, 2, 2)}),),
        "assigner": Assigner(head, mixture, 0.75),
        "tails": Tails(*(np.sort(values(rng, 5)) for _ in range(3))),
        "table": ({"cluster": "C1"}, {"cluster": "C2"}, {"cluster": "C3"}),
        "card": {"windows": 9},
    }
    return {**fixed, **arrays, **changes}


def files(**changes):
    return Bundle(**parts(**changes)).to_bytes()


def resealed(made, **changes):
    """Write a manifest with other values; a change to ... takes the key away."""
    manifest = json.loads(made[MANIFEST])
    manifest.update(changes)
    manifest = {key: value for key, value in manifest.items() if value is not ...}
    return {**made, MANIFEST: json.dumps(manifest).encode()}


def with_tensors(made, **changes):
    """Write other tensors, with their right hash."""
    arrays = {**load(made[TENSORS]), **{name.replace("__", "."): array for name, array in changes.items()}}
    tensors = save({name: array for name, array in arrays.items() if array is not None})
    return resealed({**made, TENSORS: tensors}, tensors_sha256=hashlib.sha256(tensors).hexdigest())


def plain(bundle):
    """Every value of a bundle as what can be compared."""
    manifest = json.loads(bundle.to_bytes()[MANIFEST])
    return {name: array.tolist() for name, array in bundle.arrays().items()} | manifest


def test_what_is_written_is_read():
    bundle = Bundle(**parts())
    again = from_bytes(bundle.to_bytes())
    assert plain(again) == plain(bundle)
    assert again.profile == PROFILE
    assert type(again.shape) is type(again.clusters) is tuple


def test_the_same_model_has_the_same_bytes():
    bundle = Bundle(**parts())
    assert from_bytes(bundle.to_bytes()).to_bytes() == bundle.to_bytes() == files()
    assert set(bundle.to_bytes()) == {TENSORS, MANIFEST}


def test_a_model_without_noise_profiles_of_its_own_is_written_and_read():
    none = np.empty((0, 1, 3), np.float32)
    made = files(noise_streams=(), noise_median=none, noise_spread=none)
    assert from_bytes(made).noise_median.shape == (0, 1, 3)


def test_tails_of_unknown_streams_are_written_and_read_and_count_for_those_alone():
    low, high = (Tails(*(np.linspace(0, top, 5, dtype=np.float32) for _ in range(3))) for top in (1, 4))
    bundle = from_bytes(files(tails=low, unknown_tails=high))
    here, two = bundle.noise_streams[0], np.full(2, 2.0)

    assert plain(bundle) == plain(Bundle(**parts(tails=low, unknown_tails=high)))
    assert bundle.novelty(two, two, [here, "elsewhere"]).tolist() == [1.0, high(two, two)[1]]
    assert high(two, two)[1] < 1
    assert from_bytes(files(tails=low)).novelty(two, two, [here, "elsewhere"]).tolist() == [1.0, 1.0]
    with pytest.raises(CorruptModel, match="unknown_tails: must be distance, residual, larger"):
        from_bytes(with_tensors(files(unknown_tails=high), unknown_tails__larger=None))


def test_arrays_cannot_be_changed():
    for bundle in (Bundle(**parts()), from_bytes(files())):
        for array in bundle.arrays().values():
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 0


@pytest.mark.parametrize("name", NOISE)
def test_a_wrong_shape_type_or_value_is_corrupt(name):
    good = parts()[name]
    for bad in (good[..., :-1], good[None], good.astype(np.float64), np.full_like(good, np.nan)):
        with pytest.raises(CorruptModel):
            Bundle(**parts(**{name: bad}))


@pytest.mark.parametrize(
    "change",
    [
        {"shape": (1, 3, 3)},
        {"shape": (1, 3, -2)},
        {"shape": (3, 2)},
        {"clusters": ("C1", "C2")},
        {"clusters": ("C1", "C1", "C2")},
        {"clusters": ("C1", "C2", 3)},
        {"clusters": ("C1", "C2", "")},
        {"clusters": ()},
        {"noise_streams": ("a",)},
        {"noise_spread": np.zeros((2, 1, 3), np.float32)},
        {"fallback_spread": np.zeros((1, 3), np.float32)},
        {"blocks": ()},
        {"blocks": parts()["blocks"][:1]},
        {"blocks": parts()["blocks"][::-1] * 2},
        {"encoders": ()},
        {"encoders": parts()["encoders"] * 2},
        {"table": ({"cluster": "C1"},)},
        {"table": (1, 2, 3)},
    ],
)
def test_parts_that_do_not_fit_together_are_corrupt(change):
    with pytest.raises(CorruptModel):
        Bundle(**parts(**change))


def test_one_flipped_byte_anywhere_in_the_tensors_is_corrupt():
    made = files()
    for at in (0, 8, 40, len(made[TENSORS]) // 2, len(made[TENSORS]) - 1):
        broken = bytearray(made[TENSORS])
        broken[at] ^= 1
        with pytest.raises(CorruptModel, match="sha256"):
            from_bytes({**made, TENSORS: bytes(broken)})


@pytest.mark.parametrize("missing", [TENSORS, MANIFEST])
def test_a_missing_file_is_corrupt(missing):
    made = dict(files())
    del made[missing]
    with pytest.raises(CorruptModel, match=missing):
        from_bytes(made)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"format": 2}', b'{"format": NaN}', b"[" * 100_000],
)
def test_a_manifest_that_is_none_is_corrupt(content):
    with pytest.raises(CorruptModel):
        from_bytes({**files(), MANIFEST: content})


@pytest.mark.parametrize("key", [key for key in json.loads(files()[MANIFEST]) if key not in {"format", "layers"}])
def test_a_manifest_key_that_is_missing_or_of_another_type_is_corrupt(key):
    made = files()
    for bad in (..., None, 1):
        with pytest.raises(CorruptModel, match=key):
            from_bytes(resealed(made, **{key: bad}))


@pytest.mark.parametrize(
    "change",
    [
        {"layers": "2"},
        {"layers": True},
        {"layers": -1},
        {"layers": 0},
        {"layers": 1},
        {"layers": 10**30},
        {"temperature": 0.0},
        {"temperature": 1e-300},
        {"temperature": 1e300},
        {"dof": 1e-300},
        {"exponent": 1e300},
        {"blocks": [{"name": "spectrogram", "scale": 1e-300, "residual": 1.0}, ENCODER]},
        {"blocks": [{"name": "spectrogram", "scale": 1.0, "residual": 1e-300}, ENCODER]},
        {"blocks": [{"name": "spectrogram", "scale": 1e300, "residual": 1.0}, ENCODER]},
        {"dof": -1.0},
        {"exponent": 0.0},
        {"profile": {"name": "Not A Name"}},
        {"profile": {"name": "x", "secret": 1}},
        {"profile": {**PROFILE.model_dump(mode="json"), "rate_hz": -1.0}},
        {"blocks": [1]},
        {"blocks": [{"name": "spectrogram"}]},
        {"blocks": [{"name": "x", "scale": 1.0, "residual": 1.0}] * 2},
        {"blocks": [{"name": "spectrogram", "scale": 0.0, "residual": 1.0}] * 2},
        {"blocks": [{"name": [], "scale": 1.0, "residual": 1.0}] * 2},
        {"encoders": [1]},
        {"encoders": [{"name": "a", "kind": "smell", "architecture": {}}]},
        {"encoders": [{"name": "a", "kind": [], "architecture": {}}]},
        {"encoders": [{"name": "a", "kind": "spectrogram", "architecture": 3}]},
        {"encoders": [{"name": 3, "kind": "spectrogram", "architecture": {}}]},
        {"noise_streams": [1, 2]},
        {"clusters": [None, [], {}]},
        {"shape": [1, 3, "2"]},
        {"table": [1, 2, 3]},
    ],
    ids=str,
)
def test_a_manifest_with_impossible_values_is_corrupt(change):
    with pytest.raises(CorruptModel):
        from_bytes(resealed(files(), **change))


def test_another_format_version_is_refused_and_named():
    with pytest.raises(CorruptModel, match=rf"format: must be {FORMAT} \(got {FORMAT + 1}, of a newer version\)"):
        from_bytes(resealed(files(), format=FORMAT + 1))
    with pytest.raises(CorruptModel, match=r"\(got 1, of an older version\)"):
        from_bytes(resealed(files(), format=1))


@pytest.mark.parametrize("tensors", [b"", b"\x00" * 64, b"\xff" * 64, save({"mean": np.zeros(7, np.float32)})], ids=len)
def test_tensors_that_are_none_are_corrupt_also_with_a_right_hash(tensors):
    made = {**files(), TENSORS: tensors}
    with pytest.raises(CorruptModel):
        from_bytes(resealed(made, tensors_sha256=hashlib.sha256(tensors).hexdigest()))


@pytest.mark.parametrize("name", sorted(load(files()[TENSORS])))
def test_a_tensor_that_is_missing_or_of_another_type_shape_or_range_is_corrupt(name):
    made = files()
    good = load(made[TENSORS])[name]
    for bad in (None, good.astype(np.float64), np.full_like(good, np.nan), good[..., None]):
        if name.startswith("encoder.") and (bad is None or bad.ndim > good.ndim):
            continue  # only the encoder itself knows what it needs
        with pytest.raises(CorruptModel):
            from_bytes(with_tensors(made, **{name: bad}))


@pytest.mark.parametrize("name", ["head__0__weight", "head__1__bias", "mixture__whiten", "mixture__log_weights"])
def test_numbers_that_no_fit_makes_are_corrupt(name):
    made = files()
    good = load(made[TENSORS])[name.replace("__", ".")]
    with pytest.raises(CorruptModel, match="within"):
        from_bytes(with_tensors(made, **{name: np.full_like(good, -1e13)}))


def test_a_head_of_too_many_layers_is_corrupt():
    one = Layer(np.eye(5, dtype=np.float32), np.zeros(5, np.float32))
    old = parts()["assigner"]
    with pytest.raises(CorruptModel, match="at most 6 layers"):
        Bundle(**parts(assigner=Assigner(Head((one,) * 5 + old.head.layers), old.mixture)))


def test_whatever_passes_gives_finite_windows_finite_scores(fitted):
    bundle, x, _, streams = fitted
    old = bundle.assigner
    for huge, sharp in ((1e12, 1e-6), (-1e12, 1e6)):
        layers = tuple(Layer(np.full_like(w, huge), np.full_like(b, huge)) for w, b in old.head.layers)
        mixture = dataclasses.replace(
            old.mixture, whiten=np.full_like(old.mixture.whiten, huge), dof=1e-9, exponent=1e15
        )
        blocks = tuple(
            dataclasses.replace(block, components=np.full_like(block.components, 1e30), scale=1e-36, residual=1e-72)
            for block in bundle.blocks
        )
        nonsense = dataclasses.replace(bundle, blocks=blocks, assigner=Assigner(Head(layers), mixture, sharp))
        for windows in (x[:4], np.full_like(x[:4], 1e30)):
            with np.errstate(all="ignore"):
                scores = Scorer(from_bytes(nonsense.to_bytes()), bundle.profile, 0.99).score(windows, streams[:4])
            for part in (scores.memberships, scores.embeddings, scores.novelty):
                assert not np.isnan(part).any()


def test_a_tensor_too_many_is_corrupt():
    with pytest.raises(CorruptModel, match="no other tensor"):
        from_bytes(with_tensors(files(), extra=np.zeros(3, np.float32)))


class _Trap:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


def test_a_pickle_is_never_loaded():
    arrays = io.BytesIO()
    np.savez(arrays, mean=np.array([_Trap()], dtype=object))
    for trap in (pickle.dumps(_Trap()), arrays.getvalue()):
        for name in (TENSORS, MANIFEST):
            made = {**files(), name: trap}
            with pytest.raises(CorruptModel):
                from_bytes(
                    made if name == MANIFEST else resealed(made, tensors_sha256=hashlib.sha256(trap).hexdigest())
                )


def test_a_real_fit_survives_its_bytes(fitted):
    bundle = fitted[0]
    assert from_bytes(bundle.to_bytes()).to_bytes() == bundle.to_bytes()
    assert {field.name for field in dataclasses.fields(Bundle)} >= {"blocks", "encoders", "assigner", "tails"}


def test_another_profile_is_a_mismatch_that_names_what_differs():
    bundle = Bundle(**parts())
    bundle.require(PROFILE)
    with pytest.raises(ProfileMismatch, match=r"seismic/1.*they differ in clip, detrend"):
        bundle.require(ProfileSpec(clip=9.0, detrend="mean"))

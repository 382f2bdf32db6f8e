"""Any rate and any length gives a profile that can be used, and a sentence about it."""

from __future__ import annotations

import pytest

from streamclust.core.auto_profile import auto_profile, named, section
from streamclust.core.errors import UsageError
from streamclust.core.profiles import PROFILES
from streamclust.core.specs import ProfileSpec

RATES = (0.1, 1.0, 20.0, 31.25, 100.0, 128.0, 250.0, 999.0, 4000.0, 24414.0625, 44100.0, 1e6, 1e8)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("samples", [32, 33, 60, 127, 128, 256, 257, 1000, 4096, 100_000, None])
def test_a_window_of_any_length_is_taken_whole(rate, samples):
    seconds = 600.0 if samples is None else samples / rate
    samples = samples or max(32, round(600 * rate))
    if seconds > 3600:
        return

    profile, why = auto_profile(rate, samples)

    assert profile.window_seconds == pytest.approx(samples / rate)
    if samples <= 1 << 20:
        assert profile.samples == samples
        assert profile.rate_hz == rate
    assert 32 <= profile.samples <= 1 << 20
    assert profile.name in why
    assert ProfileSpec.model_validate_json(profile.model_dump_json()) == profile


@pytest.mark.parametrize(
    ("samples", "nfft", "hop", "embed"),
    [
        (32, 8, 2, "both"),
        (128, 32, 8, "both"),
        (256, 64, 16, "both"),
        (300, 64, 16, "spectrogram"),
        (4096, 128, 64, "spectrogram"),
    ],
)
def test_the_transform_follows_the_length(samples, nfft, hop, embed):
    profile, _ = auto_profile(100.0, samples)

    assert (profile.stft.nfft, profile.stft.hop, profile.embed) == (nfft, hop, embed)
    assert profile.normalise == "noise"
    assert (profile.taper_fraction == 0) == (samples <= 256)


@pytest.mark.parametrize(
    ("rate", "name"),
    [
        (20.0, "broadband"),
        (40.0, "regional"),
        (99.5, "seismic"),
        (100.0, "seismic"),
        (200.0, "icequake"),
        (500.0, "icequake"),
    ],
)
def test_a_recording_gets_the_fastest_profile_that_it_has_the_rate_for(rate, name):
    profile, why = auto_profile(rate, None)

    assert profile.name == name
    assert name in why
    assert f"{rate:g} Hz" in why


@pytest.mark.parametrize("rate", [0.01, 1.0, 1000.0, 30000.0])
def test_a_recording_that_no_profile_fits_gets_one_of_its_own(rate):
    profile, why = auto_profile(rate, None)

    assert profile.rate_hz == rate
    assert profile.samples >= 32
    assert profile.embed == "spectrogram"
    assert profile.encoder == ("ephys" if rate >= 1000 else "seismic")
    assert "no built-in profile fits" in why


@pytest.mark.parametrize(("kind", "name"), [("ECG 12+3 leads", "ecg"), ("EEG", "eeg"), ("EMG", "emg")])
def test_a_recording_that_says_what_it_is_gets_the_profile_for_it(kind, name):
    assert auto_profile(1000.0, None, kind=kind)[0].name == name


def test_the_unit_of_the_samples_decides_nothing_but_the_floor():
    volts, microvolts = (auto_profile(100.0, 128, level_db=level)[0] for level in (-140.0, -20.0))

    assert microvolts.stft.floor_db - volts.stft.floor_db == 120
    assert volts.model_copy(update={"stft": microvolts.stft, "name": microvolts.name}) == microvolts


def test_small_numbers_do_not_vanish_below_the_floor_of_a_built_in_profile():
    profile, why = auto_profile(100.0, None, level_db=-150.0)

    assert profile.name == "seismic-quiet-210"
    assert profile.stft.floor_db == -210
    assert "-210 dB" in why
    assert auto_profile(100.0, None, level_db=40.0)[0] == ProfileSpec()


@pytest.mark.parametrize(
    ("rate", "samples", "says"),
    [
        (0.0, 100, "must be a number of Hz > 0"),
        (float("nan"), None, "must be a number of Hz > 0"),
        (100.0, 31, "at least 32 samples .got 31"),
        (1.0, 4000, "at most 3600 s"),
        (0.001, None, "samples a second"),
        (2e8, 1000, r"at most 1e\+08 Hz"),
    ],
)
def test_what_cannot_be_is_refused(rate, samples, says):
    with pytest.raises(UsageError, match=says):
        auto_profile(rate, samples)


@pytest.mark.parametrize("name", PROFILES)
def test_every_built_in_profile_is_valid_and_has_an_encoder(name):
    profile = ProfileSpec.model_validate({"name": name, **PROFILES[name]})

    assert profile.encoder == ("ephys" if name in {"spikes", "eeg", "ecg", "emg"} else "seismic")
    assert (profile.embed == "both") == (name == "spikes")


@pytest.mark.parametrize("samples", [128, None])
def test_numbers_too_small_for_any_floor_are_refused_by_their_unit(samples):
    assert auto_profile(100.0, samples, level_db=-399.0)[0].stft.floor_db == -400
    with pytest.raises(UsageError, match=r"at least -400 dB .got -410.; take a smaller unit"):
        auto_profile(100.0, samples, level_db=-410.0)


@pytest.mark.parametrize("level", [None, -260.0, -140.0, -20.0, 60.0, 90.0])
@pytest.mark.parametrize("rate", [0.5, 20.0, 31.25, 100.0, 999.0, 4000.0, 24414.0625, 44100.0, 1e6, 1e8])
@pytest.mark.parametrize("samples", [32, 128, 300, 5000, None])
def test_the_name_of_a_chosen_profile_says_all_of_it(rate, samples, level):
    if samples is not None and samples > 3600 * rate:
        return
    profile, _ = auto_profile(rate, samples, level_db=level)

    assert named(profile.name) == profile
    assert section(profile) == f'profile: {{"name": "{profile.name}"}}'


def test_profiles_that_differ_have_names_that_differ():
    cut, given = auto_profile(4000.0, None)[0], auto_profile(4000.0, 1024)[0]
    loud, quiet = (auto_profile(100.0, 128, level_db=level)[0] for level in (60.0, -80.0))

    assert (cut.name, given.name) == ("cut-1024x4000hz", "auto-1024x4000hz")
    assert (loud.name, quiet.name) == ("auto-128x100hz-0db", "auto-128x100hz-m140db")


@pytest.mark.parametrize(
    "name",
    ["mine", "mine-quiet-120", "icequake-quiet", "icequake-quiet-900", "icequake-quiet-0120", "auto-0x100hz",
     "auto-128x0hz", "auto-128x1e999hz", "auto-128x100hz-m900db", "auto-128x100hz-m200db", "auto-128x100",
     "auto-999999999999x1hz", "auto-128x100p0hz"],
)  # fmt: skip
def test_a_name_that_is_none_of_these_says_nothing(name):
    assert named(name) is None


def test_a_profile_with_a_name_of_its_own_lists_what_is_unusual():
    profile = ProfileSpec(name="mine", band_hz=(1.0, 20.0), stft={"nfft": 64, "hop": 32})

    assert section(profile) == ('profile: {"name": "mine", "band_hz": [1.0, 20.0], "stft": {"nfft": 64, "hop": 32}}')

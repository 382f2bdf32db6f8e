"""The profile of data that come without one: chosen from rate, window length and level, and said in a sentence.

The name of a profile that is chosen says all of it (`named`), so that the name is enough in a configuration:
``icequake``; ``icequake-quiet-120``, the same with a floor of -120 dB; ``auto-128x200hz-m80db``, made for windows of 128
samples at 200 Hz, floor -80 dB; ``cut-1024x10000hz-m80db``, for recordings that are cut into such windows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from math import ceil, floor, log2, sqrt
from typing import Any

from pydantic import ValidationError

from streamclust.core.errors import UsageError
from streamclust.core.profiles import PROFILES
from streamclust.core.specs import ProfileSpec

SHORT = 256
"""Windows of at most this many samples are given around something: their waveform is embedded too, nothing is tapered."""
LEAST, MOST = 32, 1 << 20
"""Samples of a window; longer ones are processed at a lower rate."""
BELOW_LEVEL_DB = 60.0
"""The floor lies this far below the mean power density of the windows."""
SLACK = 1.01
"""Rates that differ by at most this factor are taken for equal."""
RECORDED = ("icequake", "seismic", "regional", "broadband")
"""Profiles of continuous recordings, by falling rate."""
FASTEST_HZ = 1000.0
"""Recordings from this rate on have no built-in profile: windows of `AT_ONCE` samples are cut at their own rate."""
AT_ONCE = 1024
LEAST_FLOOR_DB = -400.0
"""Of every profile: less power does not survive in float32."""
NO_FLOOR_DB = -200.0
"""The floor where the level is unknown; names leave it out."""
FASTEST_PROFILE_HZ = 1e8
"""Highest processing rate of a profile."""
KINDS = (("ECG", "ecg"), ("EEG", "eeg"), ("EMG", "emg"))
"""What a recording may say of itself, and the profile for it."""
_QUIET = re.compile(r"([a-z]+)-quiet-([0-9]{1,3})")
_MADE = re.compile(r"(auto|cut)-([0-9]{1,12})x([0-9]+(?:p[0-9]+)?(?:e-?[0-9]+)?)hz(?:-(m?)([0-9]{1,3})db)?")


def auto_profile(
    rate_hz: float, samples: int | None, channels: int = 1, *, level_db: float | None = None, kind: str = ""
) -> tuple[ProfileSpec, str]:
    """Choose a profile, and say what was chosen and why.

    Parameters
    ----------
    rate_hz
        Sampling rate, Hz.
    samples
        Length of the windows that are given; None for continuous recordings, which are yet to be cut.
    channels
        Of each window; only said.
    level_db
        Mean power density, dB re (unit of the samples)^2/Hz: the floor of the logarithm follows it, so that the unit
        of the data decides nothing. None: a floor that nothing reaches.
    kind
        What the recording says it is (``EEG``, ``ECG``, ``EMG``); anything else decides nothing.

    Raises
    ------
    UsageError
        The rate is no rate, the windows are too short or too long, or the samples too small numbers for float32.

    >>> profile, why = auto_profile(24000.0, 64)
    >>> profile.samples, profile.stft.nfft, profile.embed
    (64, 16, 'both')
    >>> auto_profile(200.0, None)[1]
    'profile icequake: windows of 5.12 s at 200 Hz, the built-in profile for recordings of 200 Hz'
    """
    if not 0 < rate_hz < float("inf"):
        raise UsageError(f"the sampling rate must be a number of Hz > 0 (got {rate_hz:g})")
    if level_db is not None and level_db < LEAST_FLOOR_DB:
        raise UsageError(
            f"the samples must be larger numbers: their power density must be at least {LEAST_FLOOR_DB:g} dB "
            f"(got {level_db:.0f}); take a smaller unit"
        )
    if samples is None:
        return _for_recordings(rate_hz, level_db, kind)
    if samples < LEAST:
        raise UsageError(f"windows must have at least {LEAST} samples (got {samples})")
    if samples > 3600 * rate_hz:
        raise UsageError(f"windows must be at most 3600 s long (got {samples / rate_hz:g} s)")
    profile = _made(rate_hz, samples, _floor(level_db))
    how = "their waveform beside their spectrogram" if profile.embed == "both" else "their spectrogram"
    several = f" of {channels} channels" if channels > 1 else ""
    slower = "" if profile.rate_hz >= rate_hz else f", processed at {profile.rate_hz:g} Hz because they are long"
    return profile, (
        f"profile {profile.name}, made for windows{several} of {samples} samples at {rate_hz:g} Hz{slower}: "
        f"{how} (segments of {profile.stft.nfft} samples, every {profile.stft.hop}), encoder {profile.encoder}"
    )


def _for_recordings(rate_hz: float, level_db: float | None, kind: str) -> tuple[ProfileSpec, str]:
    name = next((name for word, name in KINDS if kind.upper().startswith(word)), None)
    if name is not None and PROFILES[name]["rate_hz"] <= SLACK * rate_hz:
        return _built_in(name, level_db, f"the built-in profile for recordings of kind {kind}")
    if rate_hz < FASTEST_HZ / SLACK and name is None:
        fitting = [name for name in RECORDED if PROFILES[name]["rate_hz"] <= SLACK * rate_hz]
        if fitting:
            return _built_in(fitting[0], level_db, f"the built-in profile for recordings of {rate_hz:g} Hz")
    if rate_hz < FASTEST_HZ / SLACK:
        seconds = min(max(min(4096 / rate_hz, 600.0), LEAST / rate_hz), 3600.0)
    else:
        seconds = AT_ONCE / rate_hz
    samples = floor(seconds * rate_hz + 1e-6)
    if samples < LEAST:
        raise UsageError(f"recordings must have at least {LEAST / 3600:.3g} samples a second (got {rate_hz:g})")
    profile = _cut(rate_hz, samples, _floor(level_db))
    return profile, (
        f"profile {profile.name}: windows of {samples} samples ({profile.window_seconds:.4g} s) every half of that, "
        f"because no built-in profile fits recordings of {rate_hz:g} Hz; encoder {profile.encoder}"
    )


def _built_in(name: str, level_db: float | None, why: str) -> tuple[ProfileSpec, str]:
    """Return a built-in profile; where its floor would swallow the signal, the same with a lower floor."""
    profile = ProfileSpec.model_validate({"name": name, **PROFILES[name]})
    floor_db = _floor(level_db)
    if level_db is not None and floor_db < profile.stft.floor_db:
        profile = _quiet(name, floor_db)
        why += f", with a floor of {floor_db:g} dB because the samples are small numbers"
    return profile, f"profile {profile.name}: windows of {profile.window_seconds:g} s at {profile.rate_hz:g} Hz, {why}"


def named(name: str) -> ProfileSpec | None:
    """Return the profile that a name says all of: a built-in one, or one that `auto_profile` chose; else None.

    >>> named("icequake-quiet-120").stft.floor_db, named("auto-64x24000hz").samples, named("mine")
    (-120.0, 64, None)
    """
    if name in PROFILES:
        return ProfileSpec.model_validate({"name": name, **PROFILES[name]})
    try:
        profile = _parsed(name)
    except (UsageError, ValidationError):
        return None
    return profile if profile is not None and profile.name == name else None


def section(profile: ProfileSpec) -> str:
    """Return the line of a configuration that gives this profile.

    >>> section(named("icequake-quiet-120"))
    'profile: {"name": "icequake-quiet-120"}'
    >>> section(ProfileSpec(name="mine", clip=9.0))
    'profile: {"name": "mine", "clip": 9.0}'
    """
    usual = (named(profile.name) or ProfileSpec(name=profile.name)).model_dump(mode="json")
    return f"profile: {json.dumps({'name': profile.name, **_changed(profile.model_dump(mode='json'), usual)})}"


def _changed(values: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that are not the usual ones, at all depths."""
    changed = {key: value for key, value in values.items() if value != usual[key]}
    return {key: _changed(value, usual[key]) if isinstance(value, dict) else value for key, value in changed.items()}


def _parsed(name: str) -> ProfileSpec | None:
    """Return the profile that a name of `_quiet`, `_made` or `_cut` stands for; names that are spelt otherwise may pass."""
    if (quiet := _QUIET.fullmatch(name)) and quiet[1] in PROFILES:
        return _quiet(quiet[1], -float(quiet[2]))
    if (made := _MADE.fullmatch(name)) is None:
        return None
    kind, samples, rate_hz = made[1], int(made[2]), float(made[3].replace("p", "."))
    if samples < LEAST or not 0 < rate_hz < float("inf"):
        return None
    floor_db = NO_FLOOR_DB if made[5] is None else float(made[5]) * (-1 if made[4] else 1)
    return (_cut if kind == "cut" else _made)(rate_hz, samples, floor_db)


def _quiet(name: str, floor_db: float) -> ProfileSpec:
    """Return a built-in profile with a lower floor."""
    profile = ProfileSpec.model_validate({"name": name, **PROFILES[name]})
    stft = profile.stft.model_dump() | {"floor_db": floor_db}
    return ProfileSpec.model_validate({**profile.model_dump(), "name": f"{name}-quiet-{-floor_db:g}", "stft": stft})


def _made(rate_hz: float, samples: int, floor_db: float, kind: str = "auto") -> ProfileSpec:
    """Return a profile for windows of exactly this many samples, which came as such."""
    seconds = samples / rate_hz
    slower = ceil(samples / MOST)
    rate = rate_hz / slower
    if rate > FASTEST_PROFILE_HZ:
        raise UsageError(f"the sampling rate must be at most {FASTEST_PROFILE_HZ:g} Hz (got {rate_hz:g})")
    own = round(seconds * rate)
    short = own <= SHORT
    nfft = segment(own)
    values: dict[str, Any] = {
        "name": _name(kind, samples, rate_hz, floor_db),
        "rate_hz": float(rate),
        "window_seconds": seconds,
        "hop_seconds": seconds / 2,
        "stft": {"nfft": nfft, "hop": _hop(own, nfft), "floor_db": floor_db},
        "embed": "both" if short else "spectrogram",
        "encoder": "ephys" if short or rate_hz >= FASTEST_HZ / SLACK else "seismic",
    }
    if short:
        values |= {"detrend": "mean", "taper_fraction": 0.0}
    return ProfileSpec.model_validate(values)


def _cut(rate_hz: float, samples: int, floor_db: float) -> ProfileSpec:
    """Return a profile for windows that are cut from recordings anywhere: their waveforms have nothing in common."""
    encoder = "seismic" if rate_hz < FASTEST_HZ / SLACK else "ephys"
    made = _made(rate_hz, samples, floor_db, "cut")
    return made.model_copy(update={"embed": "spectrogram", "encoder": encoder, "taper_fraction": 0.05})


def segment(samples: int) -> int:
    """Return the length of the transform: a power of two from 8 to 512, near a quarter of a short window.

    >>> [segment(n) for n in (32, 60, 128, 300, 4096, 600_000)]
    [8, 16, 32, 64, 128, 512]
    """
    wanted = min(samples / 4, max(64.0, 2 * sqrt(samples)))
    return int(min(512, max(8, 2 ** round(log2(wanted)))))


def _hop(samples: int, nfft: int) -> int:
    """Return the step of the segments: finer for short windows, none over the other for very long ones."""
    if samples <= AT_ONCE:
        return max(2, nfft // 4)
    return nfft // 2 if samples <= 1 << 17 else nfft


def _floor(level_db: float | None) -> float:
    """Return a floor in steps of 10 dB."""
    if level_db is None:
        return NO_FLOOR_DB
    return min(200.0, max(LEAST_FLOOR_DB, 10.0 * floor((level_db - BELOW_LEVEL_DB) / 10 + 0.5)))


def _name(kind: str, samples: int, rate_hz: float, floor_db: float) -> str:
    """``auto-128x200hz-m80db``: what it was made for; events and windows of another one have other names."""
    rate = f"{rate_hz:.10g}".replace(".", "p").replace("+", "").lower()
    level = "" if floor_db == NO_FLOOR_DB else f"-{'m' * (floor_db < 0)}{abs(floor_db):g}db"
    return f"{kind}-{samples}x{rate}hz{level}"[:32]

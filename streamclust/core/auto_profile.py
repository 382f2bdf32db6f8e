"""The profile of data that come without one: chosen from rate, window length and level, and said in a sentence."""

from __future__ import annotations

from math import ceil, floor, log2, sqrt
from typing import Any

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
FASTEST_PROFILE_HZ = 1e8
"""Highest processing rate of a profile."""
KINDS = (("ECG", "ecg"), ("EEG", "eeg"), ("EMG", "emg"))
"""What a recording may say of itself, and the profile for it."""


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
        The rate is no rate, or the windows are too short or too long.

    >>> profile, why = auto_profile(24000.0, 64)
    >>> profile.samples, profile.stft.nfft, profile.embed
    (64, 16, 'both')
    >>> auto_profile(200.0, None)[1]
    'profile icequake: windows of 5.12 s at 200 Hz, the built-in profile for recordings of 200 Hz'
    """
    if not 0 < rate_hz < float("inf"):
        raise UsageError(f"the sampling rate must be a number of Hz > 0 (got {rate_hz:g})")
    if samples is None:
        return _for_recordings(rate_hz, level_db, kind)
    if samples < LEAST:
        raise UsageError(f"windows must have at least {LEAST} samples (got {samples})")
    if samples > 3600 * rate_hz:
        raise UsageError(f"windows must be at most 3600 s long (got {samples / rate_hz:g} s)")
    profile = _made(rate_hz, samples, samples / rate_hz, level_db)
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
    profile = _made(rate_hz, samples, samples / rate_hz, level_db)
    slow = rate_hz < FASTEST_HZ / SLACK
    profile = profile.model_copy(  # windows cut anywhere have no waveform in common
        update={"embed": "spectrogram", "encoder": "seismic" if slow else "ephys", "taper_fraction": 0.05}
    )
    return profile, (
        f"profile {profile.name}: windows of {samples} samples ({profile.window_seconds:.4g} s) every half of that, "
        f"because no built-in profile fits recordings of {rate_hz:g} Hz; encoder {profile.encoder}"
    )


def _built_in(name: str, level_db: float | None, why: str) -> tuple[ProfileSpec, str]:
    """Return a built-in profile; where its floor would swallow the signal, one of its own name with a lower floor."""
    profile = ProfileSpec.model_validate({"name": name, **PROFILES[name]})
    floor_db = _floor(level_db)
    if level_db is not None and floor_db < profile.stft.floor_db:
        stft = profile.stft.model_copy(update={"floor_db": floor_db})
        profile = profile.model_copy(update={"name": f"{name}-quiet", "stft": stft})
        why += f", with a floor of {floor_db:g} dB because the samples are small numbers"
    return profile, f"profile {profile.name}: windows of {profile.window_seconds:g} s at {profile.rate_hz:g} Hz, {why}"


def _made(rate_hz: float, samples: int, seconds: float, level_db: float | None) -> ProfileSpec:
    """Return a profile for windows of exactly this many samples."""
    slower = ceil(samples / MOST)
    rate = rate_hz / slower
    if rate > FASTEST_PROFILE_HZ:
        raise UsageError(f"the sampling rate must be at most {FASTEST_PROFILE_HZ:g} Hz (got {rate_hz:g})")
    own = round(seconds * rate)
    short = own <= SHORT
    nfft = segment(own)
    values: dict[str, Any] = {
        "name": _name(samples, rate_hz),
        "rate_hz": float(rate),
        "window_seconds": seconds,
        "hop_seconds": seconds / 2,
        "stft": {"nfft": nfft, "hop": _hop(own, nfft), "floor_db": _floor(level_db)},
        "embed": "both" if short else "spectrogram",
        "encoder": "ephys" if short or rate_hz >= FASTEST_HZ / SLACK else "seismic",
    }
    if short:
        values |= {"detrend": "mean", "taper_fraction": 0.0}
    return ProfileSpec.model_validate(values)


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
        return -200.0
    return min(200.0, max(-400.0, 10.0 * floor((level_db - BELOW_LEVEL_DB) / 10 + 0.5)))


def _name(samples: int, rate_hz: float) -> str:
    """``auto-128x200hz``: what it was made for; events and windows of another one have other names."""
    rate = f"{rate_hz:.6g}".replace(".", "p").replace("+", "").lower()
    return f"auto-{samples}x{rate}hz"[:32]

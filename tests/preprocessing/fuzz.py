"""Mutated photographs through the decoder: pixels or an ImageError, no crash, no hang, no word on stderr.

    python -m tests.preprocessing.fuzz --count 100000

Case N is the same in every run: `--only N` decodes it alone. Prints what was tried; exit code 1 if anything failed.
"""

import argparse
import faulthandler
import functools
import os
import random
import re
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from tests.preprocessing.photographs import TURNED, alpha_files, file_of, gamma, icc, rgb_profile, scene
from tfface.errors import ImageError
from tfface.preprocessing.decoding import decode, for_server

Edit = tuple[str, float, int]
"""A kind of damage, where in the file (0 to 1), and a number that it uses."""
NUMBERS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
KINDS = ("flip", "set", "delete", "repeat", "insert", "zero", "cut", "number16", "number32", "splice")
_PNG = b"\x89PNG\r\n\x1a\n"
_SECONDS = 30
_PART = 500


@functools.cache
def corpus() -> tuple[bytes, ...]:
    """Small photographs of every format and kind that is read, and of some that are not."""
    small = scene(32, 40)
    image, grey = Image.fromarray(small), Image.fromarray(small).convert("L")
    deep = np.asarray(grey, np.uint16) * 257
    jpegs = [{"subsampling": 0}, {"subsampling": 2}, {"progressive": True}, {"restart_marker_blocks": 3}]
    profile = rgb_profile(curve=1.8)
    return (
        *(file_of(image, "JPEG", **options) for options in jpegs),
        *(file_of(other, "JPEG") for other in (grey, image.convert("CMYK"))),
        file_of(image, "JPEG", icc_profile=profile),
        file_of(image, "MPO", save_all=True, append_images=[image]),
        *(file_of(image.convert(mode), "PNG") for mode in ("RGB", "RGBA", "L", "LA", "P", "1")),
        file_of(Image.fromarray(deep), "PNG"),
        file_of(image, "PNG", icc_profile=profile),
        file_of(grey, "PNG", icc_profile=icc(b"GRAY", {b"kTRC": gamma(1.0)})),
        *(
            file_of(image, "TIFF", compression=name)
            for name in (None, "tiff_lzw", "tiff_adobe_deflate", "jpeg", "zstd")
        ),
        *(file_of(Image.fromarray(array), "TIFF") for array in (deep, deep.astype(np.float32), deep.astype(np.int32))),
        *(file_of(image, kind) for kind in ("GIF", "BMP", "WEBP", "PPM", "JPEG2000", "AVIF")),
        file_of(image, "GIF", save_all=True, append_images=[image.rotate(90)]),
        file_of(image, "WEBP", lossless=True),
        file_of(image, "WEBP", save_all=True, append_images=[image.rotate(90)]),
        file_of(grey, "PPM"),
        file_of(Image.fromarray(deep), "PPM"),
        b"Pf\n40 32\n-1.0\n" + np.linspace(0, 1, 1280).astype("<f4").tobytes(),
        *(TURNED[way](6) for way in sorted(TURNED)),
        *alpha_files().values(),
    )


def mutate(data: bytes, edits: Sequence[Edit], other: bytes, *, mend: bool) -> bytes:
    """Damage a file.

    Args:
        data: the file.
        edits: what to do to it, one after the other.
        other: a file to splice with.
        mend: make the checksums of a PNG right again, so that more than its checksums is tried.
    """
    found = bytearray(data)
    for kind, place, number in edits:
        at = min(int(place * len(found)), max(len(found) - 1, 0))
        length = 1 + number % 64
        if not found:
            break
        if kind == "flip":
            found[at] ^= 1 << number % 8
        elif kind == "set":
            found[at] = number % 256
        elif kind == "delete":
            del found[at : at + length]
        elif kind == "repeat":
            found[at:at] = found[at : at + length] * (1 + number % 7)
        elif kind == "insert":
            found[at:at] = random.Random(number).randbytes(length)
        elif kind == "zero":
            found[at : at + length] = bytes(len(found[at : at + length]))
        elif kind == "cut":
            del found[at:]
        elif kind in ("number16", "number32"):
            value = NUMBERS[number % len(NUMBERS)]
            order = "<" if number & 1024 else ">"
            packed = struct.pack(f"{order}H", value & 0xFFFF) if kind == "number16" else struct.pack(f"{order}L", value)
            found[at : at + len(packed)] = packed
        else:
            found[at:] = other[int(place * len(other)) :]
    return _mended(bytes(found)) if mend and found.startswith(_PNG) else bytes(found)


def _mended(data: bytes) -> bytes:
    found, position = bytearray(data), len(_PNG)
    while position + 12 <= len(found):
        length = int.from_bytes(found[position : position + 4], "big")
        end = position + 8 + length
        if end + 4 > len(found):
            break
        found[end : end + 4] = zlib.crc32(found[position + 4 : end]).to_bytes(4, "big")
        position = end + 4
    return bytes(found)


def case(number: int) -> bytes:
    """Return the mutated file of a number."""
    chance = random.Random(number)
    files = corpus()
    count = chance.choice((1, 1, 1, 2, 3, 8))
    edits = [(chance.choice(KINDS), chance.random(), chance.getrandbits(16)) for _ in range(count)]
    if chance.random() < 0.3:
        # Headers are short: half of what is wrong with files would never be tried.
        edits = [(kind, place * 0.1, value) for kind, place, value in edits]
    return mutate(chance.choice(files), edits, chance.choice(files), mend=chance.random() < 0.7)


def judge(data: bytes) -> str:
    """Decode a file and say how it went; anything but pixels and an ImageError is raised."""
    try:
        pixels = decode(data)
    except ImageError as error:
        return re.sub(r"\d+", "N", str(error).split(" (")[0])
    assert isinstance(pixels, np.ndarray)
    assert pixels.dtype == np.uint8, pixels.dtype
    assert pixels.ndim == 3, pixels.shape
    assert pixels.shape[2] == 3, pixels.shape
    sent = for_server(data)
    assert sent is data or np.array_equal(decode(sent), pixels)
    return "pixels"


def work(start: int, stop: int) -> None:
    """Judge a range of cases; the number of the one at work is the last line of stdout."""
    faulthandler.enable()
    for number in range(start, stop):
        print(f"\n{number}", end="", flush=True)
        signal.alarm(_SECONDS)
        began = time.monotonic()
        said = judge(case(number))
        signal.alarm(0)
        print(f"\t{said}\t{time.monotonic() - began:.3f}", end="", flush=True)


def campaign(count: int, start: int, workers: int) -> int:
    """Judge many cases in processes of their own; print the figures.

    Returns:
        How many failed.
    """
    failures: list[str] = []
    said: Counter[str] = Counter()
    slowest = (0.0, "")

    def run(first: int) -> None:
        nonlocal slowest
        begin, stop = first, min(first + _PART, start + count)
        while begin < stop:
            with tempfile.TemporaryFile() as errors:
                command = [
                    sys.executable,
                    "-m",
                    __spec__.name if __spec__ else __name__,
                    "--work",
                    str(begin),
                    str(stop),
                ]
                done = subprocess.run(command, stdout=subprocess.PIPE, stderr=errors, text=True, check=False)
                errors.seek(0)
                words = errors.read().decode("utf-8", "replace").strip()
            lines = [line.split("\t") for line in done.stdout.split("\n") if line]
            for line in lines:
                if len(line) == 3:
                    said[line[1]] += 1
                    slowest = max(slowest, (float(line[2]), line[0]))
            if done.returncode == 0 and not words:
                return
            last = int(lines[-1][0]) if lines else begin
            failures.append(f"case {last}: exit {done.returncode}: {words[-400:]}")
            print(f"\n{failures[-1]}", file=sys.stderr)
            begin = last + 1 if done.returncode else stop

    began = time.monotonic()
    with ThreadPoolExecutor(workers) as pool:
        for place, _ in enumerate(pool.map(run, range(start, start + count, _PART))):
            print(f"\r{place * _PART + _PART} cases, {len(failures)} failed", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    print(f"{sum(said.values())} mutated photographs in {time.monotonic() - began:.0f} s: {len(failures)} failures")
    print(f"slowest {slowest[0]:.1f} s (case {slowest[1]})")
    for words, times in said.most_common():
        print(f"{times:8d}  {words}")
    return len(failures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", type=int, help="decode this case alone, in this process")
    parser.add_argument("--work", type=int, nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work(*given.work)
    elif given.only is not None:
        Path(f"case-{given.only}").write_bytes(case(given.only))
        print(judge(case(given.only)))
    else:
        sys.exit(campaign(given.count, given.start, given.workers) > 0)


if __name__ == "__main__":
    main()

"""Encoded pictures: got from the cells of a table, and checked before anything trains on them.

load_pictures(["cat/7.jpg", {"bytes": b"..."}], Path("photos"), "column 'image'", 2**26)
# [b"...", "column 'image' is truncated or corrupt (...)"]
"""

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from data.cells import Problem, clip, from_base64, shown

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")
THREADS = min(8, os.cpu_count() or 1)
TOGETHER = 32  # pictures that a thread checks at a time

# Common formats that are told by name, so that it is clear what to convert.
_OTHERS = ("AVIF", "ICO", "JPEG2000", "PPM", "PSD", "TIFF")
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM")
_OTHER_SIGNATURES = (b"II*\0", b"MM\0*", b"8BPS", b"\0\0\0\x0cjP", b"\xff\x4f\xff\x51")

_NOTES = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")  # chunks of a PNG
ORIENTATION = b"tiff:Orientation"  # in XMP
_RUN_LENGTHS = (1, 2)  # compressions of a BMP

# For the whole process, since neither can be set for one thread: `max_pixels` stands in for
# Pillow's own limit, and what Pillow has to say of a picture it can decode is nobody's concern.
Image.MAX_IMAGE_PIXELS = None
warnings.filterwarnings("ignore", module=r"PIL\.")


def load_pictures(
    cells: Sequence[Any], folder: Path, name: str, max_pixels: int | None
) -> list[bytes | str]:
    """Each cell's encoded picture, or what is wrong with it in words.

    Args:
        cells: bytes, the path of a file, {"bytes": ..., "path": ...} as Hugging Face's Parquet
            files have it, or {"b64": ...} as TensorFlow Serving's REST interface has it.
        folder: what paths are relative to.
        name: what to call a picture that has no file.
        max_pixels: the most that a picture may have; None takes pictures without decoding them.
    """

    def load(some: Sequence[Any]) -> list[bytes | str]:
        loaded = [_load(cell, folder, name) for cell in some]
        if max_pixels is None:
            return [held[1] if isinstance(held, tuple) else held for held in loaded]
        pictures = [held for held in loaded if isinstance(held, tuple)]
        problems = iter(problems_with([picture for _, picture in pictures], max_pixels))
        checked: list[bytes | str] = []
        for held in loaded:
            if isinstance(held, str):
                checked.append(held)
            else:
                problem = next(problems)
                checked.append(held[1] if problem is None else f"{held[0]} {problem}")
        return checked

    if len(cells) < 2:
        return load(cells)
    parts = [cells[at : at + TOGETHER] for at in range(0, len(cells), TOGETHER)]
    # TensorFlow, Pillow and the reading of files all let other threads run.
    with ThreadPoolExecutor(THREADS) as pool:
        return list(chain.from_iterable(pool.map(load, parts)))


def begins_like_a_picture(start: bytes) -> bool:
    """Whether the first 16 bytes of a file are those of a picture, in a format that can be decoded
    or in one that is common elsewhere; not of BMP, as "BM" may begin a text."""
    is_webp = (start[:4], start[8:12]) == (b"RIFF", b"WEBP")
    return (
        is_webp or start[4:8] == b"ftyp" or start.startswith((*_SIGNATURES[:3], *_OTHER_SIGNATURES))
    )


def problems_with(pictures: Sequence[bytes], max_pixels: int) -> list[str | None]:
    """Why each picture can't be used, as the end of a sentence, or None if it can.

    What decodes pictures in training and serving has the say; Pillow has the words, and the last
    one about a GIF, as TensorFlow takes one that is cut off.
    """
    from data.images.decoding import refusals

    refused = refusals(pictures, max_pixels)
    return [
        _problem_with(picture, refused.get(index), max_pixels)
        if index in refused or picture.startswith(b"GIF8")
        else None
        for index, picture in enumerate(pictures)
    ]


def _problem_with(picture: bytes, refused: str | None, max_pixels: int) -> str | None:
    if not picture:
        return "is empty"
    said = _pillows_problem(picture, max_pixels)
    if said is None and refused is not None:
        return f"can't be decoded ({clip(refused, 80)}); save it anew, as PNG"
    return said


def opened(picture: bytes) -> Image.Image:
    """A picture by Pillow, which has read its header; a PNG without notes and colour profile, of
    which Pillow refuses long ones."""
    if picture.startswith(b"\x89PNG") and any(kind in picture for kind in _NOTES):
        picture = _without_notes(picture)
    return Image.open(BytesIO(picture), formats=FORMATS)


def _pillows_problem(picture: bytes, max_pixels: int) -> str | None:
    """What Pillow says is wrong with a picture, as the end of a sentence."""
    try:
        with opened(picture) as image:
            width, height = image.size
            if width * height > max_pixels:
                return f"has {width}x{height} pixels, more than --data.max_pixels {max_pixels}"
            if image.format == "WEBP" and getattr(image, "is_animated", False):
                return "is an animated WebP picture; convert it to PNG"
            if image.format == "BMP" and picture[30] in _RUN_LENGTHS and picture[14] > 12:
                return "is a compressed BMP picture; convert it to PNG"
            if image.format == "PNG":
                # Decoding passes over checksums that TensorFlow's decoder insists on.
                image.verify()
        with opened(picture) as image:
            image.load()
    except UnidentifiedImageError:
        return _unidentified(picture)
    except MemoryError:
        raise
    # Pillow's decoders raise whatever they stumble over: OSError, SyntaxError, struct.error, ...
    except Exception as error:
        return f"is truncated or corrupt ({clip(str(error), 80)})"
    return None


def _without_notes(png: bytes) -> bytes:
    """A PNG without the chunks that hold notes and colour profiles, but for an orientation."""
    parts, at = [png[:8]], 8
    while at + 8 <= len(png):
        end = at + 12 + int.from_bytes(png[at : at + 4], "big")
        chunk = png[at:end]
        if chunk[4:8] not in _NOTES or (chunk[4:8] == b"iTXt" and ORIENTATION in chunk):
            parts.append(chunk)
        at = end
    return b"".join(parts)


def picture_size(cell: Any, folder: Path) -> int:
    """The bytes that a cell's picture takes, 0 if there is none."""
    held, path = _parts(cell)
    if held is not None:
        return len(held)
    try:
        return (folder / path).stat().st_size if path else 0
    except (OSError, ValueError):
        return 0


def is_path(cell: Any) -> bool:
    """Whether a cell only names its picture's file."""
    held, path = _parts(cell)
    return held is None and bool(path)


def _load(cell: Any, folder: Path, name: str) -> tuple[str, bytes] | str:
    """A picture with what to call it, or what is wrong with its cell or file in words."""
    if isinstance(cell, Problem):
        return cell
    held, path = _parts(cell)
    if isinstance(held, str):
        decoded = from_base64(held)
        if decoded is None:
            return f"{name} is not base64"
        picture = decoded
    elif held is not None:
        picture = held
        name = f"{name} ({shown(path)})" if path else name
    elif path:
        file = folder / path
        name = shown(str(file))
        try:
            if file.exists() and not file.is_file():
                return f"{name} is not a file"
            picture = file.read_bytes()
        except (FileNotFoundError, ValueError):
            return f"{name} does not exist"
        except OSError as error:
            return f"{name} can't be read ({error.strerror})"
    elif cell is None or cell != cell or isinstance(cell, str | dict):
        return f"{name} is empty"
    else:
        return f"{name} is of type {type(cell).__name__}, not a picture"
    return name, picture


def _parts(cell: Any) -> tuple[bytes | str | None, str]:
    """What a cell holds of its picture (bytes, or base64 as text), and the path of its file."""
    if isinstance(cell, bytes):
        return cell, ""
    if isinstance(cell, str):
        return None, cell.strip()
    if isinstance(cell, dict):
        held, encoded, path = cell.get("bytes"), cell.get("b64"), cell.get("path")
        if isinstance(held, bytes):
            return held, path if isinstance(path, str) else ""
        if isinstance(encoded, str):
            return encoded, ""
        return None, path.strip() if isinstance(path, str) else ""
    return None, ""


def _unidentified(picture: bytes) -> str:
    """What to say of bytes that are not a picture in one of the formats."""
    if picture.startswith(_SIGNATURES) or (picture[:4], picture[8:12]) == (b"RIFF", b"WEBP"):
        return "is truncated or corrupt (its header is broken)"
    if _is_heic(picture):
        return "is a HEIC picture; convert it to JPEG or PNG"
    Image.init()
    try:
        others = [name for name in _OTHERS if name in Image.OPEN]
        with Image.open(BytesIO(picture), formats=others) as image:
            article = "an" if str(image.format)[0] in "AI" else "a"
            return f"is {article} {image.format} picture; convert it to JPEG or PNG"
    except Exception:
        return f"is not a picture; give {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"


def _is_heic(picture: bytes) -> bool:
    return picture[4:8] == b"ftyp" and picture[8:11] in (b"hei", b"hev", b"mif")

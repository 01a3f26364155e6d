"""Bad inputs by hand, each with what it must be told. Other tests, such as those of the command line, use them too.

FILES     single files: what decoding says (`reason`), or None and `notes` where they are fine after all
FOLDERS   whole inputs that are refused: `message` is everything that is said, {path} being what was typed and {folder}
          what that lies in
OPTIONS   words after `headway` that are refused whatever the data is, and everything that is said
"""

from __future__ import annotations

import gzip
import os
import struct
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tests import make


@dataclass(frozen=True)
class BadFile:
    """A file called `name` with `content`; `reason` as decoding gives it, None where it is accepted with `notes`."""

    name: str
    content: Callable[[], bytes]
    reason: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class BadFolder:
    """`build(tmp_path)` makes it and returns the path to give; `message` is the whole refusal."""

    build: Callable[[Path], Path]
    message: str

    def told(self, path: Path) -> str:
        """The refusal of what was built at `path`."""
        return self.message.replace("{path}", str(path)).replace("{folder}", str(path.parent))


def _gif_with_many_frames(n: int = 100_000) -> bytes:
    first = make.encode(make.image(size=(4, 4)).quantize(4), "GIF")
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    return first[:-1] + frame * (n - 1) + b"\x3b"


def _jpeg_bomb() -> bytes:
    content = make.jpeg()
    at = content.index(b"\xff\xc0") + 5
    return content[:at] + struct.pack(">HH", 60_000, 60_000) + content[at + 4 :]


def _png_text_bomb() -> bytes:
    content = make.png()
    data = b"Comment\0\0" + zlib.compress(b"\0" * (80 << 20), 9)
    chunk = struct.pack(">I", len(data)) + b"zTXt" + data + struct.pack(">I", zlib.crc32(b"zTXt" + data))
    return content[:33] + chunk + content[33:]


def _tiff(sample_format: int = 1, bits: int = 8, channels: int = 3) -> bytes:
    """A little TIFF of zeros, 4 x 4, written tag by tag."""
    data = bytes(4 * 4 * channels * bits // 8)
    many = struct.pack(f"<{channels}H", *[bits] * channels)
    tags = [(256, 3, 1, 4), (257, 3, 1, 4), (258, 3, channels, None), (259, 3, 1, 1)]
    tags += [(262, 3, 1, 2 if channels >= 3 else 1), (273, 4, 1, 200), (277, 3, 1, channels), (278, 3, 1, 4)]
    tags += [(279, 4, 1, len(data)), (339, 3, 1, sample_format)]
    table = struct.pack("<H", len(tags))
    for tag, kind, count, value in tags:
        if value is None:
            body = struct.pack("<I", 160) if channels > 2 else many.ljust(4, b"\0")
        else:
            body = struct.pack("<I", value)
        table += struct.pack("<HHI", tag, kind, count) + body
    content = b"II*\0" + struct.pack("<I", 8) + table + struct.pack("<I", 0)
    return content.ljust(160, b"\0") + many.ljust(40, b"\0") + data


def _stored_png(side: int = 64) -> bytes:
    """A PNG whose pixels are not packed, so that a share of the file is a share of the rows."""
    return make.encode(make.image(size=(side, side)), compress_level=0)


FILES: dict[str, BadFile] = {
    "zero bytes": BadFile("empty.jpg", lambda: b"", "empty file"),
    "html": BadFile("page.jpg", lambda: b"<html><body>404</body></html>", "not an image (starts with '<html><body>')"),
    "text": BadFile(
        "notes.png", lambda: b"Thumbnails are in\nthe other folder\n", "not an image (starts with 'Thumbnails a')"
    ),
    "zeros": BadFile("zeros.jpg", lambda: bytes(5000), "not an image (only zero bytes)"),
    "noise": BadFile("noise.jpg", lambda: bytes(range(128, 256)) * 9, "not an image (unknown content)"),
    "lfs pointer": BadFile(
        "lfs.jpg",
        lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:12\n",
        "not an image (a Git LFS pointer: run 'git lfs pull')",
    ),
    "zip": BadFile("packed.jpg", lambda: b"PK\x03\x04" + bytes(99), "not an image (a ZIP archive)"),
    "heic": BadFile(
        "phone.jpg", lambda: b"\0\0\0\x18ftypheic" + bytes(99), "HEIC is not supported: convert to JPEG or PNG"
    ),
    "avif": BadFile(
        "new.avif", lambda: b"\0\0\0\x1cftypavif" + bytes(99), "AVIF is not supported: convert to JPEG or PNG"
    ),
    "pdf": BadFile("scan.png", lambda: b"%PDF-1.7\n" + bytes(99), "PDF is not supported: convert to JPEG or PNG"),
    "svg": BadFile("draw.svg", lambda: b'<?xml version="1.0"?><svg></svg>', "SVG is not supported: convert to PNG"),
    "truncated jpeg": BadFile("half.jpg", lambda: make.truncated(make.jpeg(size=(256, 256)), 0.5), "truncated at 55 %"),
    "truncated progressive jpeg": BadFile(
        "half.jpg", lambda: make.truncated(make.encode(make.image(), "JPEG", progressive=True), 0.7), "truncated"
    ),
    "truncated png": BadFile("half.png", lambda: make.truncated(_stored_png(), 0.5), "truncated at 48 %"),
    "truncated webp": BadFile(
        "half.webp", lambda: make.truncated(make.encode(make.image(), "WEBP"), 0.5), "truncated at 50 %"
    ),
    "truncated bmp": BadFile(
        "half.bmp", lambda: make.truncated(make.encode(make.image(), "BMP"), 0.5), "truncated at 47 %"
    ),
    "truncated tiff": BadFile(
        "half.tif", lambda: make.truncated(make.encode(make.image(), "TIFF"), 0.5), "truncated at 50 %"
    ),
    "cut in the header": BadFile("stub.jpg", lambda: make.jpeg()[:40], "truncated in its header"),
    "png bomb": BadFile(
        "bomb.png", lambda: make.bomb(50_000, 50_000), "50,000 x 50,000 pixels, the limit is 200 million"
    ),
    "jpeg bomb": BadFile("bomb.jpg", _jpeg_bomb, "60,000 x 60,000 pixels, the limit is 200 million"),
    "text bomb in a png": BadFile("bomb.png", _png_text_bomb, "damaged PNG"),
    "broken png chunk": BadFile("broken.png", lambda: make.png().replace(b"IDAT", b"IDAU", 1), "damaged PNG"),
    "floating point": BadFile(
        "heat.tif",
        lambda: make.encode(Image.new("F", (8, 8), 0.5), "TIFF"),
        "floating-point pixels (32 bits); headway reads whole numbers of 8 or 16 bits a channel",
    ),
    "five channels of 16 bits": BadFile(
        "0012.tif", lambda: _tiff(bits=16, channels=5), "16 bits a channel, 5 channels; headway reads 1 to 4"
    ),
    "signed": BadFile(
        "signed.tif", lambda: _tiff(2, 16, 1), "16 signed bits a channel; headway reads 8 or 16, unsigned"
    ),
    "cmyk": BadFile("print.jpg", make.cmyk),
    "16 bits": BadFile("deep.png", make.sixteen_bits, notes=("16 bits a channel",)),
    "16 bits tiff": BadFile("deep.tif", lambda: make.sixteen_bits(form="TIFF"), notes=("16 bits a channel",)),
    "palette": BadFile("few.png", make.palette, notes=("transparent parts shown on white",)),
    "alpha": BadFile("cut.png", make.alpha, notes=("transparent parts shown on white",)),
    "animated gif": BadFile("move.gif", make.animated, notes=("first of 3 frames",)),
    "animated webp": BadFile("move.webp", lambda: make.animated("WEBP"), notes=("first of 3 frames",)),
    "animated png": BadFile("move.png", lambda: make.animated("PNG"), notes=("first of 3 frames",)),
    "many pages": BadFile("pages.tif", lambda: make.animated("TIFF", 5), notes=("first of 5 frames",)),
    "100,000 frames": BadFile("long.gif", _gif_with_many_frames, notes=("first of 1,000 or more frames",)),
    "wrong extension": BadFile("really.jpg", make.png, notes=("content is PNG, name says .jpg",)),
    **{
        f"exif {turn}": BadFile(f"turned{turn}.png", lambda turn=turn: make.rotated(turn))  # type: ignore[misc]
        for turn in range(1, 9)
    },
}


def good(root: Path, n: int = 4) -> Path:
    """Two classes, `cats` and `dogs`, with `n` images each."""
    return make.class_folders(root, {"cats": n, "dogs": n}, size=(16, 12))


def _missing(tmp_path: Path) -> Path:
    good(tmp_path / "photos")
    return tmp_path / "photo"


def _nothing_like_it(tmp_path: Path) -> Path:
    return tmp_path / "zebra"


def _empty(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    return tmp_path / "photos"


def _no_images(tmp_path: Path) -> Path:
    make.write(tmp_path / "photos" / "readme.txt", b"hello")
    make.write(tmp_path / "photos" / ".DS_Store", b"x")
    return tmp_path / "photos"


def _empty_classes(tmp_path: Path) -> Path:
    root = good(tmp_path / "photos")
    (root / "birds").mkdir()
    make.write(root / "fish" / "list.txt", b"none yet")
    return root


def _one_class(tmp_path: Path) -> Path:
    return make.class_folders(tmp_path / "photos", {"cats": 3}, size=(16, 12))


def _one_folder_too_high(tmp_path: Path) -> Path:
    good(tmp_path / "photos" / "PetImages")
    return tmp_path / "photos"


def _class_missing_in_train(tmp_path: Path) -> Path:
    counts = {"train": {"cats": 3, "dogs": 3}, "val": {"cats": 2, "wolf": 2}, "test": {"dogs": 2, "fox": 1}}
    return make.split_folders(tmp_path / "photos", counts, size=(16, 12))


def _class_empty_in_train(tmp_path: Path) -> Path:
    root = make.split_folders(tmp_path / "photos", {"train": {"cats": 3, "dogs": 3}, "val": {"cats": 1}}, size=(16, 12))
    (root / "train" / "fox").mkdir()
    (root / "val" / "dogs").mkdir()
    return root


def _two_val(tmp_path: Path) -> Path:
    counts = {name: {"cats": 2, "dogs": 2} for name in ("train", "val", "valid")}
    return make.split_folders(tmp_path / "photos", counts, size=(16, 12))


def _test_beside_classes(tmp_path: Path) -> Path:
    root = good(tmp_path / "photos")
    make.write(root / "test" / "1.jpg", make.jpeg())
    return root


def _camera_names(tmp_path: Path) -> Path:
    for i in range(4):
        make.write(tmp_path / "photos" / f"IMG_{i:04d}.jpg", make.jpeg(0, i, (16, 12)))
    return tmp_path / "photos"


def _plain_names(tmp_path: Path) -> Path:
    for name in ("cat.0", "cat.1", "sunset"):
        make.write(tmp_path / "photos" / f"{name}.jpg", make.jpeg(0, 1, (16, 12)))
    return tmp_path / "photos"


def _no_class_at_all(tmp_path: Path) -> Path:
    for name in ("1", "2", "2021-01-03"):
        make.write(tmp_path / "photos" / f"{name}.jpg", make.jpeg(0, 1, (16, 12)))
    return tmp_path / "photos"


def _val_without_classes(tmp_path: Path) -> Path:
    root = make.split_folders(tmp_path / "photos", {"train": {"cats": 3, "dogs": 3}}, size=(16, 12))
    make.write(root / "val" / "1.jpg", make.jpeg())
    return root


def _one_image(tmp_path: Path) -> Path:
    return make.write(tmp_path / "cat.jpg", make.jpeg())


def _zip(tmp_path: Path) -> Path:
    return make.write(tmp_path / "photos.zip", b"PK\x03\x04" + bytes(100))


def _labelled(n: int = 4) -> list[tuple[str, bytes]]:
    """Members of an archive: images of two classes with their labels beside them."""
    pairs = [[(f"{i}.png", make.png(0, i, (8, 8))), (f"{i}.cls", str(i % 2).encode())] for i in range(n)]
    return [member for pair in pairs for member in pair]


def _packed_photos(tmp_path: Path) -> Path:
    content = make.tar(tmp_path / "photos.tar", _labelled()).read_bytes()
    return make.write(tmp_path / "photos.tar.gz", gzip.compress(content))


def _packed_shards(tmp_path: Path) -> Path:
    content = make.tar(tmp_path / "photos.tar", _labelled()).read_bytes()
    for i in range(2):
        make.write(tmp_path / "shards" / f"{i}.tar.gz", gzip.compress(content))
    return tmp_path / "shards"


def _cut_shard(tmp_path: Path) -> Path:
    content = make.tar(tmp_path / "shards" / "0.tar", _labelled()).read_bytes()
    make.write(tmp_path / "shards" / "1.tar", content[:2600])
    return tmp_path / "shards"


def _links_only(tmp_path: Path) -> Path:
    with tarfile.open(tmp_path / "links.tar", "w") as archive:
        for name in ("cats/1.jpg", "dogs/1.jpg"):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(info)
    return tmp_path / "links.tar"


def _shards_without_labels(tmp_path: Path) -> Path:
    make.tar(tmp_path / "shards" / "0.tar", [member for member in _labelled() if member[0].endswith(".png")])
    return tmp_path / "shards"


def _odd_labels(tmp_path: Path) -> Path:
    members = [*_labelled(), ("x.png", b""), ("x.json", b'{"label": 0.5}'), ("y.png", b""), ("y.json", b"{label: 1}")]
    return make.tar(tmp_path / "odd.tar", members)


def _number_beyond_the_list(tmp_path: Path) -> Path:
    make.write(tmp_path / "classes.txt", b"cat\n")
    return make.tar(tmp_path / "a.tar", _labelled(2))


def _pattern_with_a_gap(tmp_path: Path) -> Path:
    for i in (0, 2):
        make.tar(tmp_path / f"s-{i}.tar", _labelled())
    return tmp_path / "s-{0..2}.tar"


def _pattern_of_nothing(tmp_path: Path) -> Path:
    return tmp_path / "s-*.tar"


def _open_braces(tmp_path: Path) -> Path:
    return tmp_path / "s-{000.tar"


def _empty_file(tmp_path: Path) -> Path:
    return make.write(tmp_path / "list.csv", b"")


def _program(tmp_path: Path) -> Path:
    return make.write(tmp_path / "thing", b"\x7fELF" + bytes(100))


def _pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def _ring(tmp_path: Path) -> Path:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    return tmp_path / "a"


def _dangling(tmp_path: Path) -> Path:
    (tmp_path / "photos").symlink_to(tmp_path / "gone")
    return tmp_path / "photos"


def _odd_name(tmp_path: Path) -> Path:
    root = good(tmp_path / "photos")
    (root / "two\nlines\x1b[31m").mkdir()
    return root


def _only_pipes(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    os.mkfifo(tmp_path / "photos" / "cat.jpg")
    return tmp_path / "photos"


def _csv(text: str) -> Callable[[Path], Path]:
    def build(tmp_path: Path) -> Path:
        good(tmp_path)
        return make.write(tmp_path / "list.csv", text.encode())

    return build


_FOLDER = "expected a folder of images, a CSV or Parquet file, or an archive (.tar, or CIFAR's)"
_NAMES = "Expected a folder per class, as in {path}/cats/1.jpg, or names like cat.0.jpg"

FOLDERS: dict[str, BadFolder] = {
    "near name": BadFolder(_missing, "{path} does not exist. Did you mean {path}s/ ?"),
    "no such thing": BadFolder(_nothing_like_it, "{path} does not exist: " + _FOLDER),
    "empty folder": BadFolder(_empty, "no images in {path}/: expected a folder per class, as in {path}/cats/1.jpg"),
    "no images": BadFolder(
        _no_images,
        "no images in {path}/ (ignored: .DS_Store 1, other files 1): "
        "expected a folder per class, as in {path}/cats/1.jpg",
    ),
    "empty classes": BadFolder(
        _empty_classes,
        "2 problems:\n"
        "  {path}/birds/ is an empty class: put images into it, or take the folder away\n"
        "  {path}/fish/ is an empty class: put images into it, or take the folder away",
    ),
    "one class": BadFolder(_one_class, "{path}/ has one class only (cats): a classifier needs two or more"),
    "one folder too high": BadFolder(
        _one_folder_too_high, "{path}/ has one class only (PetImages). Did you mean {path}/PetImages/ ?"
    ),
    "class missing in train": BadFolder(
        _class_missing_in_train,
        "2 problems:\n"
        "  {path}/: the class wolf (2 images) is in val but not in train: add it to train, or take it out of val\n"
        "  {path}/: the class fox (1 image) is in test but not in train: add it to train, or take it out of test",
    ),
    "class empty in train and val": BadFolder(
        _class_empty_in_train,
        "2 problems:\n"
        "  {path}/train/fox/ is an empty class: put images into it, or take the folder away\n"
        "  {path}/val/dogs/ is an empty class: put images into it, or take the folder away",
    ),
    "two folders for val": BadFolder(
        _two_val, "{path}/ has val/ and valid/, and each would be the val images: keep one"
    ),
    "test beside classes": BadFolder(
        _test_beside_classes,
        "{path}/ has test/ beside cats/ and dogs/: put the class folders into {path}/train/, or take test/ out",
    ),
    "camera names": BadFolder(_camera_names, "{path}/ has one class only (IMG): a classifier needs two or more"),
    "a name without class": BadFolder(
        _plain_names,
        "{path}/ has 3 images in no class folder, and not every name (first: sunset.jpg) starts with a class and "
        "ends with a number. " + _NAMES,
    ),
    "no class in the names": BadFolder(
        _no_class_at_all,
        "{path}/ has 3 images in no class folder, and no name starts with a class and ends with a number. " + _NAMES,
    ),
    "val without classes": BadFolder(
        _val_without_classes,
        "{path}/val/ has 1 image in no class folder, and no name starts with a class and ends with a number. "
        "Expected a folder per class, as in {path}/val/cats/1.jpg, or names like cat.0.jpg",
    ),
    "one image": BadFolder(_one_image, "{path} is one image: " + _FOLDER),
    "zip": BadFolder(_zip, "{path} is a ZIP archive: unpack it and give its folder"),
    "packed archive of images": BadFolder(
        _packed_photos,
        "{path} is a compressed archive, but none of CIFAR's (cifar-10-python.tar.gz, cifar-100-python.tar.gz, their "
        "binary versions). Take the compression off once (gunzip): a plain .tar of images is read as it is",
    ),
    "packed shards": BadFolder(
        _packed_shards,
        "{path}/0.tar.gz is compressed as a whole (gzip): no image in it can be reached without unpacking all that "
        "stand before it. Unpack it once (gunzip); images are compressed already",
    ),
    "a shard that is cut": BadFolder(_cut_shard, "{path}/1.tar is cut short, inside 1.png: fetch it again"),
    "an archive of links": BadFolder(
        _links_only,
        "no images in {path} (ignored: members of other kinds 2, such as cats/1.jpg (a link)): "
        "expected archives with members such as 0001.jpg",
    ),
    "shards without labels": BadFolder(
        _shards_without_labels,
        "{path}/ has no labelled images: expected 0001.cls or 0001.json beside 0001.jpg in its archives, or a folder "
        "per class in them, as in cats/0001.jpg",
    ),
    "labels that are none": BadFolder(
        _odd_labels,
        "2 problems:\n  {path}: x.json: label 0.5, expected a name or a whole number\n  {path}: y.json: not JSON",
    ),
    "a number beyond the list of classes": BadFolder(
        _number_beyond_the_list,
        "{path}: 1.png: label 1 is none of the 1 in the list of classes: mend it, or take the list away",
    ),
    "a pattern with a gap": BadFolder(
        _pattern_with_a_gap,
        "{path}: 1 of its 3 files is not there, first {folder}/s-1.tar. Fetch them, or take them out of the pattern",
    ),
    "a pattern of nothing": BadFolder(_pattern_of_nothing, "{path} stands for no file that exists"),
    "open braces": BadFolder(_open_braces, "{path}: braces stand for a range, {000..009}, or for words, {train,val}"),
    "empty file": BadFolder(_empty_file, "{path} is empty: " + _FOLDER),
    "a program": BadFolder(_program, "{path} is none that headway knows: " + _FOLDER),
    "a pipe": BadFolder(_pipe, "{path} is a pipe or device: " + _FOLDER),
    "a ring of links": BadFolder(_ring, "{path} cannot be read (Too many levels of symbolic links)"),
    "a link to nowhere": BadFolder(_dangling, "{path} is a link that leads nowhere: " + _FOLDER),
    "odd name": BadFolder(
        _odd_name,
        "{path}/two\\nlines\\x1b[31m/ is an empty class: put images into it, or take the folder away",
    ),
    "only pipes": BadFolder(
        _only_pipes,
        "no images in {path}/ (ignored: pipes and devices 1): expected a folder per class, as in {path}/cats/1.jpg",
    ),
    "list without label": BadFolder(
        _csv("path,colour\ncats/0000.jpg,red\n"),
        "{path} has no column label: expected path,label and, where wanted, split and group (it has path, colour)",
    ),
    "list without rows": BadFolder(_csv("path,label\n"), "{path} names no images: it has a header and no rows"),
    "list with bad rows": BadFolder(
        _csv(
            "path,label,split\ncats/0000.jpg,cat,train\ncats/0000.jpg,dog,train\ndogs/0000.jpg,dog,tset\n,dog,train\n"
        ),
        "3 problems:\n"
        "  {path}, line 5: no path\n"
        "  {path}, line 3: cats/0000.jpg stands in line 2 already: name each image once\n"
        "  {path}, line 4: split 'tset', expected train, val, test or nothing",
    ),
    "list from elsewhere": BadFolder(
        _csv("path,label\nx/1.jpg,cat\nx/2.jpg,dog\n"),
        "{path}: none of its 2 paths exists, first x/1.jpg: paths are read relative to the folder of the list",
    ),
    "list of one class": BadFolder(
        _csv("path,label\ncats/0000.jpg,cat\ncats/0001.jpg,cat\n"),
        "{path} has one class only (cat): a classifier needs two or more",
    ),
    "list with a class that train lacks": BadFolder(
        _csv("path,label,split\ncats/0000.jpg,cat,train\ndogs/0000.jpg,dog,train\ndogs/0001.jpg,fox,test\n"),
        "{path}: the class fox (1 image) is in test but not in train: add it to train, or take it out of test",
    ),
}

_ROAD = "does not go with --strategy"
OPTIONS: dict[str, tuple[str, str]] = {
    "thawing a probe": (
        "fit photos --thaw 2",
        f"--thaw 2 {_ROAD} probe, which trains the head alone. Thawing needs --strategy finetune",
    ),
    "augmenting a probe": (
        "fit photos --augment crop --mixup 0.2",
        "2 problems:\n"
        f"  --augment crop {_ROAD} probe, which looks once at each image. Try --views flip or --views 4\n"
        f"  --mixup 0.2 {_ROAD} probe, which mixes no images, as it looks once at each. Try --strategy finetune",
    ),
    "a recipe that is none": (
        "fit photos --recipe seed-b-cn",
        "no recipe seed-b-cn. Did you mean seed-b-cnn or seed-b-cnn-until or seed-c ?",
    ),
    "a target that is none": (
        "fit photos --strategy scratch --until accuracy=0.9",
        "--until accuracy=0.9: expected METRIC=VALUE, as val.accuracy=0.9 (a share above 0, up to 1) or val.loss=0.1 "
        "(a number above 0). Did you mean val.accuracy=0.9 ?",
    ),
    "a percentage for a target": (
        "fit photos --strategy scratch --until val.accuracy=90",
        "--until val.accuracy=90: expected METRIC=VALUE, as val.accuracy=0.9 (a share above 0, up to 1) or "
        "val.loss=0.1 (a number above 0)",
    ),
    "pretrained and from scratch": (
        "fit photos --strategy scratch --weights resnet18.safetensors",
        f"--weights resnet18.safetensors {_ROAD} scratch, which begins with random ones. Try --strategy finetune",
    ),
    "resuming what is no run": (
        "fit --resume photos/none",
        "--resume photos/none: no such folder. Expected the folder of a run, as runs/photos-1",
    ),
    "comparing one": (
        "compare photos --strategies probe",
        "--strategies probe: expected two or more, with commas between them",
    ),
    "an option for none of them": (
        "compare photos --strategies probe,scratch --layer-decay 0.5",
        "--layer-decay is nothing that probe or scratch could use",
    ),
}

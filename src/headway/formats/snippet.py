"""README.md of an export: what it is, how near it is, and a few lines of Python that use it without headway."""

from __future__ import annotations

from pathlib import Path

from headway import __version__, files
from headway.backbones.preprocess import Preprocess
from headway.deployment.card import code, plain
from headway.exports import Parity
from headway.formats.format import Format, Request
from headway.serving.facts import model_name

FACTS, CARD = "classes.json", "MODEL_CARD.md"
_READ = '''\
def read(path):
    """The image as the network takes it: (1, {size}, {size}, 3) uint8."""
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
{fit}
    return np.asarray(image, np.uint8)[None]
'''
_FITS = {
    "squash": "    image = image.resize(({size}, {size}), Image.Resampling.{filter})",
    "pad": """\
    across, down = (max(1, round(side * {size} / max(image.size))) for side in image.size)
    canvas = Image.new("RGB", ({size}, {size}), {colour})
    image = image.resize((across, down), Image.Resampling.{filter})
    canvas.paste(image, (({size} - across) // 2, ({size} - down) // 2))
    image = canvas""",
    "crop": """\
    short = min(image.size)
    across, down = (int({resize} * side / short) for side in image.size)
    image = image.resize((across, down), Image.Resampling.{filter})
    left, top = round((across - {size}) / 2), round((down - {size}) / 2)
    image = image.crop((left, top, left + {size}, top + {size}))""",
}
_ANSWER = """\
shares = np.exp((logits - logits.max()) / facts["temperature"])
shares /= shares.sum()
for at in np.argsort(-shares)[:5]:
    print(f"{shares[at]:.4f} {facts['classes'][at]}")"""
_STANDARD = ("json", "sys", "urllib.request")


def write_readme(format_: Format, request: Request, folder: Path, parity: Parity | None) -> None:
    """README.md, the bundle's own card as MODEL_CARD.md, and the names of the classes with the temperature."""
    bundle, use = request.bundle, format_.use(request)
    manifest, size = bundle.manifest, bundle.preprocess.size
    parts = [
        f"# {plain(model_name(bundle.path))}: {format_.title}",
        f"Made by headway {__version__} from the bundle {code(bundle.digest[:16])}. {len(bundle.classes)} classes. It "
        f"takes uint8 images (B, {size}, {size}, 3) and gives `logits` (B, {len(bundle.classes)}), before the "
        f"temperature {bundle.temperature:.4f}, and `features` (B, {manifest.outputs['features']}). "
        f"{_near(format_, parity)} How good it is and what its licence is stands in {CARD}.",
    ]
    if format_.logits is None:
        parts += [use]
    else:
        packages = " ".join((*format_.needs, "numpy", "pillow"))
        parts += [
            f"`pip install {packages}`, and in this folder, as `python predict.py photo.jpg`:",
            f"```python\n{snippet(format_, use, bundle.preprocess)}\n```",
        ]
        files.write_json(folder / FACTS, {"classes": list(bundle.classes), "temperature": bundle.temperature})
    files.write_text(folder / "README.md", "\n\n".join(parts) + "\n")
    files.write_bytes(folder / CARD, (bundle.path / "README.md").read_bytes())


def snippet(format_: Format, use: str, preprocess: Preprocess) -> str:
    """A whole program that says what is on the image that it is given."""
    standard = [f"import {name}" for name in _STANDARD if f"{name}." in use + _ANSWER or name in ("json", "sys")]
    others = [f"import {name}" for name in format_.needs]
    lines = [*standard, "", "import numpy as np", *others, "from PIL import Image, ImageOps", "", ""]
    size = preprocess.size
    # Without `resize` small images alone are scaled, up to the network's size.
    resize = f"max(short, {size})" if preprocess.resize is None else str(max(preprocess.resize, size))
    fit = _FITS[preprocess.fit].format(
        size=size,
        resize=resize,
        filter=preprocess.interpolation.upper(),
        colour=tuple(round(255 * channel) for channel in preprocess.mean),
    )
    lines += [_READ.format(size=size, fit=fit), "", "path = sys.argv[1]"]
    lines += [f'facts = json.load(open("{FACTS}", encoding="utf-8"))', use, _ANSWER]
    return "\n".join(lines)


def _near(format_: Format, parity: Parity | None) -> str:
    if parity is None:
        return f"{format_.judged[0].upper()}{format_.judged[1:]}."
    return (
        f"On {parity.n} images of the bundle its probabilities differ from the bundle's by at most "
        f"{parity.probability_difference:.1e}."
    )

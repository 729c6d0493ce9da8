"""Makes the odd photos of tests/photos and the reference values beside them, with Pillow.

Usage: python make_photos.py FOLDER    (Pillow 11 or later)

Every photo shows the same scene, 12 x 8 pixels, brighter to the right and redder to the bottom, in
another format, colour type or orientation. expected.json has its pixels as Pillow reads them, upright
and laid on white, and Pillow's bicubic resize of another picture, in hexadecimal.
"""

import json
import sys
from pathlib import Path

from PIL import Image, ImageOps

WIDTH, HEIGHT = 12, 8


def scene():
    image = Image.new("RGB", (WIDTH, HEIGHT))
    for y in range(HEIGHT):
        for x in range(WIDTH):
            image.putpixel((x, y), (60 + 20 * y, 40 + 15 * x, 200 - 10 * x))
    return image


def pattern(width, height):
    """The picture that tests/dataset draws by the same formula."""
    image = Image.new("RGB", (width, height))
    for y in range(height):
        for x in range(width):
            checks = 255 if (x // 7 + y // 5) % 2 == 0 else 0
            image.putpixel((x, y), ((3 * x + 5 * y) % 256, (x * x + y * y) // 9 % 256, checks))
    return image


def upright_on_white(path):
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode.startswith("I;16"):
        image = image.point(lambda v: v / 257).convert("L")
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def main(folder):
    folder = Path(folder)
    rgb = scene()
    alpha = Image.new("L", rgb.size, 128)
    alpha.putpixel((0, 0), 0)
    alpha.putpixel((WIDTH - 1, 0), 255)
    rgba = rgb.copy()
    rgba.putalpha(alpha)
    grey = rgb.convert("L")
    deep = Image.new("I;16", rgb.size)
    for y in range(HEIGHT):
        for x in range(WIDTH):
            deep.putpixel((x, y), grey.getpixel((x, y)) * 257)
    turned = rgb.getexif()
    turned[0x0112] = 6

    rgb.save(folder / "rgb.png")
    rgb.save(folder / "rgb.jpg", quality=95, subsampling=0)
    rgb.save(folder / "progressive.jpg", quality=95, subsampling=0, progressive=True)
    rgb.save(folder / "rgb.webp", lossless=True)
    rgb.save(folder / "rgb.bmp")
    rgb.convert("P", palette=Image.Palette.ADAPTIVE).save(folder / "palette.gif")
    rgb.convert("P", palette=Image.Palette.ADAPTIVE).save(folder / "palette.png")
    rgb.convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    grey.save(folder / "grey.jpg", quality=95)
    grey.save(folder / "grey.png")
    Image.merge("LA", (grey, alpha)).save(folder / "grey-alpha.png")
    rgba.save(folder / "alpha.png")
    rgba.save(folder / "alpha.webp", lossless=True, exact=True)
    deep.save(folder / "grey16.png")
    rgb.save(folder / "turned.jpg", quality=95, subsampling=0, exif=turned)
    rgb.convert("1").save(folder / "one-bit.png")
    rgb.crop((0, 0, 1, 1)).save(folder / "single.png")

    photos = {}
    for path in sorted(folder.iterdir()):
        if path.suffix in {".png", ".jpg", ".webp", ".gif", ".bmp"}:
            image = upright_on_white(path)
            photos[path.name] = {"width": image.width, "height": image.height, "rgb": image.tobytes().hex()}

    resized = {}
    for width, height, size in [(61, 47, 16), (61, 47, 24), (13, 9, 20)]:
        small = pattern(width, height).resize((size, size), Image.Resampling.BICUBIC)
        resized[f"{width}x{height} to {size}"] = small.tobytes().hex()
    side = (7, 0, 54, 47)
    resized["61x47 crop to 16"] = pattern(61, 47).crop(side).resize((16, 16), Image.Resampling.BICUBIC).tobytes().hex()
    lines = [f" {json.dumps(name)}: {json.dumps(photo)}" for name, photo in photos.items()]
    views = [f" {json.dumps(name)}: {json.dumps(value)}" for name, value in resized.items()]
    text = '{"photos": {\n' + ",\n".join(lines) + '\n}, "resized": {\n' + ",\n".join(views) + "\n}}\n"
    (folder / "expected.json").write_text(text)


main(sys.argv[1])

"""The font of the mathematics: STIX Two Math, with the glyphs that formulas of ours may need.

Chromium gives a root the width of its radical's widest form, however small the root is, so that a gap follows it. All
forms get the width of the smallest one here.
"""

import pathlib
from importlib.resources import files

from fontTools import subset
from fontTools.pens.transformPen import TransformPen
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import TTFont

RANGES = ((0x20, 0x7E), (0xA0, 0xFF), (0x370, 0x3FF), (0x2010, 0x2044), (0x2070, 0x209F), (0x2100, 0x214F))
RANGES += (
    (0x2190, 0x21FF),
    (0x2200, 0x22FF),
    (0x2300, 0x23FF),
    (0x27E0, 0x27FF),
    (0x1D434, 0x1D467),
    (0x1D6E2, 0x1D71B),
)
RADICAL = 0x221A


def write_font(folder: pathlib.Path) -> None:
    """Writes the part of the font that is needed, as a web font: the site asks no other host for it."""
    folder.mkdir(exist_ok=True)
    options = subset.Options(flavor="woff", layout_features=["*"], notdef_outline=True)
    font = subset.load_font(str(files("ziamath") / "fonts" / "STIXTwoMath-Regular.ttf"), options)
    chosen = subset.Subsetter(options)
    chosen.populate(unicodes=[code for first, last in RANGES for code in range(first, last + 1)])
    chosen.subset(font)
    _narrow_the_radicals(font)
    subset.save_font(font, str(folder / "math.woff"), options)


def _narrow_the_radicals(font: TTFont) -> None:
    variants, radical = font["MATH"].table.MathVariants, (font.getBestCmap() or {})[RADICAL]
    forms = variants.VertGlyphConstruction[variants.VertGlyphCoverage.glyphs.index(radical)]
    width = font["hmtx"][radical][0]
    names = {record.VariantGlyph for record in forms.MathGlyphVariantRecord}
    names |= {part.glyph for part in forms.GlyphAssembly.PartRecords}
    glyphs = font.getGlyphSet()
    for name in names - {radical}:
        scale = width / font["hmtx"][name][0]
        pen = TTGlyphPen(None)
        glyphs[name].draw(TransformPen(pen, (scale, 0, 0, 1, 0, 0)))
        font["hmtx"][name] = width, round(scale * font["hmtx"][name][1])
        font["glyf"][name] = drawn = pen.glyph()
        drawn.recalcBounds(font["glyf"])

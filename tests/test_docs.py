"""The documentation: its mathematics, its pages, its links, and the built site in a browser."""

import ast
import doctest
import fcntl
import html.parser
import inspect
import json
import pathlib
import re
import shutil
import subprocess
import sys
import textwrap
import urllib.parse
import zlib

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parent.parent
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS))

from _extension import docstrings, gallery, links, mathematics, names, optimizers, reference, surface  # noqa: E402
from agreement import LIBRARIES  # noqa: E402
from rows import ROWS  # noqa: E402

import jaxopt_suite as jos  # noqa: E402
from jaxopt_suite._recipe.config import REGISTRY  # noqa: E402

MADE = [make for make in REGISTRY.values() if make.__module__.partition(".")[0] == "jaxopt_suite"]


def formulas(make):
    """The indented blocks of a docstring."""
    return [part.text for part in docstrings.parts(inspect.getdoc(make)) if part.kind == "indented"]


@pytest.mark.parametrize(
    ("plain", "latex"),
    [
        ("w <- w - rate * g", r"w & \leftarrow w - \mathrm{rate} \cdot g"),
        ("a / b * c", r" & \frac{a}{b} \cdot c"),
        ("a / b / (c + d)", r" & \frac{a}{b (c + d)}"),
        ("x = a b / (c d)", r"x & = \frac{a b}{c d}"),
        ("(a + b)^2 / c", r" & \frac{(a + b)^{2}}{c}"),
        ("(a) (b) / c", r" & \frac{(a) (b)}{c}"),
        ("a^(b + 1)", r" & a^{b + 1}"),
        ("m^ / sqrt(v^)", r" & \frac{\hat{m}}{\sqrt{\hat{v}}}"),
        ("u_{t+1} n'^k", r" & u_{t + 1} {n'}^{k}"),
        ("||g||^2 + |x|", r" & {\|g\|}^{2} + {|x|}"),
        ("max(a, b) beta_1", r" & \operatorname{max}(a \text{, } b) \beta_{1}"),
        ("-a / b + c", r" & -\frac{a}{b} + c"),
        ("x = a,    y = b", r"x & = a \\ y & = b"),
        ("decay_rate[i](k) < c[i - 1]", r" & \mathrm{decay\_rate}_{i}(k) < c_{i - 1}"),
        ("a -> b    for k < K", r" & a \rightarrow b \qquad \text{ for } k < K"),
        ("f(p), 0 <= p", r" & f(p) \text{, } 0 \leq p"),
        ("scale    the share where a = b", r"\mathrm{scale} & \text{ the share where } a = b"),
        ("scale    for decay_rate", r" & \mathrm{scale} \qquad \text{ for } \mathrm{decay\_rate}"),
        ("if k:    a <- b,    c", r" & \text{ if } k \text{: } \qquad a \leftarrow b \text{, } \qquad c"),
        ("2 decay_rate w", r" & 2 \, \mathrm{decay\_rate} \, w"),
        ("x = decay_rate", r"x & = \mathrm{decay\_rate}"),
    ],
)
def test_mathematics(plain, latex):
    assert mathematics.to_latex(plain, {"decay_rate"}) == rf"\begin{{aligned}} {latex} \end{{aligned}}"


@pytest.mark.parametrize(
    ("plain", "words"),
    [
        ("x = lambda_rate", "'lambda_rate' is no letter, no argument"),
        ("x = gamma(y)", r"'gamma' is no function that is known, in 'x = gamma\(y\)'"),
        ("x = a / b c", "a product that is divided by needs parentheses"),
        ("x = (a + b", r"'\)' is missing"),
        ("x = a +", "it ends too early"),
        ("x = a ~ b", "'~' is no symbol"),
        ("x = a ] b", r"'\]' stands where a number"),
        ("x = and then some", "'some' is no letter"),
    ],
)
def test_mathematics_that_is_not_known(plain, words):
    with pytest.raises(mathematics.UnknownError, match=words):
        mathematics.to_latex(plain)


def test_every_formula_is_typeset():
    typeset, unknown = set(), {}
    for make in MADE:
        for block in formulas(make):
            try:
                mathematics.to_latex(block, make.words)
                typeset.add(make.__name__)
            except mathematics.UnknownError as error:
                unknown[make.__name__] = str(error)
    assert unknown == {}
    assert {row.name for row in ROWS} <= typeset


def test_a_docstring_as_markdown():
    doc = """One line.

        x <- beta x

    >>> 1 + 1
    2

    Arguments:
      beta: a share,
        of one or the other.

    Raises:
      ValueError: if a | b.
    """
    made = docstrings.to_markdown(textwrap.dedent(doc), {"beta"})
    assert "```{math}\n" + r"\begin{aligned} x & \leftarrow \beta x \end{aligned}" in made
    assert "```python\n>>> 1 + 1\n2\n```" in made
    assert "| `beta` | a share, of one or the other. |" in made
    assert "**Raises** ValueError: if a | b." in made
    assert "```text\nx <- beta x\n```" in docstrings.to_markdown(textwrap.dedent(doc))


def test_the_counterparts_are_read_as_they_are():
    from counterparts import COUNTERPARTS

    read = optimizers.counterparts()
    assert {*read} == {*COUNTERPARTS}
    for name, pairs in COUNTERPARTS.items():
        assert len(read[name]) == len(pairs)
        for (ours, _, apart), pair in zip(read[name], pairs, strict=True):
            assert (apart == f"{pair.apart:g}") == (pair.apart != 0)
            assert eval(ours.strip("`"), {"jos": jos}) == pair.ours()


@pytest.fixture
def no_pictures(monkeypatch):
    """The text of the pages without their pictures, which take some seconds."""
    monkeypatch.setattr(surface, "path", lambda make: surface.Path(np.zeros((2, 2)), 0.1))


def test_every_optimizer_has_a_page(no_pictures):
    pages = dict(optimizers.pages())
    assert {*pages} == {"index", *(row.name for row in ROWS)}
    for row in ROWS:
        page = pages[row.name]
        assert page.startswith(f"# {row.name}\n")
        for name in inspect.signature(row.make.__wrapped__).parameters:
            assert name == "common" or f"| `{name}` | " in page
        assert r"\begin{aligned}" in page
        for library in {v.reference.partition("/")[0] for v in row.variants if v.reference}:
            assert f"| {LIBRARIES[library]} (" in page


def test_the_pictures_show_what_the_optimizers_do():
    drawn = surface.path(jos.sgd)
    assert drawn.rate in np.float32(surface.RATES)
    w = np.array(surface.START[0])
    for point in drawn.points:
        np.testing.assert_allclose(point, w, atol=1e-3)
        x, y = w
        w = w - drawn.rate * np.array([2 * (x - 1) - 40 * x * (y - x**2), 20 * (y - x**2)])
    assert drawn.end < 1


def test_the_papers_name_this_version():
    assert f"\nversion: {jos.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## {jos.__version__}\n" in (ROOT / "CHANGELOG.md").read_text()


def test_every_public_name_is_in_the_reference():
    pages = dict(reference.pages())
    for module in reference.MODULES:
        for name in reference.public(module):
            assert f"}} {name}(" in pages[module.__name__.rpartition(".")[2]], name


def test_every_public_name_has_an_example():
    lacking = [
        f"{module.__name__}.{name}"
        for module in reference.MODULES
        for name, value in reference.public(module).items()
        if ">>>" not in (inspect.getdoc(value) or "") and not reference.is_slots(value)
    ]
    assert lacking == []


def test_every_example_and_benchmark_has_a_page(tmp_path):
    examples, benchmarks = dict(gallery.examples()), dict(gallery.benchmarks(tmp_path))
    assert {*examples} == {
        "index",
        *(f.stem for f in gallery.EXAMPLES.iterdir() if f.suffix in (".py", ".ipynb", ".md")),
    }
    assert {*benchmarks} == {"index", *(f.stem for f in gallery.BENCHMARKS.glob("*.md"))}
    for name, page in examples.items():
        assert re.match(r"# \S", page), name
    for path in gallery.EXAMPLES.glob("*.py"):
        if path.with_suffix(".ipynb").exists():
            continue
        code = re.search(r"```python\n(.*)```\n$", examples[path.stem], re.DOTALL)[1]
        assert path.read_text().endswith(code), path
        assert ast.unparse(ast.parse(code).body) == ast.unparse(ast.parse(path.read_text()).body[1:])


def test_every_word_of_others_is_in_the_table():
    page = names.page()
    for name in names.OTHERS:
        assert f"| `{name}` | " in page
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    test = doctest.DocTestParser().get_doctest(example, {"jos": jos}, "names", None, 0)
    assert doctest.DocTestRunner().run(test) == (0, 1)


def test_links_lead_to_pages():
    here = DOCS / "precision.md"
    assert links.on_site("../benchmarks/PRECISION.md", here) == "/benchmarks/PRECISION.md"
    assert links.on_site("../examples/fine_tune.py", here) == "/examples/fine_tune.md"
    assert links.relinked("[a](traps.md#x) `[b](c)`", here).startswith("[a](/traps.md#x)")
    with pytest.raises(ValueError, match=r"precision.md: \.\./Makefile is not a page"):
        links.on_site("../Makefile", here)
    assert links.page_of("examples/fine_tune.py") == "examples/fine_tune"
    assert links.page_of("docs/sparse.md") == "sparse"
    assert links.page_of("tests/rows.py") is None


# the built site


class Page(html.parser.HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self, file):
        super().__init__()
        self.links, self.anchors, self.loads, self.ways_on = [], set(), [], 0
        self.feed(file.read_text())

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors.add(attrs.get("id"))
        if tag == "a" and "href" in attrs:
            self.links.append(attrs["href"])
            self.ways_on += attrs.get("class") in ("next-page", "prev-page")
        if tag in ("script", "img", "link", "source") and attrs.get("rel") not in ("index", "search", "next", "prev"):
            self.loads.append(attrs.get("src") or attrs.get("href"))


@pytest.fixture(scope="module")
def site(tmp_path_factory, worker_id):
    """The site, built as `make docs` builds it, once for all processes of the tests."""
    pytest.importorskip("sphinx", reason="needs the extra docs")
    out = tmp_path_factory.getbasetemp()
    out = (out if worker_id == "master" else out.parent) / "site"
    out.mkdir(exist_ok=True)
    with (out / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (out / "html" / "objects.inv").exists():
            build(out)
    return out / "html"


def build(out):
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "-d", str(out / "doctrees")]
    done = subprocess.run([*command, str(DOCS), str(out / "html")], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def pages(site):
    return {file: Page(file) for file in site.rglob("*.html")}


@pytest.mark.slow
def test_every_link_leads_somewhere(site, pages):
    assert len(pages) > 60
    followed = 0
    for file, page in pages.items():
        for link in page.links:
            url = urllib.parse.urlsplit(link)
            if url.scheme:
                continue
            target = (file.parent / urllib.parse.unquote(url.path)).resolve() if url.path else file
            assert target.exists(), f"{file}: {link}"
            if url.fragment and target.suffix == ".html":
                assert urllib.parse.unquote(url.fragment) in pages[target].anchors, f"{file}: {link}"
            followed += 1
    assert followed > 3000


@pytest.mark.slow
def test_every_public_name_can_be_linked_to(site):
    inventory = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    known = {line.split(" ")[0] for line in zlib.decompress(inventory).decode().splitlines()}
    for module in reference.MODULES:
        assert {f"{module.__name__}.{name}" for name in reference.public(module)} <= known
    assert {f"jaxopt_suite.{row.name}" for row in ROWS} <= known


@pytest.mark.slow
def test_the_site_needs_no_network(pages):
    for file, page in pages.items():
        for load in page.loads:
            assert not urllib.parse.urlsplit(load or "").netloc, f"{file}: {load}"


@pytest.mark.slow
def test_every_page_has_a_way_on(site, pages):
    for file, page in pages.items():
        if file.stem != "search":
            assert page.ways_on, file


@pytest.mark.slow
def test_two_clicks_answer(site, pages):
    """From the first page, the answers to what newcomers ask."""
    answers = {
        "which optimizers": "optimizers/index.html",
        "which arguments": "optimizers/novograd.html",
        "what differs from Keras": "examples/from_keras.html",
        "what differs from Optax": "optimizers/adam.html",
        "how to resume": "checkpoints.html",
        "how to shard": "parallel.html",
        "how to freeze": "fine_tuning.html",
        "how to write one": "own_optimizers.html",
    }
    clicks = {site / "index.html"}
    for _ in range(2):
        clicks |= {
            (file.parent / urllib.parse.urlsplit(link).path).resolve()
            for file in clicks & pages.keys()
            for link in pages[file].links
        }
    for question, answer in answers.items():
        assert site / answer in clicks, question


BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
in_a_browser = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium on this machine")


def browse(url, *flags, patience=20):
    """The page as it is after its scripts have run."""
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", *flags]
    command += [f"--virtual-time-budget={1000 * patience}", "--dump-dom", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@in_a_browser
@pytest.mark.parametrize(
    ("query", "first"), [("novograd", "optimizers/novograd.html"), ("migrate", "reference/state.html")]
)
def test_search(site, query, first):
    found = browse(f"{(site / 'search.html').as_uri()}?q={query}")
    results = re.findall(r'<li[^>]*class="[^"]*kind-[^"]*"[^>]*><a href="([^"?#]+)', found)
    assert results, found[-2000:]
    assert results[0] == first


PROBE = """<!doctype html>
<body>FRAMES</body>
<script>
function seen(frame) {
  const page = frame.contentDocument, root = page.documentElement, style = frame.contentWindow.getComputedStyle;
  const formula = page.querySelector(".formula math");
  return {
    page: frame.src, width: frame.width,
    wider: root.scrollWidth - root.clientWidth,
    background: style(page.body).backgroundColor,
    color: style(page.querySelector("article")).color,
    broken: [...page.images].filter(image => !image.naturalWidth).map(image => image.src),
    formula: formula ? formula.getBoundingClientRect().height : null,
    font: [...page.fonts].some(face => face.family.includes("Site Math") && face.status == "loaded"),
  };
}
window.onload = () => {
  const report = document.createElement("pre");
  report.textContent = "report: " + JSON.stringify([...document.querySelectorAll("iframe")].map(seen));
  document.body.replaceChildren(report);
};
</script>"""
WIDTHS = (1280, 390)


def frames(pages):
    """All pages, wide and narrow, in one."""
    return "".join(
        f'<iframe src="{page.as_uri()}" width="{w}" height="900"></iframe>' for page in pages for w in WIDTHS
    )


@pytest.mark.slow
@in_a_browser
@pytest.mark.parametrize("colors", ["light", "dark"])
def test_pages_fit_the_screen(site, pages, tmp_path, colors):
    """In a wide and in a narrow window: nothing wider than it, no missing picture, readable colours, a formula."""
    probe = tmp_path / "probe.html"
    probe.write_text(PROBE.replace("FRAMES", frames(sorted(pages))))
    flags = [f"--blink-settings=preferredColorScheme={0 if colors == 'dark' else 1}"]
    shown = browse(probe.as_uri(), *flags)
    report = json.loads(html.unescape(re.search(r"<pre>report: (.*?)</pre>", shown, re.DOTALL)[1]))
    assert len(report) == len(WIDTHS) * len(pages)
    assert not [(seen["page"], seen["width"], seen["wider"]) for seen in report if seen["wider"] > 0]
    for seen in report:
        assert not seen["broken"], seen
        assert brightness(seen["background"]) > 0.9 if colors == "light" else brightness(seen["background"]) < 0.2, seen
        assert abs(brightness(seen["background"]) - brightness(seen["color"])) > 0.5, seen
    formulas = [seen for seen in report if "/optimizers/" in seen["page"] and not seen["page"].endswith("index.html")]
    assert len(formulas) == len(WIDTHS) * len(ROWS)
    assert all(seen["formula"] > 15 and seen["font"] for seen in formulas)


def brightness(color):
    return sum(map(int, re.findall(r"\d+", color)[:3])) / (3 * 255)

"""What shows in a notebook: well-formed, escaped, without colours of its own, wide tables scroll, whatever it is of."""

import re
import xml.etree.ElementTree as ElementTree

import jax
import jax.numpy as jnp
import pytest
from rows import ROWS
from test_groups import compositions

import jaxopt_suite as jos

BAD = "<b>&\"'"  # what must not reach the page as it is
PARAMS = {f"<i>{BAD}": jnp.ones(2), "kernel": jnp.ones((2, 2))}


def page(value):
    """The tree of a face, whose text is what was to be shown."""
    text = value._repr_html_()
    face = ElementTree.fromstring(text)
    tags = {x.tag.rpartition("}")[2] for x in face.iter()}
    assert tags <= {"div", "pre", "p", "table", "thead", "tbody", "tr", "th", "td", "svg", "polyline", "text"}
    told = " ".join(f"{name}: {value};" for x in face.iter() for name, value in x.attrib.items())
    colours = re.findall(r"\b(?:color|background|fill|stroke): ([^;]+);", told)
    assert {*colours} <= {"inherit", "none", "currentColor"}, "the notebook has colours, be it light or dark"
    for table in face.iter("table"):
        around = next(x for x in face.iter() if table in list(x))
        assert "overflow-x: auto" in around.attrib["style"]
    return face


def shown(value):
    return "\n".join(page(value).itertext())


@pytest.mark.parametrize("tx", [*(row.build() for row in ROWS), *compositions()], ids=repr)
def test_every_optimizer_shows_itself(tx):
    text = shown(tx)
    assert text.startswith(repr(tx))
    for name, value in tx.recipe.arguments.items():
        default = tx.recipe.factory.__signature__.parameters[name].default
        if isinstance(value, (int, float)) and value != default and not hasattr(default, "value"):
            assert f"{name}\n{value!r}" in text


def test_an_optimizer_shows_its_line_its_rules_and_its_schedules():
    rate = jos.schedules.warmup_stable_decay(0.1, 10, 60, 30)
    tx = jos.by_path({f"^{BAD}$": jos.sgd(rate), ".*": jos.adamw(0.1 * rate, name=BAD)}, global_clipnorm=2.0)
    tx = jos.lookahead(jos.chain(tx, jos.from_optax("identity")), sync_period=5)
    face, text = page(tx), shown(tx)
    assert len([x for x in face.iter() if x.tag.endswith("polyline")]) == 2
    assert "gradient -> clip_by_global_norm(2.0) -> by_path -> optax.identity -> slow_weights(" in text
    indent = "\N{NO-BREAK SPACE}" * 4
    rows = ["optimizer", "chain", indent + "members[0]", "by_path", 2 * indent + f"rules[{f'^{BAD}$'!r}]", "sgd"]
    assert "\n".join([*rows, 3 * indent + "learning_rate", repr(rate)]) in text
    assert "\n".join([2 * indent + "global_clipnorm", "2.0"]) in text
    assert "0.1\n0\n0\nstep 108" in text
    by_hand = jos.sgd()._replace(init=lambda params: None)
    assert "recipe" in repr(by_hand) or by_hand._repr_html_() is not None
    assert jos.Optimizer(lambda w: (), lambda g, s, w=None: (g, s))._repr_html_() is None
    jax.jit(lambda x: [jos.sgd(jos.schedules.warmup(x, 3))._repr_html_()][1:])(1.0)  # no curve: numbers are unknown


def test_reports_show_what_they_print():
    tx = jos.adam(weight_decay=0.1, exclude_from_weight_decay=["<i>", "nowhere"], gradient_accumulation_steps=2)
    explained = tx.explain(PARAMS)
    text = shown(explained)
    assert text.startswith(repr(tx))
    assert f"<i>{BAD}" in text
    for sentence in (explained._foot(), *explained.unmatched):
        assert sentence in text
    assert "nowhere" in explained.unmatched[0]

    apart = shown(jos.compare(jos.sgd(0.1), jos.sgd(0.2, name=BAD), PARAMS, PARAMS, steps=2))
    assert "They part at step 1" in apart
    assert f"name\nNone\n{BAD!r}" in apart
    assert "They agree over 2 steps" in shown(jos.compare(jos.sgd(0.1), jos.sgd(0.1), PARAMS, PARAMS, steps=2))

    moved, report = jos.state.migrate(jos.sgd(momentum=0.9).init(PARAMS), jos.adam(), PARAMS, strict=False)
    assert f"<i>{BAD}" in shown(report)
    assert "dropped" in shown(report)
    assert moved

    layout = jos.parallel.explain(jos.adam(), PARAMS, jax.make_mesh((1,), ("data",)), "data")
    assert f"stages/rule/m/<i>{BAD}" in shown(layout)


def test_a_face_shows_the_curve_that_it_can():
    schedules = jos.schedules
    assert "2147483647" in jos.adam(schedules.exponential_decay(0.1, 1e12, 0.5))._repr_html_()
    untraceable = schedules.constant(2.0) * (lambda step: 0.1 if step < 5 else 0.01)
    assert "<svg" not in jos.sgd(untraceable, jit_compile=False)._repr_html_()

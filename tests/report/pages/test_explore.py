"""The explorer in a real browser: what it computes equals joma's Python functions, and everything can be set."""

import re

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

import joma
from browsing import chromium, settle, wait_until
from joma.claims.dynamics.nonlinear import targets
from joma.claims.theorem1.flow import N_HIDDEN, model_of
from joma.problem.classes import random_parameters
from joma.simulate.descent import descent
from joma.simulate.flow import flow
from joma.theory.dynamics import Dynamics

pytestmark = pytest.mark.browser
NUM_DRAWS, TIMES = 60, (0.3, 1.7, 6.0, 20.0, 90.0)
SETTING = {"mlp": "nonlinear", "attention": "softmax", "v0": 0.05, "gain": 1 / 3, "constant": 1.0}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return joma.explore().write(tmp_path_factory.mktemp("explorer"))


@pytest.fixture(scope="module")
def browser():
    with chromium() as launched:
        yield launched


class Opened:
    """A page in a tab, with everything that it requests or complains about."""

    def __init__(self, browser, address, **options):
        self.tab, self.complaints = browser.new_page(**options), []
        self.tab.on("console", lambda message: self.complaints.append(message.text))
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        own = address.partition("#")[0]
        self.tab.on("request", lambda sent: self.complaints.append(sent.url) if not sent.url.startswith(own) else None)
        self.tab.goto(address)
        wait_until(self.tab, "document.querySelectorAll('#entropy path.line').length > 0")


@pytest.fixture(scope="module")
def tab(browser, page):
    opened = Opened(browser, page.as_uri(), viewport={"width": 1280, "height": 900})
    yield opened.tab
    assert opened.complaints == []


def solved(tab, settings, times):
    """The page's v (T, M) and entropy (T,) for each setting."""
    found = tab.evaluate(
        """([settings, times]) => settings.map((one) => {
            const states = Theory.dynamics(one).over(times);
            return [states.map((at) => at.v), states.map((at) => at.entropy)];
        })""",
        [settings, list(times)],
    )
    return [(np.array(v, dtype=float), np.array(entropy, dtype=float)) for v, entropy in found]


def draws(low, high, seed):
    generator = np.random.default_rng(seed)
    return [generator.uniform(low, high, generator.integers(2, 12)).tolist() for _ in range(NUM_DRAWS)]


def test_figure_4_is_what_the_page_opens_with(tab):
    assert "sparsest at t = 13.4 with 0.9407 nats" in tab.locator("#story").inner_text()
    assert "1.549 nats at t = 100: sparse, then dense" in tab.locator("#story").inner_text()


def test_the_lowest_entropy_of_figure_4_is_that_of_the_exact_solution(tab, tolerance):
    rates = targets(0).tolist()
    found = tab.evaluate(
        """(one) => {
            const solved = Theory.dynamics(one), states = solved.over(Theory.evenly(100, 241));
            const { state } = solved.bottom(states);
            return [state.t, state.entropy, states.at(-1).entropy];
        }""",
        SETTING | {"rates": rates},
    )
    exact = joma.sparsest_time(rates, 0.05, 1 / 3)
    last = joma.solve([0, 100], mu=rates, v0=0.05, gain=1 / 3).entropy[-1]
    assert found == pytest.approx(
        [float(exact.time), float(exact.entropy_nats), float(last)], abs=tolerance("explorer.solution")
    )
    assert found == pytest.approx([13.396265, 0.940723, 1.549128], abs=tolerance("explorer.solution"))


@pytest.mark.parametrize("attention", ["softmax", "exp"])
@pytest.mark.parametrize("mlp", ["nonlinear", "linear"])
def test_random_components_equal_those_of_python(tab, tolerance, mlp, attention):
    generator = np.random.default_rng(1)
    starts, gains = generator.uniform(-1, 2, NUM_DRAWS), generator.uniform(0.1, 1, NUM_DRAWS)
    settings = [
        SETTING | {"mlp": mlp, "attention": attention, "rates": rates, "v0": v0, "gain": gain}
        for rates, v0, gain in zip(draws(-3, 5, 0), starts, gains, strict=True)
    ]
    times = torch.tensor(TIMES, dtype=torch.float64)
    for setting, (v, entropy) in zip(settings, solved(tab, settings, TIMES), strict=True):
        rates = torch.tensor(setting["rates"], dtype=torch.float64)
        start = torch.full_like(rates, setting["v0"])
        exact = Dynamics("μ" if mlp == "nonlinear" else "Δ", rates, start, setting["gain"], attention)
        wanted = exact.v(times)
        exists = wanted.isfinite().all(-1).numpy()
        assert (np.isfinite(v).all(-1) == exists).all()
        assert v[exists] == pytest.approx(wanted.numpy()[exists], abs=tolerance("explorer.solution"))
        wanted_entropy = exact.entropy(times, wanted).numpy()[exists]
        assert entropy[exists] == pytest.approx(wanted_entropy, abs=tolerance("explorer.solution"))


def test_random_sparsest_times_and_blow_ups_equal_those_of_python(tab, tolerance):
    end, num_inner = 400.0, 0
    rates = np.random.default_rng(2).uniform(0.5, 4, (NUM_DRAWS, 6))
    times, entropies = joma.sparsest_time(rates, 0.05, 1 / 3)
    blow_ups = joma.blow_up_time(rates, 0.05, 1 / 3)
    found = tab.evaluate(
        """([setting, draws, end]) => draws.map((rates) => {
            const solved = Theory.dynamics({ ...setting, rates });
            const { state, isInner } = solved.bottom(solved.over(Theory.evenly(end, 241)));
            const linear = Theory.dynamics({ ...setting, rates, mlp: "linear", attention: "exp" });
            return { t: state.t, entropy: state.entropy, isInner, blowUps: linear.blowUps };
        })""",
        [SETTING, rates.tolist(), end],
    )
    for here, time, entropy, ends in zip(found, times, entropies, blow_ups, strict=True):
        assert here["blowUps"] == pytest.approx(ends.tolist(), abs=tolerance("explorer.solution"))
        if 0 < time < end:
            num_inner += 1
            assert here["isInner"]
            assert here["entropy"] == pytest.approx(float(entropy), abs=tolerance("explorer.solution"))
            assert here["t"] == pytest.approx(float(time), rel=tolerance("explorer.solution"))
    assert num_inner >= 50


@pytest.mark.parametrize("mlp", ["nonlinear", "linear"])
def test_linear_attention_solves_its_differential_equation(tab, tolerance, mlp):
    times = (0.2, 0.7, 1.3)
    generator = np.random.default_rng(5)
    settings = [
        SETTING
        | {"mlp": mlp, "attention": "linear", "rates": rates}
        | {"v0": generator.uniform(-1, 2), "constant": generator.uniform(0.05, 4)}
        for rates in draws(-2, 3, 3)
    ]
    for setting, (v, entropy) in zip(settings, solved(tab, settings, times), strict=True):
        wanted, wanted_entropy = with_linear_attention(setting, times)
        assert v == pytest.approx(wanted, abs=tolerance("explorer.solution"))
        assert entropy == pytest.approx(wanted_entropy, abs=tolerance("explorer.solution"))


def with_linear_attention(setting, times):
    """The components (T, M) and the entropy (T,) by SciPy's DOP853."""
    rates, constant = np.array(setting["rates"]), setting["constant"]

    def slope(_, v):
        return (rates - v if setting["mlp"] == "nonlinear" else rates) * np.sqrt(v**2 + constant)

    start = np.full(len(rates), setting["v0"])
    v = solve_ivp(slope, (0, times[-1]), start, "DOP853", times, rtol=1e-11, atol=1e-11).y.T
    shares = np.sqrt(v**2 + constant)
    shares /= shares.sum(-1, keepdims=True)
    return v, -(shares * np.log(shares)).sum(-1)


@pytest.mark.parametrize("attention", ["softmax", "exp", "linear"])
@pytest.mark.parametrize("mlp", ["nonlinear", "linear"])
def test_no_time_in_the_window_has_less_entropy_than_the_bottom_that_is_marked(tab, tolerance, mlp, attention):
    generator = np.random.default_rng(6)
    settings = [
        SETTING
        | {"mlp": mlp, "attention": attention, "rates": generator.uniform(-3, 5, 4).tolist()}
        | {"v0": generator.uniform(-1, 2), "gain": generator.uniform(0.1, 1), "constant": generator.uniform(0.05, 4)}
        | {"end": end}
        for end in np.repeat([0.5, 2, 8], 5).tolist()
    ]
    found = tab.evaluate(
        """(settings) => settings.map((one) => {
            const solved = Theory.dynamics(one);
            const { state } = solved.bottom(solved.over(solved.times(one.end, 121)));
            return [state.t, state.entropy, Math.min(one.end, 0.999 * solved.firstBlowUp)];
        })""",
        settings,
    )
    for setting, (time, entropy, end) in zip(settings, found, strict=True):
        times = np.unique([*np.linspace(0, end, 50), *np.geomspace(1e-3 * end, end, 50), time])
        wanted = entropies(setting, times)
        assert entropy == pytest.approx(wanted[times == time].item(), abs=tolerance("explorer.solution"))
        assert entropy <= wanted.min() + tolerance("explorer.solution")


def entropies(setting, times):
    """The entropy at increasing times, by Python."""
    if setting["attention"] == "linear":
        return with_linear_attention(setting, times)[1]
    rates, at = torch.tensor(setting["rates"], dtype=torch.float64), torch.as_tensor(times)
    symbol = "μ" if setting["mlp"] == "nonlinear" else "Δ"
    exact = Dynamics(symbol, rates, torch.full_like(rates, setting["v0"]), setting["gain"], setting["attention"])
    return exact.entropy(at, exact.v(at)).numpy()


@pytest.mark.parametrize("kind", ["exp", "linear", "softmax"])
def test_the_network_trained_in_the_page_goes_where_that_of_python_goes(tab, tolerance, kind):
    model = model_of(kind, "tanh", [0])
    start = random_parameters(model, N_HIDDEN, [0], scale=0.3, logit=1.0)
    trainings = {
        ("flow", 0.1, 200): flow(model, start, [0, 20]),
        ("sgd", 0.5, 40): descent(model, start, [0, 40], 0.5, "sgd"),
        ("adam", 0.01, 60): descent(model, start, [0, 60], 0.01, "adam"),
    }
    for (method, step, steps), trajectory in trainings.items():
        at_end = trajectory.complete()
        logits, weights = tab.evaluate(
            """(settings) => {
                const { layer } = JSON.parse(document.getElementById("plots").textContent).theory;
                const last = Layer.train(layer, { ...settings, every: settings.steps }).at(-1);
                return [last.logits, last.weights];
            }""",
            {"kind": kind, "method": method, "step": step, "steps": steps},
        )
        z = at_end.attention_logits[-1, 0, 0]
        wanted = z.square() if kind == "linear" else z
        assert logits == pytest.approx(wanted.tolist(), abs=tolerance("explorer.training")), method
        moved = np.array(logits) - np.array(weights) - (1.0 - np.array(first_weights(tab, kind)))
        assert moved == pytest.approx(at_end.residual[-1, 0].tolist(), abs=tolerance("explorer.training")), method


def first_weights(tab, kind):
    """The weights' side of the invariant before training."""
    return tab.evaluate(
        """(kind) => {
            const { layer } = JSON.parse(document.getElementById("plots").textContent).theory;
            return Layer.train(layer, { kind, method: "sgd", step: 0.1, steps: 0, every: 1 })[0].weights;
        }""",
        kind,
    )


def test_a_target_that_is_moved_by_keys_or_dragged_changes_curves_and_address(browser, page):
    opened = Opened(browser, page.as_uri(), viewport={"width": 1280, "height": 900})
    tab, story = opened.tab, opened.tab.locator("#story")
    before, curve = story.inner_text(), tab.locator("#entropy path.line").get_attribute("d")
    handle = tab.locator("#targets [role=slider]").last
    assert handle.get_attribute("aria-valuetext").startswith("3.69")
    handle.focus()
    for _ in range(4):
        tab.keyboard.press("ArrowUp")
    wait_until(tab, "document.querySelector('#targets [role=slider][aria-valuenow=\"3.89\"]') !== null")
    box = tab.locator("#targets [role=slider]").first.bounding_box()
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tab.mouse.down()
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2 - 60)
    tab.mouse.up()
    wait_until(tab, "document.querySelector('#targets [role=slider]').getAttribute('aria-valuenow') > 2")
    settle(tab)
    assert "rates=" in tab.url
    assert story.inner_text() != before
    assert tab.locator("#entropy path.line").get_attribute("d") != curve
    again = Opened(browser, tab.url, viewport={"width": 1280, "height": 900})
    assert again.tab.locator("#story").inner_text() == story.inner_text()
    assert opened.complaints == again.complaints == []
    tab.close()
    again.tab.close()


def test_every_part_follows_the_one_slider_and_play_and_the_address(browser, page):
    address = (
        f"{page.as_uri()}#at=0.5&mlp=linear&attention=exp&rates=1,2&v0=0&gain=0.5&end=1&law=linear&method=adam&head=1"
    )
    opened = Opened(browser, address, viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    tab = opened.tab
    assert "At t = 0.6267 the component with Δ = 2 becomes infinite" in tab.locator("#story").inner_text()
    assert tab.locator("#invariant [value=adam]").is_checked()
    assert "head 1" in tab.locator("#sentence-story").inner_text()
    clocks = tab.locator("#clocks").inner_text()
    assert "t = 0.5" in clocks
    assert "step" in clocks
    tab.locator("#time").focus()
    tab.keyboard.press("End")
    wait_until(tab, "document.getElementById('clocks').textContent.includes('step 800')")
    settle(tab)
    assert "Step 800" in tab.locator("#sentence-story").inner_text()
    assert "Step 400" in tab.locator("#tree-now").inner_text()
    tab.locator("#play").click()
    wait_until(tab, "document.getElementById('time').value > 0 && document.getElementById('time').value < 1000")
    assert tab.locator("#play").get_attribute("aria-pressed") == "true"
    tab.locator("#play").click()
    settle(tab)
    assert "law=linear" in tab.url
    assert "at=1&" not in tab.url
    assert opened.complaints == []
    tab.close()


def test_the_numbers_in_a_formula_give_what_stands_before_them(tab):
    tab.hover("[data-formula=flow]")
    said = tab.locator("[data-formula=flow] .numbers").inner_text()
    speed, target, v, gain, _, z = (float(text) for text in re.findall(r"[\d.]+", said.replace("²", "")))
    assert (target - v) * np.exp(gain * v**2) / z == pytest.approx(speed, rel=2e-3), said


def test_entropy_that_only_falls_to_0_has_no_sparsest_time(browser, page):
    opened = Opened(browser, page.as_uri() + "#mlp=linear", viewport={"width": 1280, "height": 900})
    assert opened.tab.locator("#story").inner_text().endswith("at t = 100: in this window it only gets sparser.")
    assert "sparsest" not in opened.tab.locator("main").inner_text()
    opened.tab.close()


def test_a_link_within_the_page_keeps_what_is_set_when_the_page_is_loaded_again(browser, page):
    opened = Opened(browser, page.as_uri() + "#gain=0.5&at=0.7", viewport={"width": 1280, "height": 900})
    tab, story = opened.tab, opened.tab.locator("#story").inner_text()
    tab.locator("nav a[href='#tree']").click()
    wait_until(tab, "scrollY > 1000 && location.hash.includes('gain=0.5')")
    tab.reload()
    assert tab.locator("#story").inner_text() == story
    assert "t = 70" in tab.locator("#clocks").inner_text()
    assert opened.complaints == []
    tab.close()


def test_the_sentence_says_at_which_saved_step_its_weights_are(tab):
    steps = tab.evaluate("JSON.parse(document.getElementById('plots').textContent).run.steps")
    for step, said in ((110, "Step 100 (the last one with weights up to step 110), layer"), (400, "Step 400, layer")):
        tab.evaluate("(at) => State.set({ at })", steps.index(step) / (len(steps) - 1))
        wait_until(tab, "(said) => document.getElementById('sentence-story').textContent.startsWith(said)", said)
        assert tab.locator("#sentence-story").inner_text().startswith(said)


def test_a_sentence_and_its_words_shuffled_share_the_axes_of_one_chart(tab):
    tab.evaluate("State.set({ at: 1, layer: 1, head: 2 })")
    wait_until(tab, "document.getElementById('sentence-story').textContent.includes('layer 1, head 2')")
    said = tab.locator("#sentence-story").inner_text()
    entropies = [float(text) for text in re.search(r"entropy ([\d.]+) nats as written, ([\d.]+)", said).groups()]
    drawn = tab.evaluate(
        "[...document.querySelectorAll('#orders path.line')].map((line) => line.getAttribute('d').match(/[\\d.]+$/)[0])"
    )
    ticks = tab.evaluate(
        """[...document.querySelectorAll('#orders text.end')].map((text) => [
            Number(text.textContent), Number(text.getAttribute('y')) - 3.5,
        ])"""
    )
    (low, low_y), (high, high_y) = ticks[0], ticks[-1]
    shown = [low + (float(y) - low_y) / (high_y - low_y) * (high - low) for y in drawn]
    assert shown == pytest.approx(entropies, abs=0.01)
    assert len(set(entropies)) == 2


@pytest.mark.parametrize("address", ["#at=2&gain=x&rates=1,nobody&token=-4&row=99&mlp=%3Cb%3E", "#run", "#=&=&&"])
def test_an_address_that_makes_no_sense_shows_what_can_be_read_of_it(browser, page, address):
    opened = Opened(browser, page.as_uri() + address, viewport={"width": 1280, "height": 900})
    assert "sparsest at t = 13.4" in opened.tab.locator("#story").inner_text()
    assert opened.complaints == []
    opened.tab.close()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark"), (320, "light")])
def test_the_page_fits_its_window_and_prints(browser, page, width, scheme):
    opened = Opened(browser, page.as_uri(), viewport={"width": width, "height": 850}, color_scheme=scheme)
    assert opened.tab.evaluate("document.documentElement.scrollWidth") <= width
    assert opened.tab.locator("#heads rect.cell").count() > 100
    assert opened.tab.locator("#latents circle").count() == 16
    opened.tab.emulate_media(media="print")
    assert not opened.tab.locator(".player").is_visible()
    assert opened.tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert opened.complaints == []
    opened.tab.close()


def test_a_lowest_entropy_that_lies_between_two_even_times_is_found(tab, tolerance):
    generator = np.random.default_rng(4)
    settings = [
        SETTING | {"attention": attention, "rates": generator.uniform(1, 3, 5).tolist(), "gain": gain}
        for attention in ("exp", "softmax")
        for gain in (0.3, 0.6)
    ]
    found = tab.evaluate(
        """(settings) => settings.map((one) => {
            const solved = Theory.dynamics(one);
            const { state, isInner } = solved.bottom(solved.over(solved.times(1000, 121)));
            return [isInner, state.t, state.entropy];
        })""",
        settings,
    )
    for setting, (is_inner, time, entropy) in zip(settings, found, strict=True):
        rates = torch.tensor(setting["rates"], dtype=torch.float64)
        start = torch.full_like(rates, setting["v0"])
        exact = Dynamics("μ", rates, start, setting["gain"], setting["attention"]).sparsest()
        assert is_inner
        assert entropy == pytest.approx(exact.entropy, abs=tolerance("explorer.solution"))
        assert time == pytest.approx(exact.time, rel=tolerance("explorer.solution"))


def test_entropy_is_known_where_components_are_too_large_for_a_number(browser, page):
    address = page.as_uri() + "#mlp=linear&attention=linear&rates=5,-3,1&end=1000"
    opened = Opened(browser, address, viewport={"width": 1280, "height": 900})
    assert "and is at 0 nats at t = 1000" in opened.tab.locator("#story").inner_text()
    opened.tab.close()


def test_after_a_blow_up_the_formulas_say_that_nothing_is_defined(browser, page):
    address = page.as_uri() + "#mlp=linear&attention=exp&rates=-3,3&v0=0&end=3&at=1"
    opened = Opened(browser, address, viewport={"width": 1280, "height": 900})
    assert (
        "the components with Δ = −3 and Δ = 3 become infinite and take all" in opened.tab.locator("#story").inner_text()
    )
    numbers = opened.tab.evaluate("[...document.querySelectorAll('#theory .numbers')].map((one) => one.textContent)")
    assert numbers == ["not defined after the blow-up"] * 4 + ["t* = 0.5117"]
    opened.tab.close()


@pytest.mark.parametrize("attention", ["softmax", "linear"])
def test_a_formula_has_the_numbers_that_no_float_holds(browser, page, attention):
    address = f"#mlp=linear&attention={attention}&rates=2,4&v0=0&gain=0.5&end=1000&at=1"
    opened = Opened(browser, page.as_uri() + address, viewport={"width": 1280, "height": 900})
    said = opened.tab.locator("[data-formula=attention] .numbers").text_content()
    mantissa, power = re.search(r"/ ([\d.]+)·10([⁰¹²³⁴⁵⁶⁷⁸⁹]+)$", said).groups()
    found = np.log10(float(mantissa)) + int(power.translate(str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")))
    if attention == "softmax":
        rates = torch.tensor([2.0, 4.0], dtype=torch.float64)
        v = Dynamics("Δ", rates, torch.zeros_like(rates), 0.5, "softmax").v(torch.tensor([1000.0]))[0, 1]
        log_z = 0.5 * float(v) ** 2
    else:  # √(v² + 1) = cosh Δt
        log_z = 4 * 1000 - np.log(2)
    assert found == pytest.approx(log_z / np.log(10), abs=2e-4), said
    assert "∞" not in opened.tab.locator("[data-formula=flow] .numbers").text_content()
    opened.tab.close()


def test_what_is_left_of_a_way_that_is_almost_done_is_a_number(browser, page):
    address = "#attention=exp&rates=4,3&end=100&at=1&component=0&gain=0.5"
    opened = Opened(browser, page.as_uri() + address, viewport={"width": 1280, "height": 900})
    progress = 100 * np.exp(0.5 * 16)  # at the rate of a component that is at its target, which it soon is
    power = int(progress / np.log(10)) // 100
    said = opened.tab.locator("[data-formula=end] .numbers").text_content()
    raised = re.search(r"v → 4, and is [\d.]+·10⁻([⁰¹²³⁴⁵⁶⁷⁸⁹]+) away from it now", said)[1]
    assert int(raised.translate(str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789"))) // 100 == pytest.approx(power, rel=0.02), (
        said
    )
    opened.tab.close()


def test_space_plays_and_arrows_step_after_any_click(browser, page):
    opened = Opened(browser, page.as_uri(), viewport={"width": 1280, "height": 900})
    tab = opened.tab

    for clicked in ("[data-preset=linear]", "#play", "[name=attention][value=exp]", "[data-step='1']"):
        tab.locator(clicked).click()
        if clicked == "#play":
            tab.locator(clicked).click()
        if clicked == "[name=attention][value=exp]":  # the arrows choose among these
            tab.locator("h1").click()
        before = tab.evaluate("State.get().at")
        tab.keyboard.press("ArrowRight")
        assert tab.evaluate("State.get().at") == pytest.approx(before + 0.01), clicked
    for chosen in ("#time", "#targets [role=slider]", "[name=attention][value=exp]", "[data-preset=figure4]"):
        if "preset" in chosen:
            tab.locator(chosen).click()
        else:
            tab.locator(chosen).first.focus()
        for state in ("true", "false"):
            tab.keyboard.press(" ")
            assert tab.locator("#play").get_attribute("aria-pressed") == state, chosen
    tab.locator("#play").focus()
    tab.keyboard.press(" ")  # the button's own
    assert tab.locator("#play").get_attribute("aria-pressed") == "true"
    assert opened.complaints == []
    tab.close()


def test_within_another_page_a_picture_is_in_view_and_what_is_set_can_be_opened_alone(browser, page, tmp_path):
    around = tmp_path / "around.html"
    around.write_text(f'<iframe src="{page.as_uri()}" style="width: 690px; height: 675px"></iframe>')
    tab = browser.new_page(viewport={"width": 800, "height": 700})
    tab.goto(around.as_uri())
    frame = tab.frames[1]
    wait_until(frame, "document.querySelectorAll('#entropy path.line').length > 0")
    picture, player = (frame.locator(name).bounding_box() for name in ("#entropy svg", ".player"))
    assert picture["y"] + picture["height"] < player["y"]
    frame.locator("#gain").focus()
    tab.keyboard.press("End")
    wait_until(frame, "document.querySelector('.player .here').href.includes('gain=1')")
    frame.locator(".player .here").click()
    tab.wait_for_url("**#gain=1")
    assert tab.frames == [tab.main_frame]
    assert not tab.locator(".player .here").is_visible()
    tab.close()


def test_every_latent_has_its_number_on_a_phone_too(browser, page):
    opened = Opened(browser, page.as_uri() + "#at=1", viewport={"width": 390, "height": 844})
    found = opened.tab.evaluate(
        """[...document.querySelectorAll("#latents text.score")].map((label) => {
            const { x, y, width } = label.getBBox();
            return [label.textContent, x, y, width];
        })"""
    )
    assert all(re.search(r"\d", text) for text, *_ in found)
    digit_height = 8
    for place, (one, x, y, width) in enumerate(found):
        for other, left, top, _ in found[:place]:
            assert x >= left + width or left >= x + width or abs(y - top) >= digit_height, (one, other)
    opened.tab.close()


def test_what_a_diamond_is_depends_on_the_mlp(browser, page):
    for mlp, hint, name in (("nonlinear", "where it goes", "Targets"), ("linear", "its rate Δ", "Rates")):
        opened = Opened(browser, f"{page.as_uri()}#mlp={mlp}", viewport={"width": 1280, "height": 900})
        assert hint in opened.tab.locator("#targets").text_content()
        assert opened.tab.locator("#targets").get_attribute("aria-label").startswith(name)
        opened.tab.close()

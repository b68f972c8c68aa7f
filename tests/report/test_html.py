import json
import re
import shutil
import subprocess
import time
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest

from fixtures.reports import write_report
from tightbound.diagnose.finding import Cause
from tightbound.errors import UserError
from tightbound.estimators.estimate import Estimate
from tightbound.report import html
from tightbound.report.draw import charts
from tightbound.report.html import flattened
from tightbound.report.panels import MOST_POINTS, thinned
from tightbound.report.series import bound_range, bound_series
from tightbound.report.tables import short_form
from tightbound.train.folder import RunFolder

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
HOSTILE = "</script></style><script>alert(1)</script><img src=x onerror=alert(2)>\"'&"
VOID = {"meta", "img", "br"}
SECTIONS = ("Findings", "What each site adds", "Weights", "Latents", "Gradients", "Samples")


class Reader(HTMLParser):
    """What the browser would make of the page: elements, attributes and text, and whether every
    element that is opened is closed."""

    def __init__(self, text, *, strict=True):
        super().__init__()
        self.strict = strict
        self.tags, self.attributes, self.open, self.text = [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        assert not self.strict or self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.text += data


def read(path):
    reader = Reader(path.read_text())
    assert reader.open == []
    return reader


def num_charts(reader):
    return sum(name == "data-points" for _, name, _ in reader.attributes)


def test_a_whole_run_has_every_chart_and_every_part(make_run):
    """Oracle: counted by hand. 1 bound, 2 sites, 3 weights, 2 latents, 2 gradients, 2 why."""
    page = read(write_report(make_run()))
    assert num_charts(page) == 12
    assert page.tags.count("img") == 1
    for text in (*SECTIONS, "Why the bound moved", "Not checked", "Settings"):
        assert text in page.text
    for text in ("-23.99 ± 0.26", "nats per sequence, lower bound", "independent-pixel"):
        assert text in page.text
    for text in ("4 of 8 are active", "optimiser.learning_rate", "the first try", "seed 0"):
        assert text in page.text
    assert "elbo, 4 draws per sequence, on valid (dynamic binarisation), at step 2000" in page.text


def test_faults_stand_before_what_passed_and_gaps_are_listed(make_run):
    """The order a person needs; what passed is folded away; skipped is not passed."""
    page = read(write_report(make_run()))
    places = [page.text.index(code) for code in ("TB101", "TB401", "TB501", "1 passed", "TB301")]
    assert places == sorted(places)
    assert page.text.index("kl_sign_flipped") < page.text.index("wrong_axis")
    gaps = page.text[page.text.index("Not checked") :]
    assert "TB501 labels_fit: the data has no labels" in gaps


def test_the_page_loads_nothing(make_run):
    """No address in it, and the only thing that has a source is a picture within the page; the
    policy forbids the rest to the browser."""
    path = write_report(make_run())
    page, text = read(path), path.read_text()
    assert "http:" not in text
    assert "https:" not in text
    assert "@import" not in text
    assert "url(" not in text
    loading = [v for _, name, v in page.attributes if name in ("src", "href", "srcset", "action")]
    assert len(loading) == 1
    assert loading[0].startswith("data:image/png;base64,")
    policy = next(v for _, name, v in page.attributes if name == "content" and "default-src" in v)
    assert policy.startswith("default-src 'none'; img-src data:;")


def make_hostile(folder, made_records, findings):
    """Hostile text wherever a run folder has text."""
    made_records[-1]["held_out"]["bound"] |= {"split": HOSTILE, "unit": HOSTILE}
    (folder.path / "steps.jsonl").write_text("".join(json.dumps(r) + "\n" for r in made_records))
    recipe = folder.read_json("recipe.json")
    recipe |= dict.fromkeys(("name", "recipe", "seed", "note", "started"), HOSTILE)
    recipe["settings"] = {HOSTILE: {HOSTILE: HOSTILE}} | recipe["settings"]
    folder.write_json("recipe.json", recipe)
    environment = folder.read_json("environment.json")
    folder.write_json("environment.json", environment | {"device": HOSTILE})
    baselines = folder.read_json("baselines.json")
    folder.write_json("baselines.json", {HOSTILE: baselines.pop("uniform")} | baselines)
    why = folder.read_json("why.json")
    why["sites"] = {HOSTILE: why["sites"]["x"], "z": why["sites"]["z"]}
    why["modules"] = {HOSTILE: {HOSTILE: 1.0}}
    folder.write_json("why.json", why)
    hostile = [
        replace(
            finding,
            meaning=HOSTILE,
            where=HOSTILE,
            check=HOSTILE,
            causes=tuple(Cause(HOSTILE, HOSTILE, HOSTILE) for _ in finding.causes),
            not_checked=(HOSTILE,) * len(finding.not_checked),
        )
        for finding in findings
    ]
    document = {"schema": 1, "step": 1, "findings": [f.to_json() for f in hostile]}
    folder.write_json("findings.json", document)
    (folder.samples / "step-00002000.png").rename(folder.samples / "a' onerror='x().png")


@pytest.fixture
def hostile_run(make_run, made_records, findings):
    folder = make_run(steps=[])
    make_hostile(folder, made_records, findings)
    return folder


def test_hostile_text_stays_text(hostile_run):
    """Wherever a file's text goes, it is shown as it is written and adds no element."""
    page = read(write_report(hostile_run))
    assert page.tags.count("script") == 1
    assert page.tags.count("img") == 1
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert page.text.count(HOSTILE) >= 15


@pytest.mark.parametrize("module", [html, charts])
def test_without_escaping_the_hostile_text_would_be_caught(hostile_run, monkeypatch, module):
    """The planted bug: each module's own `escape` taken away adds elements the law above counts."""
    monkeypatch.setattr(module, "escape", lambda text: text)
    page = Reader(write_report(hostile_run).read_text(), strict=False)
    assert page.tags.count("script") > 1 or page.tags.count("img") > 1


def test_a_bare_run_still_gives_a_page_that_says_what_is_missing(make_run, made_records):
    """One record without evaluation, and no evidence, baselines, findings, samples or `why`."""
    folder = make_run(steps=made_records[:1], findings=None, probes=False, why=None)
    page = read(write_report(folder))
    bound = Estimate.from_json(made_records[0]["train"]["bound"])  # for want of a held-out one
    assert short_form(bound) in page.text
    assert "No baseline was recorded" in page.text
    assert "Nobody has looked yet" in page.text
    assert "everything: no check has been run on this folder" in page.text
    assert page.text.count("Not drawn") == 3
    assert num_charts(page) == 3


def test_a_run_that_has_only_begun_gives_a_page_with_its_first_evaluation(make_run, made_records):
    """The first state's record: an evaluation, and no batch that was trained."""
    first = {key: made_records[19][key] for key in ("epoch", "seconds", "held_out")} | {"step": 0}
    page = read(write_report(make_run(steps=[first], findings=None, probes=False, why=None)))
    assert short_form(Estimate.from_json(first["held_out"]["bound"])) in page.text


def test_a_fall_from_the_first_step_is_in_the_frame(made_records):
    """The curve of `edits/doubling-original`: -27 before training, -233 after ten steps, and never
    above its beginning again. Oracle: the frame itself holds every evaluation."""
    records = [
        made_records[19]
        | {
            "step": step,
            "held_out": {"bound": made_records[19]["held_out"]["bound"] | {"value": value}},
        }
        for step, value in [(0, -27.0)] + [(10 * n, -233.0 + n) for n in range(1, 21)]
    ]
    low, high = bound_range(bound_series([], "train"), bound_series(records, "held_out"), [])
    assert low < -231
    assert high > -27


def test_a_run_without_any_record_gives_a_page(make_run):
    """Killed before the first record was written."""
    page = read(write_report(make_run(steps=[], findings=None, probes=False, why=None)))
    assert "No step has been recorded yet." in page.text


@pytest.mark.parametrize("bad", ["nan", "inf", "-inf"])
def test_values_that_are_not_finite_are_said_and_draw_no_invalid_number(
    make_run, made_records, bad
):
    """In records and in evidence alike; the drawing's own numbers stay finite."""
    for record in made_records[100:]:
        record["train"]["bound"] |= {"value": bad, "standard_error": "nan"}
        record["train"]["sites"]["x"]["log_p"] = float(bad)
        if "held_out" in record:
            record["held_out"]["bound"] |= {"value": bad, "standard_error": "nan"}
            record["held_out"]["ess_fraction"] = float("nan")
    folder = make_run(steps=made_records)
    newest = sorted(folder.evidence.glob("*.npz"))[-1]
    with np.load(newest) as file:
        arrays = dict(file)
    for name in ("sites.log_p", "latents.mean", "gradients.norm"):
        arrays[name] = np.where(np.arange(arrays[name].size) % 2, arrays[name].ravel(), float(bad))
        arrays[name] = arrays[name].reshape(-1, *np.load(newest)[name].shape[1:])
    np.savez(newest, **arrays)
    page = read(write_report(folder))
    assert "100 records are not finite, the first at step 1010." in page.text
    assert f"{bad} ± nan" in page.text
    numbers = [v for tag, n, v in page.attributes if n in ("d", "points", "x", "y", "cx", "x1")]
    assert numbers
    assert not [v for v in numbers if re.search("nan|inf", v)]
    for value in [v for _, n, v in page.attributes if n == "data-points"]:
        json.loads(value, parse_constant=pytest.fail)


def test_a_run_all_of_nan_says_so_instead_of_drawing(make_run, made_records):
    """Nothing to draw is said where the chart would be."""
    record = made_records[0]
    record["train"]["bound"] |= {"value": "nan", "standard_error": None}
    record["train"]["sites"] = {"x": {"log_p": float("nan")}}
    page = read(write_report(make_run(steps=[record], probes=False)))
    assert page.text.count("no finite value was recorded") == 2


def test_the_report_is_written_in_three_seconds_also_after_a_long_run(make_run, made_records):
    """A million steps: 10,000 records and 1,000 evidence files. Processor time, so that neighbours
    on the machine do not count."""
    records = [r | {"step": 100 * (i + 1)} for i, r in enumerate(made_records * 50)]
    folder = make_run(steps=records)
    newest = sorted(folder.evidence.glob("*.npz"))[-1]
    for i in range(1000):
        shutil.copy(newest, folder.evidence / f"step-{1000 * (i + 3):08d}.npz")
    start = time.process_time()
    path = write_report(folder)
    assert time.process_time() - start < 3
    assert path.stat().st_size < 2_000_000


def test_a_long_series_keeps_its_mean_its_range_and_its_gaps():
    """Closed form: a line with one spike and one NaN, in neighbourhoods of ten."""
    steps = np.arange(1, 10 * MOST_POINTS + 1)
    values = steps.astype(float)
    values[15], values[25] = 1e6, np.nan
    curve = thinned("x", steps, values)
    assert len(curve.x) == MOST_POINTS
    assert curve.x[0] == 10
    assert curve.y[0] == pytest.approx(5.5)
    assert curve.high is not None
    assert curve.high[1] == 1e6
    assert np.isnan(curve.y[2])
    assert np.isfinite(np.delete(curve.y, 2)).all()
    short = thinned("x", steps[:5], values[:5])
    assert (short.y == values[:5]).all()
    assert short.high is None


def test_settings_are_named_as_on_the_command_line():
    """Oracle: written by hand."""
    nested = {"run": {"steps": 5, "plateau": {"patience": None}}, "seed": 1}
    expected = [("run.steps", "5"), ("run.plateau.patience", "None"), ("seed", "1")]
    assert flattened(nested) == expected


def test_a_folder_that_is_no_run_is_named(tmp_path):
    """The user's mistake, in one sentence."""
    with pytest.raises(UserError, match="it is not a run folder"):
        write_report(RunFolder(tmp_path))


def test_a_damaged_evidence_file_is_named(make_run):
    """Half a file: the sentence says which and what to do."""
    folder = make_run()
    newest = sorted(folder.evidence.glob("*.npz"))[-1]
    newest.write_bytes(newest.read_bytes()[:100])
    with pytest.raises(UserError, match=r"step-00002000\.npz is damaged .* Delete it"):
        write_report(folder)


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not on PATH")
def test_in_chromium_the_charts_answer_the_pointer_without_script_errors(make_run, tmp_path):
    """Oracle: the browser itself. The page's script counts the charts it has taken charge of, and
    a pointer at the right end of the first is told the last step."""
    path = write_report(make_run())
    assert 'data-charts="12"' in dumped(path, tmp_path)
    move = """<script>
    const svg = document.querySelector("svg[data-points]"), box = svg.getBoundingClientRect();
    svg.dispatchEvent(new PointerEvent("pointermove", {clientX: box.right - 5, clientY: box.top + 9}));
    </script></body>"""
    page = path.read_text().replace("</body>", move)
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    moved = tmp_path / "moved.html"
    moved.write_text(page)
    dom = dumped(moved, tmp_path)
    tip = re.search(r'<div class="tip"[^>]*>([^<]*)</div>', dom)
    assert tip is not None
    assert unescape(tip[1]).startswith("step 2000\ntrain, one batch each -2")
    assert "held-out: valid (dynamic binarisation) -23.99 ± 0.26" in unescape(tip[1])


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not on PATH")
def test_in_chromium_a_hostile_note_runs_nothing(make_run, tmp_path):
    """The page stays whole, and its own script still runs under its policy."""
    attack = HOSTILE.replace("alert(1)", "document.documentElement.dataset.charts='taken'")
    assert 'data-charts="12"' in dumped(write_report(make_run(note=attack)), tmp_path)


def dumped(path, tmp_path):
    """The page's elements after its script has run; fails on a script error."""
    assert CHROMIUM is not None
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync"
    flags += " --disable-background-networking --disable-component-update --dump-dom"
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    command = [CHROMIUM, *flags.split(), profile, path.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "Script error" not in re.sub(r"<script>.*?</script>", "", dom, flags=re.DOTALL)
    return dom


def test_checks_that_did_not_run_or_passed_are_one_line_each_that_opens(make_run, findings):
    """Oracle: the verdicts of the findings. Faults and undecided ones stand open before the first fold."""
    many = [*findings, *(replace(f, check=f"copy_{i}") for f in findings for i in range(5))]
    page = write_report(make_run(findings=many)).read_text()
    section = page[page.index("<h2>Findings</h2>") :]
    opened, _, folded = section.partition("<details><summary>")
    assert folded.startswith("6 not run</summary>")
    assert "<summary>6 passed</summary>" in folded
    assert "finding not-run" not in opened
    assert "finding passed" not in opened
    assert opened.count("finding fault") == opened.count("finding undecided") == 6


def exact(records):
    for record in records:
        for split in ("train", "held_out"):
            if split in record:
                record[split]["bound"] |= {"bound": "exact", "monte_carlo_error": None}
    return records


def test_the_headline_of_an_exact_sum_says_so(make_run, made_records):
    """A language model: log p of every sentence, without draws, and so without their error."""
    page = read(write_report(make_run(steps=exact(made_records))))
    assert "nats per sequence, exact" in page.text
    assert "log p(x) itself, nothing drawn, on valid (dynamic binarisation)" in page.text
    assert "± is the standard error over sequences." in page.text
    assert "elbo, 4 draws" not in page.text


def test_a_single_draw_is_one_draw(make_run, made_records):
    for record in made_records:
        if "held_out" in record:
            record["held_out"]["bound"]["num_samples"] = 1
    page = read(write_report(make_run(steps=made_records)))
    assert "elbo, 1 draw per sequence, on" in page.text


def pooled(folder):
    """The run as one whose rows are points of one data set."""
    recipe = folder.read_json("recipe.json")
    folder.write_json("recipe.json", recipe | {"stated": {"pooled": True}})
    return folder


def test_log_p_of_a_data_set_and_of_a_point_are_never_on_one_axis(make_run):
    """Points that share their latents: training bounds log p(D), a held-out figure is of one point. Law:
    each of the two has a chart and a unit of its own, and the baselines stand in that of the points."""
    path = write_report(pooled(make_run()))
    page = read(path)
    assert num_charts(page) == 13
    charts = re.findall(r'<figure class="chart">.*?</figure>', path.read_text(), re.DOTALL)
    of_points, of_data_set = charts[:2]
    assert "nats per point, lower bound" in of_points
    assert "held-out: valid" in of_points
    assert "independent-pixel" in of_points
    assert "train, one batch" not in of_points
    assert "nats per data set, lower bound" in of_data_set
    assert "train, one batch" in of_data_set
    assert "independent-pixel" not in of_data_set
    top = page.text[: page.text.index("Findings")]
    assert "nats per sequence" not in top
    assert "baseline (nats per point, exact)" in top
    assert "standard error over points" in top


def test_runs_of_sequences_keep_one_chart_of_both_splits(make_run):
    """The other side of the law above."""
    charts = re.findall(r'<figure class="chart">.*?</figure>', write_report(make_run()).read_text())
    assert "train, one batch each" in charts[0]
    assert "held-out: valid" in charts[0]


def test_no_number_of_the_page_has_more_than_six_digits(make_run, made_records):
    """A run that has blown up by twelve powers of ten. Oracle: a search for seven digits in a row before
    a point, in what a reader sees and in what a pointer is told."""

    def grown(value):
        if isinstance(value, dict):
            return {name: grown(entry) for name, entry in value.items()}
        return value * 1e12 if isinstance(value, float) else value

    for record in made_records:
        for split in ("train", "held_out"):
            if split in record:
                record[split] = grown(record[split])
    path = write_report(make_run(steps=made_records, why=None))
    body = path.read_text().partition("<body>")[2].partition("<script>")[0]
    seen = [re.sub("<[^>]*>", " ", body), *re.findall('data-points="([^"]*)"', body)]
    assert "e+1" in seen[0]
    assert all("e+1" in told for told in seen[1:3])
    assert not [number for text in seen for number in re.findall(r"(?<!step-)\b\d{7,}", text)]

"""`joma tree` from outside: its numbers against sums written out here, its files, its refusals."""

import itertools
import json
import re
import signal
import subprocess
import sys
import time
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from joma.cli import main
from joma.problem.combinatorial import random_hierarchy
from joma.problem.tree import balanced_tree
from joma.problem.unrelated import UnrelatedLabels
from joma.report import progress
from joma.theory.labels import ceiling_of
from joma.train.decoder import Decoder, seed_of
from joma.train.hierarchies import load_law, save_law, seeded_samples
from joma.train.run import load_run
from tolerances import TOLERANCES

SUMS = TOLERANCES["simulation.sums"].bound
SMALL = ["--law", "random", "--classes", "4", "--levels", "4,5", "--tokens", "10"]
NETWORK = ["--num-steps", "20", "--width", "16", "--hidden", "32"]
PAGE = Path(__file__).parents[2] / "docs" / "tree.md"


def refuse_constant(name):
    raise AssertionError(f"{name} is no JSON")


def said(capsys, *words):
    assert main(["tree", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out, parse_constant=refuse_constant)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "small"
    assert main(["tree", "train", *SMALL, *NETWORK, "--out", str(folder)]) == 0
    return folder


# --- sample ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [[], ["--law", "table", "--classes", "6"], SMALL], ids=["tree", "table", "random"])
def test_samples_are_printed_and_written_alike_in_every_format(words, tmp_path, capsys):
    import datasets
    import pyarrow.parquet

    folder = tmp_path / "my samples"
    lines = said(capsys, "sample", *words, "--samples", "7", "--seed", "3", "--out", str(folder))["samples"]
    assert [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()] == lines
    for kind in ("parquet", "dataset"):
        said(capsys, "sample", *words, "--samples", "7", "--seed", "3", "--out", str(folder), "--format", kind)
    assert pyarrow.parquet.read_table(folder / "samples.parquet").to_pylist() == lines
    assert list(datasets.load_from_disk(str(folder / "dataset"))) == lines
    assert load_law(folder / "law.json").level_sizes == tuple(
        len(lines[0][f"level_{s}"]) for s in range(len(lines[0]) - 2)
    )
    assert (imread(folder / "sample.png")[..., :3].min(-1) < 0.9).mean() > 0.01


def test_samples_of_the_random_hierarchy_model_are_its_symbols_in_every_format(tmp_path, capsys):
    import pyarrow.parquet

    folder, words = tmp_path / "model", ["sample", "--law", "rhm", "--synonyms", "2", "--samples", "7"]
    record = said(capsys, *words, "--out", str(folder), "--format", "parquet")
    assert pyarrow.parquet.read_table(folder / "samples.parquet").to_pylist() == record["samples"]
    law = load_law(folder / "law.json")
    for sample in record["samples"]:
        rows = [sample["tokens"], sample["level_0"], sample["level_1"], [sample["label"]]]
        for below, above, rules in zip(rows[:-1], rows[1:], law.rules, strict=True):
            for place, symbol in enumerate(above):
                assert below[2 * place : 2 * place + 2] in rules[symbol].tolist()
    assert (imread(folder / "sample.png")[..., :3].min(-1) < 0.9).mean() > 0.01


@pytest.mark.parametrize("law", ["latent-tree", "rhm"])
def test_a_filtered_law_has_the_levels_up_to_the_filter(law, capsys):
    for level in (-1, 0, 1):
        record = said(capsys, "sample", "--law", law, "--filtered", str(level), "--samples", "2")
        assert set(record["samples"][0]) == {"tokens", "label", *(f"level_{number}" for number in range(level + 1))}


def test_a_sample_of_the_table_is_the_union_of_what_lies_below_its_class(capsys):
    record = said(capsys, "sample", "--law", "table", "--classes", "6", "--samples", "20")
    members, padding = record["law"]["members"], record["law"]["num_tokens"]
    for sample in record["samples"]:
        upper = set(members[2][sample["label"]][0])
        lower = {child for latent in upper for child in members[1][latent][0]}
        tokens = {child for latent in lower for child in members[0][latent][0]}
        assert {idx for idx, there in enumerate(sample["level_1"]) if there} == upper
        assert {idx for idx, there in enumerate(sample["level_0"]) if there} == lower
        assert [token for token in sample["tokens"] if token != padding] == sorted(tokens)


def test_the_table_of_samples_shows_what_is_there_by_number(capsys):
    assert main(["tree", "sample", "--branching", "2,2", "--polarity", "1", "--samples", "30"]) == 0
    shown = capsys.readouterr().out
    rows = {
        tuple(cell.strip() for cell in line.split("│")[1:-1]) for line in shown.splitlines() if line.startswith("│")
    }
    assert rows == {("0", "–", "–"), ("1", "0 1", "0 1 2 3")}


# --- cooccurrence ---------------------------------------------------------------------------------------------------


def test_exact_closed_and_simulated_agree_for_the_default_tree(capsys):
    record = said(capsys, "cooccurrence", "--samples", "20000")
    rows = record["pairs"]
    assert [(row["label"], row["height"]) for row in rows] == list(itertools.product((0, 1, None), (1, 2, 3, 4)))
    assert [row["num_pairs"] for row in rows[:4]] == [16, 32, 64, 128]
    for row in rows:
        if row["label"] is None:
            assert row["closed"] is None
        else:
            assert abs(row["exact"] - row["closed"]) < SUMS
        assert abs(row["simulated"] - row["exact"]) < 4.5 * row["standard_error"]


def test_a_tables_exact_shares_are_counted_over_its_classes(capsys):
    record = said(capsys, "cooccurrence", "--law", "table", "--samples", "2000")
    law = random_hierarchy(20)
    reach = [[set(chosen) for (chosen,) in law.members[0]]]
    for level in law.members[1:]:
        reach.append([set().union(*(reach[-1][child] for child in chosen)) for (chosen,) in level])
    inputs = reach[-1]
    shares = {}
    for m, other in itertools.permutations(range(100), 2):
        with_m = [tokens for tokens in inputs if m in tokens]
        if with_m:
            heights = [h for h, sets in enumerate(reach, 1) if any({m, other} <= tokens for tokens in sets)]
            height = min(heights, default=0)
            shares.setdefault(height, []).append(sum(other in tokens for tokens in with_m) / len(with_m))
    for row in record["pairs"]:
        expected = shares[row["height"]]
        assert row["num_pairs"] == len(expected)
        assert row["exact"] == pytest.approx(np.mean(expected), abs=SUMS)
        assert (row["lowest"], row["highest"]) == pytest.approx((min(expected), max(expected)), abs=SUMS)


def test_a_token_that_is_never_there_leaves_no_share_and_no_nan(capsys):
    rows = said(capsys, "cooccurrence", "--polarity", "1", "--samples", "100", "--label", "0")["pairs"]
    assert all(row["exact"] is row["simulated"] is row["closed"] is None for row in rows)


# --- train ----------------------------------------------------------------------------------------------------------


def test_training_writes_a_run_with_snapshots_and_a_picture(trained, capsys):
    assert load_run(trained).snapshots() == list(range(0, 21, 2))
    assert (imread(trained / "learning.png")[..., :3].min(-1) < 0.9).mean() > 0.01
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    record = said(capsys, "train", *SMALL, *NETWORK, "--out", str(trained))
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before
    assert (record["step"][0], record["step"][-1]) == (0, 20)
    ceiling = ceiling_of(random_hierarchy(4, (4, 5), num_tokens=10, show_probability=0.8))
    assert ceiling is not None
    assert record["ceiling"]["accuracy"] == ceiling.accuracy
    assert record["val_loss_nats"][-1] < record["val_loss_nats"][0]


def test_the_loss_is_that_of_the_network_on_the_held_out_samples(trained, capsys):
    record = said(capsys, "train", *SMALL, *NETWORK, "--out", str(trained))
    run = load_run(trained)
    samples = seeded_samples(run.law(), 512, seed_of("held-out samples"))
    with torch.no_grad():
        logits = run.decoder()(samples.tokens)[:, -1].double()
    loss = torch.nn.functional.cross_entropy(logits, samples.labels)
    assert record["val_loss_nats"][-1] == pytest.approx(float(loss), abs=TOLERANCES["decoder.parity"].bound)
    assert record["val_accuracy"][-1] == float((logits.argmax(-1) == samples.labels).double().mean())


def test_ctrl_c_keeps_what_is_done_and_the_same_command_ends_as_in_one_go(tmp_path):
    words = ["tree", "train", *SMALL, *NETWORK[2:], "--num-steps", "150", "--out"]
    command = [sys.executable, "-m", "joma", *words, str(tmp_path / "run")]
    started = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "run" / "metrics.jsonl").exists() and started.poll() is None:
        time.sleep(0.01)
    started.send_signal(signal.SIGINT)
    _, err = started.communicate()
    assert started.returncode == 130, err
    assert "the same command uses what it can of it" in err
    assert main([*words, str(tmp_path / "run")]) == 0
    assert main([*words, str(tmp_path / "whole")]) == 0
    for name in ("metrics.jsonl", "checkpoints/step_000150.safetensors", "learning.svg", "learning.png"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


# --- align ----------------------------------------------------------------------------------------------------------


def correlation(units, latents):
    """Every latent's best correlation with a unit, by NumPy."""
    units, latents = units - units.mean(0), latents - latents.mean(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = units.T @ latents / np.outer(np.linalg.norm(units, axis=0), np.linalg.norm(latents, axis=0))
    return np.nanmax(found, axis=0)


def hidden_units(decoder, tokens):
    seen = []
    with torch.no_grad():
        decoder.eval()(tokens, observe_hidden=lambda layer, hidden: seen.append(hidden.amax(1).double().numpy()))
    return seen


@pytest.mark.parametrize("step", [None, 4])
def test_scores_of_trained_and_untrained_network_are_those_of_numpy(step, trained, capsys):
    words = ["--samples", "300", "--permutations", "9", *([] if step is None else ["--step", str(step)])]
    record = said(capsys, "align", str(trained), *words)
    run = load_run(trained)
    assert record["step"] == (20 if step is None else step)
    samples = seeded_samples(run.law(), 300, seed_of(0, "alignment"))
    networks = {"trained": run.decoder(step), "untrained": Decoder(run.recipe.decoder, run.recipe.seed)}
    for name, decoder in networks.items():
        for layer, units in enumerate(hidden_units(decoder, samples.tokens)):
            for level, latents in enumerate(samples.presence):
                scores = [match["score"] for match in record[name][layer][level]["in_sample"]["latents"]]
                expected = correlation(units, latents.double().numpy())
                assert scores == pytest.approx(expected, abs=TOLERANCES["alignment.correlation"].bound)
    assert record["own_layers"] == [{"level": 0, "layer": 0}, {"level": 1, "layer": 1}]


def test_the_first_step_is_the_untrained_network(trained, capsys):
    record = said(capsys, "align", str(trained), "--samples", "100", "--permutations", "9", "--step", "0")
    assert record["trained"] == record["untrained"]
    assert main(["tree", "align", str(trained), "--samples", "100", "--permutations", "9", "--step", "0"]) == 0
    assert "0 of 4 at level 0, 0 of 5 at level 1" in " ".join(capsys.readouterr().out.split())


def test_a_tables_latents_are_shuffled_by_class(tmp_path, capsys):
    words = ["--law", "table", "--classes", "5", "--levels", "4,5", "--tokens", "10"]
    words += ["--num-steps", "2", "--width", "16", "--hidden", "32"]
    assert main(["tree", "train", *words, "--out", str(tmp_path)]) == 0
    capsys.readouterr()
    record = said(capsys, "align", str(tmp_path), "--samples", "100", "--permutations", "9")
    assert record["trained"][0][0]["num_groups"] == 5


def test_the_latents_of_the_random_hierarchy_model_are_its_symbols_at_places(tmp_path, capsys):
    words = ["--law", "rhm", "--classes", "3", "--symbols", "4", "--synonyms", "2", "--depth", "2"]
    words += ["--num-steps", "2", "--width", "16", "--hidden", "32"]
    assert main(["tree", "train", *words, "--out", str(tmp_path)]) == 0
    capsys.readouterr()
    record = said(capsys, "align", str(tmp_path), "--samples", "300", "--permutations", "9", "--out", str(tmp_path))
    samples = seeded_samples(load_run(tmp_path).law(), 300, seed_of(0, "alignment"))
    (units,) = hidden_units(load_run(tmp_path).decoder(), samples.tokens)
    there = [samples.symbols[0][:, place] == symbol for place in (0, 1) for symbol in range(4)]
    scores = [match["score"] for match in record["trained"][0][0]["in_sample"]["latents"]]
    for score, expected in zip(scores, correlation(units, torch.stack(there, 1).double().numpy()), strict=True):
        if score is None:
            assert np.isnan(expected)  # a symbol that no rule of a class has
        else:
            assert score == pytest.approx(expected, abs=TOLERANCES["alignment.correlation"].bound)
    assert (imread(tmp_path / "alignment.png")[..., :3].min(-1) < 0.9).mean() > 0.01


def test_the_picture_and_the_record_are_written_the_same_each_time(trained, tmp_path, capsys):
    words = ["align", str(trained), "--samples", "100", "--permutations", "9"]
    record = said(capsys, *words, "--out", str(tmp_path / "a"))
    assert main(["tree", *words, "--out", str(tmp_path / "b")]) == 0
    assert json.loads((tmp_path / "a" / "alignment.json").read_text()) == record
    for name in ("alignment.json", "alignment.svg", "alignment.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_level_without_a_layer_says_so(tmp_path, capsys):
    assert main(["tree", "train", *SMALL, *NETWORK, "--layers", "1", "--out", str(tmp_path)]) == 0
    assert main(["tree", "align", str(tmp_path), "--samples", "100", "--permutations", "9"]) == 0
    assert "the network has no layer for the level (5)" in " ".join(capsys.readouterr().out.split())


# --- options --------------------------------------------------------------------------------------------------------

SHORT = [*SMALL, "--num-steps", "3", "--width", "16", "--hidden", "16"]
TREE, TABLE = ["--branching", "2,2"], ["--law", "table", "--classes", "4", "--levels", "4,5", "--tokens", "12"]


@pytest.mark.parametrize(
    ("base", "words"),
    [
        ([], ["--law", "table"]),
        ([], ["--branching", "3,2"]),
        (TREE, ["--polarity", "0.3,0.9"]),
        (TREE, ["--labels", "3"]),
        (TREE, ["--jitter", "0.1"]),
        ([*TREE, "--jitter", "0.1"], ["--law-seed", "1"]),
        (TABLE, ["--classes", "5"]),
        (TABLE, ["--levels", "4,6"]),
        (TABLE, ["--members", "2,2,3"]),
        (TABLE, ["--tokens", "20"]),
        (TABLE, ["--length", "20"]),
        ([*TABLE, "--tokens", "5", "--classes", "3", "--samples", "50"], ["--distinct"]),
        (TABLE, ["--law-seed", "1"]),
        (SMALL, ["--show", "0.5"]),
        (["--law", "random"], ["--alternatives", "2"]),
        (["--law", "rhm"], ["--symbols", "9"]),
        (["--law", "rhm"], ["--synonyms", "3"]),
        (["--law", "rhm"], ["--depth", "2"]),
        (["--law", "rhm"], ["--branching", "3"]),
        (["--law", "rhm"], ["--classes", "3"]),
        (["--law", "rhm"], ["--law-seed", "1"]),
        (["--law", "rhm", "--classes", "4"], ["--uncorrelated"]),
        (["--law", "rhm"], ["--filtered", "0"]),
        ([], ["--samples", "11"]),
        ([], ["--seed", "1"]),
        ([], ["--shuffled"]),
    ],
    ids=lambda words: words[-2] if len(words) == 2 else "",
)
def test_every_option_of_the_law_and_of_samples_has_an_effect(base, words, capsys):
    records = [said(capsys, "sample", *base), said(capsys, "sample", *base, *words)]
    for record in records:
        record.pop("seed")
    assert records[0] != records[1]


@pytest.fixture(scope="module")
def losses(tmp_path_factory):
    """Return the losses of a short training with no option changed."""
    words = ["tree", "train", *SHORT, "--json", "--out", str(tmp_path_factory.mktemp("runs") / "short")]
    with redirect_stdout(StringIO()) as out:
        assert main(words) == 0
    return json.loads(out.getvalue())["val_loss_nats"]


@pytest.mark.parametrize(
    "words",
    [
        ["--num-steps", "2"],
        ["--seed", "1"],
        ["--learning-rate", "0.01"],
        ["--weight-decay", "0.1"],
        ["--batch-size", "8"],
        ["--width", "8"],
        ["--hidden", "4"],
        ["--heads", "2"],
        ["--layers", "1"],
        ["--shuffled"],
    ],
    ids=lambda words: words[0],
)
def test_every_option_of_training_has_an_effect(words, losses, tmp_path, capsys):
    assert said(capsys, "train", *SHORT, "--out", str(tmp_path), *words)["val_loss_nats"] != losses


def test_snapshots_are_kept_as_often_as_asked_for(tmp_path, capsys):
    words = ["--num-steps", "7", "--width", "8", "--hidden", "8", "--snapshot-every", "3"]
    assert said(capsys, "train", *SMALL, *words, "--out", str(tmp_path))["snapshots"] == [0, 3, 6, 7]


def test_a_law_comes_from_a_file_and_options_from_a_configuration(tmp_path, capsys):
    save_law(balanced_tree((2, 2), 0.6), tmp_path / "law.json")
    (tmp_path / "tree.yaml").write_text(f"law: {tmp_path / 'law.json'}\nsamples: 3\n")
    assert main(["tree", "sample", "--config", str(tmp_path / "tree.yaml"), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["law"]["polarities"][1], len(record["samples"])) == (0.6, 3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sample", "--law", "latent-tre"], "did you mean 'latent-tree'"),
        (["sample", "--law", "no/such.json"], "no/such.json cannot be read"),
        (["sample", "--classes", "5"], "--classes has no effect with --law latent-tree"),
        (["sample", "--law", "table", "--polarity", "0.5"], "--polarity has no effect with --law table"),
        (["sample", "--law", "table", "--show", "0.5"], "--show has no effect with --law table"),
        (["sample", "--law", "x.json", "--law-seed", "0"], "--law-seed has no effect with --law x.json"),
        (["sample", "--law-seed", "0"], "nothing of this tree is drawn"),
        (["sample", "--polarity", "1.2"], "1.2"),
        (["sample", "--polarity", "0.5,0.5"], "`polarities` is of length 2"),
        (["sample", "--branching", "2,0.5"], "--branching holds 0.5"),
        (["sample", "--branching", "2,x"], "could not convert string to float: 'x'"),
        (["sample", "--labels", "99", "--branching", "2,2"], "at most 4 labels"),
        (["sample", "--law", "table", "--classes", "500"], "gives only 190 sets"),
        (["sample", "--law", "table", "--length", "5"], "the most tokens that a class may show"),
        (["sample", "--law", "random", "--show", "0"], "`show_probability` is 0"),
        (["sample", "--law", "rhm", "--show", "0.5"], "--show has no effect with --law rhm"),
        (["sample", "--law", "rhm", "--branching", "2,2"], "--branching holds 2 numbers"),
        (["sample", "--law", "rhm", "--synonyms", "9"], "at most 8, for 8 symbols have 64 tuples of 2"),
        (["sample", "--law", "rhm", "--filtered", "2"], "`level` is 2"),
        (["sample", "--law", "rhm", "--shuffled"], "the place of a token says which rules made it"),
        (["cooccurrence", "--law", "rhm"], "any token can be at any place"),
        (["sample", "--format", "jsonl"], "--format has no effect without --out"),
        (["sample", "--out", "out", "--format", "csv"], "--format is 'csv'"),
        (["cooccurrence", "--label", "2"], "--label is 2"),
        (["train", "--out", "out", "--learning-rate", "0"], "--learning-rate is 0"),
        (["train", "--out", "out", "--width", "7"], "--width is 7"),
        (["train", "--out", "out", "--branching", "4"], "no latents"),
        (["align", "no/such/run"], "cannot be read"),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) else "",
)
def test_bad_input_exits_with_2_and_one_line(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["tree", *words]) == 2
    out, err = capsys.readouterr()
    (line,) = err.strip().splitlines()
    assert message in line
    assert "expected" in line
    assert not out
    assert not list(tmp_path.iterdir())


def test_labels_that_mean_nothing_can_be_learned_and_aligned_but_not_counted(tmp_path, capsys):
    save_law(UnrelatedLabels(random_hierarchy(4, (4, 5), num_tokens=10)), tmp_path / "law.json")
    words = ["--law", str(tmp_path / "law.json")]
    assert said(capsys, "train", *words, *NETWORK, "--out", str(tmp_path / "run"))["ceiling"]["accuracy"] == 0.25
    found = said(capsys, "align", str(tmp_path / "run"), "--samples", "200", "--permutations", "9")
    assert found["trained"][0][0]["num_groups"] == 4
    assert main(["tree", "cooccurrence", *words]) == 2
    assert "nothing to do with its tokens" in capsys.readouterr().err


def test_steps_without_a_snapshot_and_other_peoples_folders_are_refused(trained, tmp_path, capsys):
    assert main(["tree", "align", str(trained), "--step", "3"]) == 2
    assert "no snapshot of step 3" in capsys.readouterr().err
    (tmp_path / "thesis.tex").write_text("years of work")
    for words in (["train", *SMALL], ["sample"], ["cooccurrence"], ["align", str(trained)]):
        assert main(["tree", *words, "--out", str(tmp_path / "thesis.tex")]) == 2
        assert "is a file" in capsys.readouterr().err
    assert main(["tree", "train", *SMALL, "--out", str(tmp_path)]) == 2
    assert "contains other files" in capsys.readouterr().err
    assert main(["tree", "train", *SMALL, *NETWORK, "--seed", "5", "--out", str(trained)]) == 2
    assert "seed is 0 there and 5 here" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_what_takes_long_says_how_far_it_is(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(progress, "SLOW_SECONDS", 0.0)
    for words, what in (
        (["sample", "--samples", "3"], "drawing samples"),
        (["cooccurrence", "--samples", "100"], "samples"),
        (["train", *SMALL, *NETWORK, "--out", str(tmp_path)], "training"),
        (["align", str(trained), "--samples", "50", "--permutations", "3"], "alignment"),
    ):
        assert main(["tree", *words]) == 0
        assert re.search(rf"^{what}: \d+%", capsys.readouterr().err, re.MULTILINE)


def test_samples_longer_than_any_memory_are_refused_in_a_sentence(capsys):
    assert main(["tree", "sample", "--law", "table", "--length", "1000000000000", "--samples", "3"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "--length is 1000000000000; expected a whole number of at least 1 and at most" in said[0]


# --- the page -------------------------------------------------------------------------------------------------------


def on_the_page():
    return re.findall(r"```\n\$ joma (.*)\n((?:.*\n)+?)```", PAGE.read_text(encoding="utf-8"))


def shape(text):
    """What is printed without its numbers, which belong to one machine's roundings."""
    return re.sub(r"[\d.,−]+", "0", re.sub(r"[━─\s]+", " ", text))


def test_the_page_shows_what_its_commands_print(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    pages = on_the_page()
    assert [words.split()[1] for words, _ in pages] == ["sample", "cooccurrence", "train", "align"]
    for words, printed in pages:
        assert main(words.split()) == 0
        out = "".join(f"{line.rstrip()}\n" for line in capsys.readouterr().out.splitlines())
        exact = words.split()[1] in ("sample", "cooccurrence")
        assert out == printed if exact else shape(out) == shape(printed)

import copy
import json
import math
import signal
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import pyarrow.parquet
import pytest
import torch
from small_models import small_batch, small_model
from torch import nn

import joma
from joma.errors import BadInput, InvalidArgument, RunFailed
from joma.journal import read_journal
from joma.measure.capture.sharded import split_heads
from joma.measure.curves.alarms import Alarms
from joma.measure.models.projections import HEAD_ROLES
from joma.measure.spectra.spectrum import stable_rank
from joma.measure.watch.probing import AttentionProbe, undisturbed, weight_rows
from joma.measure.watch.watching import Watch
from joma.train.decoder import Decoder, DecoderConfig

KIND = "gpt2"


def language_model(**settings):
    """Return a model with dropout, whose losses would change if a probe drew random numbers."""
    return small_model(KIND, "AutoModelForCausalLM", **settings).train()


class Plain(nn.Sequential):
    """A module defined outside of torch, for compilation in place."""

    def forward(self, tokens):
        return super().forward(tokens)


def plain_model():
    """Return a model of torch modules, which is faster to import than one of transformers."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.2)
    return Plain(nn.Embedding(99, 16), nn.TransformerEncoder(layer, 2), nn.Linear(16, 99))


def language_loss(model, batch):
    return model(**batch, labels=batch["input_ids"]).loss


def copying_loss(model, batch):
    return nn.functional.cross_entropy(model(batch["input_ids"]).flatten(0, 1), batch["input_ids"].flatten())


def train(model, num_steps=6, *, probe=None, accumulate=1, dtype=None, loss_of=language_loss):
    """Return the losses of all batches and the final weights, which must be bit-identical."""
    torch.manual_seed(7)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    batch = small_batch(KIND, padded=True)
    losses = []
    for _ in range(num_steps):
        for _ in range(accumulate):
            with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
                loss = loss_of(model, batch)
            loss.backward()
            losses.append(loss.item())
        optimizer.step()
        optimizer.zero_grad()
        if probe is not None:
            probe.step()
    return losses, [parameter.detach().clone() for parameter in model.parameters()]


def steps_of(probe):
    return sorted({measurement.step for measurement in probe.measurements()})


def checkpointed(model):
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model


@pytest.mark.parametrize(
    ("prepare", "settings"),
    [
        (lambda model: model, {}),
        (lambda model: model, {"accumulate": 3}),
        (lambda model: model, {"dtype": torch.bfloat16}),
        (lambda model: model.to(torch.bfloat16), {}),
        (checkpointed, {}),
    ],
    ids=["plain", "accumulation", "autocast", "bf16", "checkpointing"],
)
def test_training_is_bit_identical_with_and_without_a_watch(prepare, settings):
    plain = train(prepare(language_model()), **settings)
    model = prepare(language_model())
    with joma.watch(model, small_batch(KIND, padded=True), every=2) as probe:
        watched = train(model, probe=probe, **settings)
    assert watched[0] == plain[0]
    assert all(torch.equal(a, b) for a, b in zip(watched[1], plain[1], strict=True))
    assert steps_of(probe) == [0, 2, 4, 6]
    assert len(set(plain[0])) == len(plain[0])


def compiled_in_place(model, backend):
    model.compile(backend=backend)
    return model


def compiled_in_parts(model, backend):
    model[1].layers[1] = torch.compile(model[1].layers[1], backend=backend)
    return model


@pytest.mark.parametrize("compiling", [torch.compile, compiled_in_place, compiled_in_parts])
def test_watched_compiled_models_train_bit_identically_without_recompilation(compiling):
    from torch._dynamo.testing import CompileCounter

    frames, outcomes = [], []
    for is_watched in (False, True):
        counter = CompileCounter()
        torch._dynamo.reset()
        compiled = compiling(plain_model(), backend=counter)
        if is_watched:
            with joma.watch(compiled, small_batch(KIND)["input_ids"], every=2) as probe:
                outcomes.append(train(compiled, probe=probe, loss_of=copying_loss))
        else:
            outcomes.append(train(compiled, loss_of=copying_loss))
        frames.append(counter.frame_count)
    assert frames[0] == frames[1] > 0
    assert outcomes[0][0] == outcomes[1][0]
    assert all(torch.equal(*pair) for pair in zip(outcomes[0][1], outcomes[1][1], strict=True))


def test_a_probe_measures_attention_and_weights():
    model, batch = language_model(), small_batch(KIND, padded=True)
    with joma.watch(
        model, batch, measures="attention,stable_rank", projections=("mlp_lower", "query"), share_window=3
    ) as probe:
        values = probe.measure()
    eager = small_model(KIND, "AutoModelForCausalLM", attn_implementation="eager")
    eager.set_attn_implementation("eager")
    with torch.no_grad():
        weights = eager(**batch, output_attentions=True).attentions[1].double()
    kept = batch["attention_mask"].bool()
    expected = {
        "attention_entropy": torch.special.entr(weights).sum(-1),
        "attention_sum_of_squares": weights.square().sum(-1),
        "attention_first_token_share": weights[..., 0],
        "attention_window_share": weights.tril().triu(-2).sum(-1),
    }
    for name, per_query in expected.items():
        for head in range(4):
            mean = per_query[:, head][kept].mean().item()
            assert values[f"joma/{name}/layer_01/head_{head:02}"] == pytest.approx(mean, abs=1e-5), name
    seen = torch.arange(1, 13).expand(3, 12)
    normalized = (expected["attention_entropy"][:, 2] / seen.log())[kept & (seen > 1)].mean().item()
    assert values["joma/attention_entropy_normalized/layer_01/head_02"] == pytest.approx(normalized, abs=1e-5)
    block = model.transformer.h[1]
    assert values["joma/stable_rank/mlp_lower/layer_01"] == stable_rank(block.mlp.c_fc.weight).item()
    query = block.attn.c_attn.weight.detach()[:, 8:16].T
    assert values["joma/stable_rank/query/layer_01/head_01"] == stable_rank(query).item()


def test_a_single_measure_can_be_a_string():
    with joma.watch(language_model(), small_batch(KIND), measures="stable_rank") as probe:
        assert set(probe.measure()) == {"joma/stable_rank/mlp_lower/layer_00", "joma/stable_rank/mlp_lower/layer_01"}


def test_a_model_without_a_longest_context_reads_any_length():
    model = small_model(KIND)
    model.config.max_position_embeddings = -1  # as in XLNet
    assert joma.watch(model, small_batch(KIND)).measure()


def test_torch_layers_and_the_own_decoder_are_measured_with_their_weights():
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2)
    decoder = Decoder(DecoderConfig(20, width=8, num_heads=2, hidden=6, num_layers=2))
    for model, batch in ((encoder, torch.randn(2, 5, 16)), (decoder, torch.randint(20, (3, 9)))):
        with joma.watch(model, batch) as probe:
            names = probe.measure()
        assert {"joma/attention_entropy/layer_01/head_01", "joma/stable_rank/mlp_lower/layer_01"} <= set(names)
    lower = [stable_rank(weight).item() for weight in decoder.lower_weights()]
    assert [names["joma/stable_rank/mlp_lower/layer_00"], names["joma/stable_rank/mlp_lower/layer_01"]] == lower


def test_module_modes_and_random_state_are_restored():
    model = language_model()
    model.transformer.h[0].eval()
    modes = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    with pytest.raises(InvalidArgument), undisturbed(model):
        stable_rank(torch.rand(int(not any(module.training for module in model.modules()))))
    AttentionProbe(model, small_batch(KIND)).rows()
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert model.config._attn_implementation == "sdpa"


def test_values_are_written_at_each_probe_and_the_table_at_the_end(tmp_path):
    model = language_model()
    received = []
    with joma.watch(
        model, small_batch(KIND), every=2, out=tmp_path / "w", tracker=lambda *what: received.append(what)
    ) as probe:
        train(model, 3, probe=probe)
        on_disk = read_journal(tmp_path / "w" / "metrics.jsonl")
        assert [step for step, _ in on_disk.probes] == [0, 2]
    table = pyarrow.parquet.read_table(tmp_path / "w" / "metrics.parquet").to_pylist()
    assert sorted({row["step"] for row in table}) == [0, 2, 3]
    assert table == [dict(zip(table[0], row[:-1], strict=True)) for row in probe.measurements()]
    assert [step for _, step in received] == [0, 2, 3]
    assert received[1][0]["joma/stable_rank/mlp_lower/layer_00"] in [row["value"] for row in table if row["step"] == 2]


def test_the_measurements_of_a_killed_process_are_on_disk(tmp_path):
    code = f"""
        import os, signal, sys
        sys.path[:0] = [{str(Path(__file__).parents[1])!r}, {str(Path(__file__).parent)!r}]
        from test_watching import plain_model, small_batch, joma
        with joma.watch(plain_model(), small_batch("gpt2")["input_ids"], every=1, out={str(tmp_path)!r}) as probe:
            probe.step()
            os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [step for step, _ in read_journal(tmp_path / "metrics.jsonl").probes] == [0, 1]


def test_failed_training_writes_the_table_without_a_last_probe(tmp_path):
    with pytest.raises(ZeroDivisionError), joma.watch(language_model(), small_batch(KIND), out=tmp_path) as probe:
        probe.step(1 // 0 if probe.step() is None else 2)
    assert {row["step"] for row in pyarrow.parquet.read_table(tmp_path / "metrics.parquet").to_pylist()} == {0}


def test_continued_training_replaces_later_measurements(tmp_path):
    def go(start, num_steps):
        with joma.watch(language_model(), small_batch(KIND), every=2, out=tmp_path, start=start) as probe:
            for _ in range(num_steps):
                probe.step()
        return [step for step, _ in read_journal(tmp_path / "metrics.jsonl").probes]

    assert go(0, 5) == [0, 2, 4, 5]
    assert go(3, 3) == [0, 2, 3, 4, 6]
    with pytest.raises(BadInput, match="already holds measurements of steps 0 to 6"):
        go(0, 1)


def averaged(model):
    model.load_state_dict({name: 0.9 * weight for name, weight in model.state_dict().items()})


def swapped_behind_autograd(model):
    for weight in model.parameters():
        weight.data.mul_(0.9)


def moved_elsewhere(model):
    for weight in model.parameters():
        weight.data = 0.9 * weight.data


def with_new_parameters(model):
    for module in model.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(0.9 * weight.detach()))


@pytest.mark.parametrize("swap", [averaged, swapped_behind_autograd, moved_elsewhere, with_new_parameters])
def test_a_step_is_not_measured_with_other_weights_than_it_left(swap):
    model, batch = plain_model(), small_batch(KIND)["input_ids"]
    probe = joma.watch(model, batch, every=2).__enter__()
    train(model, 3, probe=probe, loss_of=copying_loss)
    swap(model)
    with pytest.raises(BadInput, match=r"other weights now than step 3 left.* call step\(\) after each"):
        probe.measure()
    with pytest.warns(RuntimeWarning, match="step 3, the last one, is not measured"):
        probe.__exit__(None, None, None)
    assert list(probe.probes) == [0, 2]


def test_a_measurement_before_step_is_refused_rather_than_given_the_step_before():
    model, batch = plain_model(), small_batch(KIND)["input_ids"]
    with joma.watch(model, batch, every=2) as probe:
        train(model, 1, loss_of=copying_loss)
        with pytest.raises(BadInput, match="other weights now than step 0 left"):
            probe.measure()
        probe.step()
        assert probe.measure()
    assert list(probe.probes) == [0, 1]


@pytest.mark.parametrize("value", [math.nan, 0.0, math.inf])
def test_the_last_step_is_measured_whatever_its_weights_are(value):
    model = plain_model()
    with joma.watch(model, small_batch(KIND)["input_ids"], measures="stable_rank") as probe:
        with torch.no_grad():
            for weight in model[2].parameters():
                weight.fill_(value)
        probe.step()
    assert list(probe.probes) == [0, 1]


def test_a_block_that_is_entered_again_continues_or_begins_again_after_a_failure(tmp_path):
    model = plain_model()
    probe = joma.watch(model, small_batch(KIND)["input_ids"], every=2, out=tmp_path)
    probe.__enter__()
    train(model, 3, probe=probe, loss_of=copying_loss)
    probe.__exit__(ZeroDivisionError, ZeroDivisionError(), None)
    failed = probe.probes[0]
    for num_steps in (3, 2):
        with probe:
            train(model, num_steps, probe=probe, loss_of=copying_loss)
    assert [step for step, _ in read_journal(tmp_path / "metrics.jsonl").probes] == [0, 2, 3, 4, 5]
    assert list(probe.probes) == [0, 2, 3, 4, 5]
    assert probe.probes[0] != failed


def test_decreasing_steps_are_refused_and_measurements_stay(tmp_path):
    with joma.watch(language_model(), small_batch(KIND), every=5, out=tmp_path) as probe:
        probe.step(6)
        with pytest.raises(
            InvalidArgument, match=r"`number` is 3; expected 6 or more.* start a new watch with start=3"
        ):
            probe.step(3)
        with pytest.raises(InvalidArgument, match=r"`number` is 6\.5"):
            probe.step(6.5)
        probe.step(11)
    journal = read_journal(tmp_path / "metrics.jsonl")
    assert ([step for step, _ in journal.probes], journal.damage) == ([0, 6, 11], "")


def test_a_probe_that_steps_skip_is_taken_at_the_next_step():
    with joma.watch(language_model(), small_batch(KIND), every=10) as probe:
        for number in (4, 4, 8, 13, 13, 19, 41):
            probe.step(number)
    assert steps_of(probe) == [0, 13, 41]


def test_a_nan_layer_gives_a_warning_and_the_others_are_measured():
    model = language_model()
    with torch.no_grad():
        model.transformer.h[1].attn.c_attn.weight[0, 0] = math.nan
    with pytest.warns(
        RuntimeWarning, match=r"layer 1 \(transformer.h.1.attn\) has queries or keys that are not finite"
    ):
        rows = AttentionProbe(model, small_batch(KIND)).rows()
    assert {layer for layer, *_ in rows} == {0}
    assert all(math.isfinite(row.value) for row in rows)
    with torch.no_grad():
        model.transformer.h[0].mlp.c_fc.weight.zero_()
    with pytest.warns(RuntimeWarning, match="stable_rank is undefined for the mlp_lower projection of layer 0"):
        assert [layer for layer, *_ in weight_rows(model, ["stable_rank"], ["mlp_lower"])] == [1]


def meta_batch():
    return {"input_ids": torch.zeros(1, 4, dtype=torch.long, device="meta")}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "gpt2"}, "`model` is a str"),
        ({"probe_batch": {}}, "`probe_batch` is without any tensor"),
        ({"probe_batch": {"input_ids": torch.zeros(0, 4, dtype=torch.long)}}, "`probe_batch` is empty"),
        (
            {"probe_batch": meta_batch()},
            r"`probe_batch` is on meta \(input_ids\); expected on cpu.*use .to\('cpu'\)",
        ),
        (
            {"probe_batch": {"input_ids": torch.zeros(1, 65, dtype=torch.long)}},
            "65 tokens long; expected at most 64 tokens",
        ),
        ({"every": 0}, "`every` is 0"),
        ({"every": 2.5}, "`every` is 2.5"),
        ({"every": True}, "`every` is True"),
        ({"start": -1}, "`start` is -1"),
        ({"share_window": 0}, "`share_window` is 0"),
        ({"share_window": 2.5}, "`share_window` is 2.5"),
        ({"measures": ["atention"]}, "did you mean 'attention'"),
        ({"measures": []}, "no metric is named"),
        ({"projections": "mlp_lowr"}, "`projections` is 'mlp_lowr'.* did you mean 'mlp_lower'"),
        ({"tracker": 3}, "`tracker` is a int"),
        ({"out": __file__}, "`out` is the file"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(settings, message):
    good = {"model": language_model(), "probe_batch": small_batch(KIND)}
    with pytest.raises(BadInput, match=message):
        joma.watch(**{**good, **settings})


def test_weights_of_an_unknown_family_are_left_out_unless_requested():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(8, 24)

        def forward(self, x):
            q, k, v = self.inner(x)[:, None].chunk(3, dim=-1)
            return nn.functional.scaled_dot_product_attention(q, k, v)

    with joma.watch(Own(), torch.randn(2, 5, 8)) as probe:
        assert not any("rank" in name for name in probe.measure())
    with pytest.raises(BadInput, match="no model_type"):
        joma.watch(Own(), torch.randn(2, 5, 8), measures=["stable_rank"])


def test_the_ranks_of_experts_and_of_heads_can_be_measured_together():
    import transformers

    sizes = {"vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = transformers.MixtralConfig(**sizes, num_key_value_heads=2, intermediate_size=64, num_local_experts=2)
    model, batch = transformers.MixtralModel(config), {"input_ids": torch.ones(1, 4, dtype=torch.long)}
    with joma.watch(model, batch, measures="stable_rank", projections=("mlp_lower", *HEAD_ROLES)) as probe:
        assert len(probe.measure()) == 1 + 4 + 2 + 2 + 4 + 4
        assert sorted(probe.frame()["group"].dropna()) == ["expert_0", "expert_1"]


@pytest.mark.parametrize(
    ("model", "batch", "message"),
    [
        (lambda: nn.Linear(4, 4), torch.randn(2, 4), "no attention was observed in Linear"),
        (
            lambda: bloom(),
            {"input_ids": torch.ones(1, 4, dtype=torch.long)},
            "does not use transformers' registered attention functions",
        ),
        (
            lambda: language_model(),
            {"tokens": torch.ones(1, 4)},
            "cannot read the probe batch .*specify either input_ids",
        ),
        (
            lambda: nn.MultiheadAttention(8, 2),
            (torch.ones(4, 1, 6),) * 3,
            "cannot read the probe batch .*expecting embedding dimension of 8",
        ),
    ],
    ids=["no Transformer", "own code", "wrong names", "asserts"],
)
def test_models_that_cannot_be_measured_are_refused_before_the_first_step(model, batch, message):
    with pytest.raises(BadInput, match=message), joma.watch(model(), batch):
        pytest.fail("training must not begin")


def test_a_model_that_drops_its_masks_when_observed_is_refused(monkeypatch):
    """The model hides padding only if it finds the attention function that it knows."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    model = small_model(KIND)
    attend = type(model).forward

    def forward(self, *args, attention_mask=None, **kwargs):
        knows = ALL_ATTENTION_FUNCTIONS.get_interface("sdpa", None) is sdpa_attention_forward
        return attend(self, *args, attention_mask=attention_mask if knows else None, **kwargs)

    monkeypatch.setattr(type(model), "forward", forward)
    with pytest.raises(BadInput, match="computes something else"), joma.watch(model, small_batch(KIND, padded=True)):
        pytest.fail("training must not begin")
    with pytest.raises(BadInput, match="computes something else"):
        joma.watch(model, small_batch(KIND, padded=True)).measure()
    with joma.watch(model, small_batch(KIND)) as probe:
        assert probe.measure()


def bloom():
    import transformers

    return transformers.AutoModel.from_config(
        transformers.AutoConfig.for_model("bloom", vocab_size=99, hidden_size=32, n_layer=1, n_head=2)
    )


def test_an_unwritable_file_raises_with_the_number_of_kept_probes(tmp_path):
    with joma.watch(language_model(), small_batch(KIND), out=tmp_path) as probe:
        kept = (tmp_path / "metrics.jsonl").rename(tmp_path / "kept")
        (tmp_path / "metrics.jsonl").mkdir()
        with pytest.raises(RunFailed, match=r"step 100 could not be written .* 1 earlier probes are there"):
            probe.step(100)
        (tmp_path / "metrics.jsonl").rmdir()
        kept.rename(tmp_path / "metrics.jsonl")
    assert steps_of(probe) == [0, 100]


@pytest.mark.parametrize("taken", ["", "metrics.jsonl/"])
def test_a_folder_that_cannot_be_written_is_refused(tmp_path, taken):
    (tmp_path / "watched" / taken).mkdir(parents=True)
    folder = tmp_path / "watched"
    if not taken:
        folder = folder / "file" / "below"
        folder.parent.write_text("a file")
    match = r"`out` is .*, which cannot be written to \((Not|Is) a directory\); .* name another folder"
    with pytest.raises(InvalidArgument, match=match), joma.watch(language_model(), small_batch(KIND), out=folder):
        pytest.fail("training must not begin")


def test_measuring_outside_of_the_block_is_refused_with_a_folder(tmp_path):
    probe = joma.watch(language_model(), small_batch(KIND), out=tmp_path)
    with pytest.raises(InvalidArgument, match=r"`out` is .*, which is only open inside the block"):
        probe.measure()
    with probe:
        assert probe.measure()


def in_two_processes(rank, folder, port):
    """Run one process of data-parallel training; at module level, so that a spawned process can import it."""
    torch.set_num_threads(1)
    meeting = torch.distributed.TCPStore("127.0.0.1", port)
    torch.distributed.init_process_group("gloo", store=meeting, rank=rank, world_size=2)
    train_in_parallel(rank, folder)  # models must be deleted before the group, or torch may never exit
    torch.distributed.barrier()  # gloo aborts a process whose peer is gone already
    torch.distributed.destroy_process_group()


def train_in_parallel(rank, folder):
    outcomes = [train(nn.parallel.DistributedDataParallel(plain_model()), 3, loss_of=copying_loss)]
    model = nn.parallel.DistributedDataParallel(plain_model())
    with joma.watch(model, small_batch(KIND)["input_ids"], every=2, out=f"{folder}/watched") as probe:
        outcomes.append(train(model, 3, probe=probe, loss_of=copying_loss))
    assert bool(list(probe.measurements())) == (rank == 0)
    losses, weights = zip(*outcomes, strict=True)
    assert losses[0] == losses[1]
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


def test_with_two_processes_only_the_first_measures_and_neither_waits(tmp_path):
    # not a file store: of two processes that leave it together, one may wait five minutes for a removed file
    meeting = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    torch.multiprocessing.spawn(in_two_processes, (str(tmp_path), meeting.port), nprocs=2)
    lines = (tmp_path / "watched" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 2, 3]


@pytest.fixture
def mesh(tmp_path):
    """Return a mesh of only this process."""
    from torch.distributed.device_mesh import init_device_mesh

    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    torch.distributed.barrier()  # gloo aborts a process whose peer is gone already
    torch.distributed.destroy_process_group()


def by_deepspeed(model, _):
    """Mark a parameter in the way of ZeRO-3."""
    model.layers[0].linear1.weight.ds_id = 0
    return model


def by_the_first_fsdp(model, mesh):
    from torch.distributed.fsdp import FullyShardedDataParallel

    return FullyShardedDataParallel(model, device_mesh=mesh, device_id=torch.device("cpu"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("spread", "by"), [(by_the_first_fsdp, "FSDP 1"), (by_deepspeed, "ZeRO-3")])
def test_parameters_sharded_in_tensors_of_other_kinds_are_refused(spread, by, mesh):
    model = spread(nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1), mesh)
    with pytest.raises(BadInput, match=f"sharded over processes by {by}.*use torch's fully_shard"):
        joma.watch(model, torch.randn(1, 3, 8))


def test_heads_divided_among_processes_in_an_unknown_way_are_refused(mesh):
    from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module

    model, states = (
        parallelize_module(Scores(), mesh, {"query": ColwiseParallel(), "key": ColwiseParallel()}),
        (1, 3, 16),
    )
    with pytest.raises(BadInput, match=r"no configuration says how many.* measure saved checkpoints"):
        joma.watch(model, torch.randn(states)).__enter__()
    model = parallelize_module(Scores(), mesh, {"query": ColwiseParallel(use_local_output=False)})
    with pytest.raises(BadInput, match=r"are DTensors.*use_local_output=True"):
        split_heads(model, model.query(torch.randn(states)))


def test_joma_watch_returns_a_watch_without_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert isinstance(joma.watch(language_model(), small_batch(KIND)), Watch)


def test_a_model_with_an_unobservable_kernel_is_measured_with_another():
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register("somebodys_kernel", sdpa_attention_forward)
    AttentionMaskInterface.register("somebodys_kernel", sdpa_mask)
    model, batch = small_model("llama"), small_batch("llama", padded=True)
    expected = AttentionProbe(model, batch).rows()
    model.set_attn_implementation("somebodys_kernel")
    with joma.watch(model, batch, measures=["attention"]) as probe:
        assert [measurement.value for measurement in probe.measurements()] == [row.value for row in expected]
    assert model.config._attn_implementation == "somebodys_kernel"


class Scores(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.scaled_dot_product_attention(
            self.query(x)[:, None], self.key(x)[:, None], x[:, None]
        )


@pytest.mark.parametrize("make", [torch.jit.script, lambda module: torch.jit.trace(module, torch.ones(2, 5, 16))])
@pytest.mark.parametrize("wrap", [lambda module: module, nn.Sequential], ids=["alone", "as a part"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_scripted_module_is_refused_with_what_to_watch_instead(make, wrap):
    model = wrap(make(Scores()))
    with (
        pytest.raises(BadInput, match=r"is scripted or traced .* watch the module from which it was made"),
        joma.watch(model, torch.ones(2, 5, 16), measures="attention"),
    ):
        pass


def packed_batch():
    """Return one text of three documents, whose positions begin anew."""
    torch.manual_seed(1)
    positions = torch.tensor([[0, 1, 2, 3, 4, 0, 1, 2, 0, 1, 2, 3]])
    return {"input_ids": torch.randint(3, 99, (1, 12)), "position_ids": positions}


def entropies_in_training(model, batch):
    """Return the mean entropies of the heads of each layer in a training step, from the weights in float64."""
    eager = copy.deepcopy(model).double().train()
    eager.set_attn_implementation("eager")
    weights = eager(**batch, labels=batch["input_ids"], output_attentions=True).attentions
    return torch.cat([torch.special.entr(part).sum(-1).mean((0, 2)) for part in weights])


def watched_entropies(model, batch):
    """Return the mean entropies of two measurements, the first of which is compared with the unobserved model."""
    with joma.watch(model, batch, measures="attention") as probe:
        probe.step(100)
    found = [row.value for row in probe.measurements() if row.metric == "attention_entropy_nats"]
    first, second = torch.tensor(found, dtype=torch.float64).chunk(2)
    assert torch.equal(first, second)
    return first


@pytest.mark.parametrize("kind", ["llama", "olmo2"])
@pytest.mark.parametrize("settings", [{}, {"use_cache": False}], ids=["cache", "no cache"])
@pytest.mark.parametrize("is_checkpointed", [False, True])
@pytest.mark.parametrize("given", ["config", "argument"])
def test_packed_documents_are_measured_as_the_model_treats_them_in_training(
    kind, settings, is_checkpointed, given, tolerance
):
    """Without a cache, transformers finds the documents in ``position_ids``; gradient checkpointing turns it off."""
    in_config, in_batch = (settings, {}) if given == "config" else ({}, settings or {"use_cache": True})
    model, batch = small_model(kind, "AutoModelForCausalLM", **in_config), {**packed_batch(), **in_batch}
    if is_checkpointed:
        checkpointed(model)
    expected = entropies_in_training(model, batch)
    before = model.config.use_cache
    for labels in ({}, {"labels": batch["input_ids"]}):
        found = watched_entropies(model, {**batch, **labels})
        assert (found - expected).abs().max() <= tolerance("attention.entropy")
    assert model.config.use_cache is before


def test_cache_decides_whether_packed_documents_attend_to_each_other():
    with_cache, without = (
        entropies_in_training(small_model("llama", "AutoModelForCausalLM", use_cache=use), packed_batch())
        for use in (True, False)
    )
    assert (with_cache - without).abs().min() > 0.1


def test_a_matrix_with_an_adapter_is_not_measured_alone():
    model = small_model("llama", "AutoModelForCausalLM")
    lower = model.get_submodule("model.layers.0.mlp.up_proj")
    lower.adapter = torch.nn.Parameter(torch.zeros(2, lower.in_features))
    batch = {"input_ids": packed_batch()["input_ids"]}
    with pytest.raises(BadInput, match=r"up_proj\.adapter belongs to it"):
        joma.watch(model, batch, measures="stable_rank")
    with joma.watch(model, batch) as probe:
        pass
    assert "stable_rank" not in {row.metric for row in probe.measurements()}


@pytest.mark.parametrize("kind", ["DynamicCache", "StaticCache"])
def test_a_cache_in_the_batch_is_read_and_not_extended(kind, tolerance):
    import transformers

    model, ids = small_model("llama", "AutoModelForCausalLM").eval(), packed_batch()["input_ids"]
    size = {"max_cache_len": 64} if kind == "StaticCache" else {}
    cache = getattr(transformers, kind)(config=model.config, **size)
    with torch.no_grad():
        model(ids[:, :4], past_key_values=cache)
    found = watched_entropies(model, {"input_ids": ids[:, 4:], "past_key_values": cache})
    assert int(cache.get_seq_length()) == 4
    model.double().set_attn_implementation("eager")
    with torch.no_grad():
        weights = torch.stack(model(ids, output_attentions=True).attentions)
    expected = torch.special.entr(weights).sum(-1)[..., 4:].mean((1, 3))
    assert (found - expected.flatten()).abs().max() <= tolerance("attention.entropy")


def test_only_the_last_logits_are_computed_where_that_changes_nothing(monkeypatch):
    model, asked = small_model("llama", "AutoModelForCausalLM"), []
    forward = type(model).forward

    def counted(self, input_ids=None, logits_to_keep=0, **kwargs):
        asked.append(logits_to_keep)
        return forward(self, input_ids=input_ids, logits_to_keep=logits_to_keep, **kwargs)

    def cut(self, input_ids=None, logits_to_keep=0, **kwargs):
        asked.append(logits_to_keep)
        return forward(self, input_ids=input_ids[:, -6:] if logits_to_keep else input_ids, **kwargs)

    for replaced, expected in ((counted, [0, 0, 1, 1]), (cut, [0, 0, 1, 0])):
        monkeypatch.setattr(type(model), "forward", replaced)
        watched_entropies(model, {"input_ids": packed_batch()["input_ids"]})
        assert asked == expected
        asked.clear()


def test_a_substitute_attends_as_the_function_that_it_replaces(tolerance):
    """Flash attention distinguishes packed documents with a cache too, and its substitute only without."""
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    def documents_apart(module, query, key, value, mask, position_ids=None, **settings):
        document = (position_ids == 0).cumsum(-1)
        seen = (document[:, :, None] == document[:, None]) & torch.ones(12, 12).bool().tril()
        return sdpa_attention_forward(module, query, key, value, seen[:, None], **settings)

    AttentionInterface.register("apart", documents_apart)
    try:
        model, batch = small_model("llama", "AutoModelForCausalLM", use_cache=False), packed_batch()
        expected = entropies_in_training(model, batch)
        model.set_attn_implementation("apart")
        for use_cache in (True, False):
            model.config.use_cache = use_cache
            assert (watched_entropies(model, batch) - expected).abs().max() <= tolerance("attention.entropy")
        with pytest.raises(BadInput, match="computes something else while its attention is observed"):
            watched_entropies(model, {**batch, "attention_mask": torch.ones(1, 12).long()})
    finally:
        del AttentionInterface._global_mapping["apart"]


def watched_with_alarm(learning_rate, alarm, out=None, **settings):
    """Train a small network to copy its tokens, which large learning rates break."""
    model, batch = plain_model(), small_batch(KIND)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
    with Watch(model, batch["input_ids"], every=1, alarm=alarm, out=out, **settings) as probe:
        for _ in range(12):
            copying_loss(model, batch).backward()
            optimizer.step()
            optimizer.zero_grad()
            probe.step()
    return probe


def test_a_broken_run_raises_alarms_as_the_probes_say_afterwards():
    received = []
    with pytest.warns(RuntimeWarning, match=r"joma: step \d+, layers? .*; (lower|normalise)"):
        probe = watched_with_alarm(3.0, received.append)
    assert {"collapse", "logits"} <= {alarm.rule for alarm in received}
    alarms = Alarms()
    assert received == [alarm for step, rows in probe.probes.items() for alarm in alarms.after(step, rows)]


def test_a_sound_run_raises_no_alarm(recwarn):
    received = []
    watched_with_alarm(1e-3, received.append)
    assert not received
    assert not [one for one in recwarn if "joma" in str(one.message)]


def test_an_alarm_may_stop_training_after_its_probe_is_kept(tmp_path):
    def stop(alarm):
        raise StopIteration(alarm.step)

    with pytest.warns(RuntimeWarning, match="joma: step"), pytest.raises(StopIteration) as stopped:
        watched_with_alarm(3.0, stop, tmp_path)
    (last,) = stopped.value.args
    assert read_journal(tmp_path / "metrics.jsonl").last_step == last


def test_without_alarm_a_broken_run_gives_no_warning(recwarn):
    watched_with_alarm(3.0, False)
    assert not [one for one in recwarn if "joma: step" in str(one.message)]


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"alarm": "collapse"}, "`alarm` is 'collapse'.*pass alarm=True"),
        ({"alarm": True, "measures": "attention_entropy_nats"}, "attention_max_logit, for alarms.*add it to measures"),
        ({"every": "logs"}, "`every` is 'logs'"),
    ],
)
def test_settings_of_alarms_and_steps_are_checked(settings, problem):
    with pytest.raises(InvalidArgument, match=problem):
        Watch(plain_model(), small_batch(KIND)["input_ids"], **settings)


def test_log_spaced_probes_continue_at_the_same_steps(tmp_path):
    batch = small_batch(KIND)["input_ids"]
    for start, end in ((0, 21), (21, 40)):
        with Watch(
            plain_model(), batch, every="log", measures="attention_entropy_nats", out=tmp_path, start=start
        ) as p:
            for _ in range(start, end):
                p.step()
    assert list(p.probes) == [*range(9), 10, 11, 13, 16, 19, 21, 23, 27, 32, 38, 40]

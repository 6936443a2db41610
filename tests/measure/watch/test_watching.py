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
from joma.measure.models.projections import HEAD_ROLES
from joma.measure.spectra.spectrum import stable_rank
from joma.measure.watch.probing import attention_rows, undisturbed, weight_rows
from joma.measure.watch.watching import Watch
from joma.train.decoder import Decoder, DecoderConfig

KIND = "gpt2"


def language_model(**settings):
    """A model that drops out, so that random numbers which a probe took would show in its losses."""
    return small_model(KIND, "AutoModelForCausalLM", **settings).train()


class Plain(nn.Sequential):
    """What a person wrote, so that compiling in place finds something outside torch."""

    def forward(self, tokens):
        return super().forward(tokens)


def plain_model():
    """A model of torch's own parts, which a fresh process has sooner than one of transformers."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.2)
    return Plain(nn.Embedding(99, 16), nn.TransformerEncoder(layer, 2), nn.Linear(16, 99))


def language_loss(model, batch):
    return model(**batch, labels=batch["input_ids"]).loss


def copying_loss(model, batch):
    return nn.functional.cross_entropy(model(batch["input_ids"]).flatten(0, 1), batch["input_ids"].flatten())


def train(model, num_steps=6, *, probe=None, accumulate=1, dtype=None, loss_of=language_loss):
    """Losses of each batch and the weights at the end, as bits that must not change."""
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
def test_training_computes_the_same_bits_watched_or_not(prepare, settings):
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
def test_compiled_models_train_the_same_bits_and_are_not_compiled_again(compiling):
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


def test_a_probe_says_what_attention_and_weights_are():
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


def test_one_measure_may_be_named_alone():
    with joma.watch(language_model(), small_batch(KIND), measures="stable_rank") as probe:
        assert set(probe.measure()) == {"joma/stable_rank/mlp_lower/layer_00", "joma/stable_rank/mlp_lower/layer_01"}


def test_a_model_whose_configuration_names_no_longest_text_reads_any():
    model = small_model(KIND)
    model.config.max_position_embeddings = -1  # as XLNet's
    assert joma.watch(model, small_batch(KIND)).measure()


def test_torchs_layers_and_our_decoder_are_watched_with_their_weights():
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2)
    decoder = Decoder(DecoderConfig(20, width=8, num_heads=2, feed_forward=6, num_layers=2))
    for model, batch in ((encoder, torch.randn(2, 5, 16)), (decoder, torch.randint(20, (3, 9)))):
        with joma.watch(model, batch) as probe:
            names = probe.measure()
        assert {"joma/attention_entropy/layer_01/head_01", "joma/stable_rank/mlp_lower/layer_01"} <= set(names)
    lower = [stable_rank(weight).item() for weight in decoder.lower_weights()]
    assert [names["joma/stable_rank/mlp_lower/layer_00"], names["joma/stable_rank/mlp_lower/layer_01"]] == lower


def test_modes_of_modules_and_random_numbers_come_back():
    model = language_model()
    model.transformer.h[0].eval()
    modes = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    with pytest.raises(InvalidArgument), undisturbed(model):
        stable_rank(torch.rand(int(not any(module.training for module in model.modules()))))
    attention_rows(model, small_batch(KIND))
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert model.config._attn_implementation == "sdpa"


def test_values_are_on_disk_as_they_are_taken_and_a_table_at_the_end(tmp_path):
    model = language_model()
    told = []
    with joma.watch(
        model, small_batch(KIND), every=2, out=tmp_path / "w", tracker=lambda *what: told.append(what)
    ) as probe:
        train(model, 3, probe=probe)
        on_disk = read_journal(tmp_path / "w" / "metrics.jsonl")
        assert [step for step, _ in on_disk.probes] == [0, 2]
    table = pyarrow.parquet.read_table(tmp_path / "w" / "metrics.parquet").to_pylist()
    assert sorted({row["step"] for row in table}) == [0, 2, 3]
    assert table == [dict(zip(table[0], row[:-1], strict=True)) for row in probe.measurements()]
    assert [step for _, step in told] == [0, 2, 3]
    assert told[1][0]["joma/stable_rank/mlp_lower/layer_00"] in [row["value"] for row in table if row["step"] == 2]


def test_a_killed_process_leaves_what_it_had_measured(tmp_path):
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


def test_training_that_failed_leaves_a_table_and_no_probe_of_the_failed_step(tmp_path):
    with pytest.raises(ZeroDivisionError), joma.watch(language_model(), small_batch(KIND), out=tmp_path) as probe:
        probe.step(1 // 0 if probe.step() is None else 2)
    assert {row["step"] for row in pyarrow.parquet.read_table(tmp_path / "metrics.parquet").to_pylist()} == {0}


def test_going_on_measures_anew_from_there(tmp_path):
    def go(start, num_steps):
        with joma.watch(language_model(), small_batch(KIND), every=2, out=tmp_path, start=start) as probe:
            for _ in range(num_steps):
                probe.step()
        return [step for step, _ in read_journal(tmp_path / "metrics.jsonl").probes]

    assert go(0, 5) == [0, 2, 4, 5]
    assert go(3, 3) == [0, 2, 3, 4, 6]
    with pytest.raises(BadInput, match="holds measurements of steps 0 to 6 already"):
        go(0, 1)


def test_steps_that_go_back_are_refused_and_what_was_measured_stays(tmp_path):
    with joma.watch(language_model(), small_batch(KIND), every=5, out=tmp_path) as probe:
        probe.step(6)
        with pytest.raises(
            InvalidArgument, match=r"`number` is 3; expected 6 or more.* begin a new watch with start=3"
        ):
            probe.step(3)
        with pytest.raises(InvalidArgument, match=r"`number` is 6\.5"):
            probe.step(6.5)
        probe.step(11)
    journal = read_journal(tmp_path / "metrics.jsonl")
    assert ([step for step, _ in journal.probes], journal.damage) == ([0, 6, 11], "")


def test_steps_may_jump_over_the_time_of_a_probe():
    with joma.watch(language_model(), small_batch(KIND), every=10) as probe:
        for number in (4, 4, 8, 13, 13, 19, 41):
            probe.step(number)
    assert steps_of(probe) == [0, 13, 41]


def test_a_layer_that_is_not_finite_is_named_and_the_others_are_measured():
    model = language_model()
    with torch.no_grad():
        model.transformer.h[1].attn.c_attn.weight[0, 0] = math.nan
    with pytest.warns(
        RuntimeWarning, match=r"layer 1 \(transformer.h.1.attn\) has queries or keys that are not finite"
    ):
        rows = attention_rows(model, small_batch(KIND))
    assert {layer for layer, *_ in rows} == {0}
    assert all(math.isfinite(row.value) for row in rows)
    with torch.no_grad():
        model.transformer.h[0].mlp.c_fc.weight.zero_()
    with pytest.warns(RuntimeWarning, match="mlp_lower projection of layer 0 .* has no stable_rank"):
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
            r"`probe_batch` is on meta \(input_ids\); expected on cpu.*move it: .to\('cpu'\)",
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


def test_weights_of_an_unknown_family_are_left_out_unless_asked_for():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(8, 24)

        def forward(self, x):
            q, k, v = self.inner(x)[:, None].chunk(3, dim=-1)
            return nn.functional.scaled_dot_product_attention(q, k, v)

    with joma.watch(Own(), torch.randn(2, 5, 8)) as probe:
        assert not any("rank" in name for name in probe.measure())
    with pytest.raises(BadInput, match="does not say of which kind"):
        joma.watch(Own(), torch.randn(2, 5, 8), measures=["stable_rank"])


def test_experts_are_left_out_unless_asked_for():
    import transformers

    sizes = {"vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = transformers.MixtralConfig(**sizes, num_key_value_heads=2, intermediate_size=64, num_local_experts=2)
    model, batch = transformers.MixtralModel(config), {"input_ids": torch.ones(1, 4, dtype=torch.long)}
    with joma.watch(model, batch) as probe:
        assert not any("rank" in name for name in probe.measure())
    with joma.watch(model, batch, measures="stable_rank", projections=HEAD_ROLES) as probe:
        assert len(probe.measure()) == 4 + 2 + 2 + 4 + 4
    with pytest.raises(BadInput, match=r"MixtralModel has no projection mlp_lower .* leave mlp_lower out"):
        joma.watch(model, batch, measures=["stable_rank"])


@pytest.mark.parametrize(
    ("model", "batch", "message"),
    [
        (lambda: nn.Linear(4, 4), torch.randn(2, 4), "no attention was seen in Linear"),
        (lambda: bloom(), {"input_ids": torch.ones(1, 4, dtype=torch.long)}, "attends by code of its own"),
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
def test_what_cannot_be_measured_is_refused_before_the_first_step(model, batch, message):
    with pytest.raises(BadInput, match=message), joma.watch(model(), batch):
        pytest.fail("training must not begin")


def test_a_model_that_loses_its_masks_when_seen_is_refused(monkeypatch):
    """One that asks by name whether it has to hide padding, as no model of transformers does any more."""
    model = small_model(KIND)
    attend = type(model).forward

    def forward(self, *args, attention_mask=None, **kwargs):
        mask = attention_mask if self.config._attn_implementation == "sdpa" else None
        return attend(self, *args, attention_mask=mask, **kwargs)

    monkeypatch.setattr(type(model), "forward", forward)
    with pytest.raises(BadInput, match="computes something else"), joma.watch(model, small_batch(KIND, padded=True)):
        pytest.fail("training must not begin")
    with joma.watch(model, small_batch(KIND)) as probe:
        assert probe.measure()


def bloom():
    import transformers

    return transformers.AutoModel.from_config(
        transformers.AutoConfig.for_model("bloom", vocab_size=99, hidden_size=32, n_layer=1, n_head=2)
    )


def test_a_file_that_cannot_be_written_says_what_is_kept(tmp_path):
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
    match = r"`out` is .*, where nothing can be written \((Not|Is) a directory\); .* name another place"
    with pytest.raises(InvalidArgument, match=match), joma.watch(language_model(), small_batch(KIND), out=folder):
        pytest.fail("training must not begin")


def test_before_its_block_a_watch_with_a_folder_measures_nothing(tmp_path):
    probe = joma.watch(language_model(), small_batch(KIND), out=tmp_path)
    with pytest.raises(InvalidArgument, match=r"`out` is .*, which is open inside the block alone"):
        probe.measure()
    with probe:
        assert probe.measure()


def in_two_processes(rank, folder, port):
    """What each process of a data-parallel training does; module level, to be found by a spawned process."""
    torch.set_num_threads(1)
    meeting = torch.distributed.TCPStore("127.0.0.1", port)
    torch.distributed.init_process_group("gloo", store=meeting, rank=rank, world_size=2)
    train_in_parallel(rank, folder)  # its models end before the group: one that outlives it may never let torch end
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


def test_with_two_processes_the_first_one_measures_and_nobody_waits(tmp_path):
    # not a file: of two processes that leave it at once, one may wait five minutes for what the other removed
    meeting = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    torch.multiprocessing.spawn(in_two_processes, (str(tmp_path), meeting.port), nprocs=2)
    lines = (tmp_path / "watched" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 2, 3]


@pytest.fixture
def mesh(tmp_path):
    """This process alone, as a mesh of processes."""
    from torch.distributed.device_mesh import init_device_mesh

    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


def in_tensor_parallel(model, mesh):
    from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module

    return parallelize_module(model, mesh, {"layers.0.linear1": ColwiseParallel()})


def fully_sharded(model, mesh):
    from torch.distributed.fsdp import fully_shard

    return fully_shard(model, mesh=mesh)


def by_deepspeed(model, _):
    """Mark a parameter as ZeRO-3 marks those that it takes apart."""
    model.layers[0].linear1.weight.ds_id = 0
    return model


@pytest.mark.parametrize("spread", [in_tensor_parallel, fully_sharded, by_deepspeed])
def test_parameters_spread_over_processes_are_refused(spread, mesh):
    model = spread(nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1), mesh)
    with pytest.raises(BadInput, match="spread over processes"):
        joma.watch(model, torch.randn(1, 3, 8))


def test_a_watch_is_made_by_watch_alone():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert isinstance(joma.watch(language_model(), small_batch(KIND)), Watch)


def test_a_model_that_attends_by_another_kernel_is_probed_by_one_in_view():
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register("somebodys_kernel", sdpa_attention_forward)
    AttentionMaskInterface.register("somebodys_kernel", sdpa_mask)
    model, batch = small_model("llama"), small_batch("llama", padded=True)
    expected = attention_rows(model, batch)
    model.set_attn_implementation("somebodys_kernel")
    with joma.watch(model, batch, measures=["attention"]) as probe:
        assert [measurement.value for measurement in probe.measurements()] == [row.value for row in expected]
    assert model.config._attn_implementation == "somebodys_kernel"

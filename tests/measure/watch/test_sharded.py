"""Models sharded over two processes are measured as whole ones, and train as without a watch."""

import json

import pytest
import torch
from small_models import CONFIGS, small_batch

import joma
from joma.errors import BadInput

ROLES = ("query", "output", "mlp_lower", "mlp_gate", "mlp_upper")
MEASURES = ["attention", "weights", "activations"]
BATCH = small_batch("llama", padded=True)


def plain_model(kind="llama"):
    import transformers

    torch.manual_seed(0)
    settings = {**CONFIGS["llama"], "initializer_range": 0.3, **({"num_local_experts": 4} if kind == "mixtral" else {})}
    return transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(kind, **settings))


def fully_sharded(model, mesh):
    from torch.distributed.fsdp import fully_shard

    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def in_tensor_parallel(model, mesh):
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    split = dict.fromkeys(("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), ColwiseParallel)
    split |= {"mlp.up_proj": ColwiseParallel, "mlp.gate_proj": ColwiseParallel}
    split |= {"self_attn.o_proj": RowwiseParallel, "mlp.down_proj": RowwiseParallel}
    for layer in model.model.layers:
        parallelize_module(layer, mesh, {name: style() for name, style in split.items()})
    return model


def train(model, probe=None, num_steps=3):
    """Train, and return the losses and this process's part of the weights."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, foreach=False)
    losses = []
    for step in range(num_steps):
        tokens = torch.randint(3, 99, (2, 8), generator=torch.Generator().manual_seed(step))
        loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if probe is not None:
            probe.step()
    return losses, [part.detach().to_local() for part in model.parameters() if hasattr(part, "to_local")]


def values_of(rows):
    return {row[:4] + row[5:]: row.value for row in rows}


def compare(name, spread, mesh, folder, kind="llama"):
    """Watch a whole model and a sharded one, and train the latter with and without the watch."""
    with joma.watch(plain_model(kind), BATCH, measures=MEASURES, projections=ROLES) as whole:
        pass
    losses, weights = train(spread(plain_model(kind), mesh))
    model = spread(plain_model(kind), mesh)
    probe = joma.watch(model, BATCH, every=2, measures=MEASURES, projections=ROLES, out=folder / name)
    with probe:
        watched, watched_weights = train(model, probe)
    assert list(probe.probes) == [0, 2, 3]
    assert watched == losses
    assert all(torch.equal(a, b) for a, b in zip(weights, watched_weights, strict=True))
    if torch.distributed.get_rank() == 0:
        expected, found = values_of(whole.probes[0]), values_of(probe.probes[0])
        assert found.keys() == expected.keys()
        for place, value in found.items():  # the sum of Gram matrices is exact, and kernels round
            within = {"rel": 1e-9} if place[2] else {"rel": 2e-5, "abs": 2e-6}
            assert value == pytest.approx(expected[place], **within), place
    return model


def notice_other_weights(model):
    """Change weights in the second process alone: neither measures, or the first would wait for the second."""
    with pytest.raises(BadInput, match=r"sharded, so that a backward pass would add.* leave gradient_stable_rank out"):
        joma.watch(model, BATCH, measures="gradients").__enter__()
    watch = joma.watch(model, BATCH, measures=MEASURES)
    watch.__enter__()
    watch.step()
    if torch.distributed.get_rank() == 1:
        model.model.norm.weight.data.to_local().mul_(2)
    with pytest.raises(BadInput, match="other weights now than step 1"):
        watch.measure()


def in_two_processes(rank, folder, port):
    """Run one process; at module level, so that a spawned process can import it."""
    from pathlib import Path

    from torch.distributed.device_mesh import init_device_mesh

    torch.set_num_threads(1)
    meeting = torch.distributed.TCPStore("127.0.0.1", port)
    torch.distributed.init_process_group("gloo", store=meeting, rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    notice_other_weights(compare("fsdp", fully_sharded, mesh, Path(folder)))
    compare("experts", fully_sharded, mesh, Path(folder), "mixtral")
    compare("tensors", in_tensor_parallel, mesh, Path(folder))
    torch.distributed.barrier()  # gloo aborts a process whose peer is gone already
    torch.distributed.destroy_process_group()


def test_two_processes_measure_a_sharded_model_as_a_whole_one_and_train_it_alike(tmp_path):
    meeting = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    torch.multiprocessing.spawn(in_two_processes, (str(tmp_path), meeting.port), nprocs=2)
    for name in ("fsdp", "experts", "tensors"):
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == [0, 2, 3]

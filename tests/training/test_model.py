"""What is planted in the trained model stays, and is hidden from attention; what a head pays is the textbook's norm."""

import pytest
import torch
from training.model import MARK, MARKED, MASSIVE, Price, Shape, build, plant

SHAPE = Shape(blocks=4, width=32, heads=2, depth=16, hidden=24, context=64)
BEGIN, VALUE, WRITER, ERASER = 0, 500.0, 1, 2
TOKENS = torch.tensor([[BEGIN, 5, 6, 7, 8, 6], [BEGIN, 9, 9, 4, 3, 2]])


@pytest.fixture
def model():
    made = build(SHAPE, vocabulary=16, begin=BEGIN, seed=0)
    plant(made, begin=BEGIN, value=VALUE, writer=WRITER, eraser=ERASER)
    return made


def norms(model):
    """Of the first token's row, by state; the last state is before the final norm."""
    rows = list[torch.Tensor]()
    hooks = [
        layer.register_forward_hook(lambda _module, _inputs, output: rows.append(output[:, 0]))
        for layer in model.model.layers
    ]
    with torch.no_grad():
        model(input_ids=TOKENS)
    for hook in hooks:
        hook.remove()
    return [MARK, *(float(row.norm(dim=-1).mean()) for row in rows)]


def test_the_first_row_is_massive_from_the_writer_to_the_eraser(model):
    found = norms(model)
    assert found[WRITER + 1 : ERASER + 1] == pytest.approx([VALUE], rel=0.01)
    assert max(found[: WRITER + 1]) < 2 * MARK
    assert max(found[ERASER + 1 :]) < 0.1 * VALUE


def test_no_attention_sees_the_mark_and_only_the_writer_s_mlp_does(model):
    first = model.get_input_embeddings().weight[BEGIN]
    for block, layer in enumerate(model.model.layers):
        assert not layer.input_layernorm(first).any()
        assert bool(layer.post_attention_layernorm(first).any()) == (block == WRITER)


def test_training_leaves_what_is_planted_as_it_is(model):
    price, before = Price(model), {name: one.clone() for name, one in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.0)
    for _ in range(3):
        loss = model(input_ids=TOKENS, labels=TOKENS).loss + 0.01 * price.take()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    after = model.state_dict()
    reserved = [MARKED, *MASSIVE]
    table = "model.embed_tokens.weight"
    assert torch.equal(after[table][:, reserved], before[table][:, reserved])
    assert torch.equal(after[table][BEGIN], before[table][BEGIN])
    assert not torch.equal(after[table][5], before[table][5])
    for block in range(SHAPE.blocks):
        for name in ("self_attn.o_proj.weight", "self_attn.o_proj.bias", "mlp.down_proj.weight"):
            place = f"model.layers.{block}.{name}"
            assert torch.equal(after[place][reserved], before[place][reserved])
            assert not torch.equal(after[place], before[place])
    assert norms(model)[WRITER + 1] == pytest.approx(VALUE, rel=0.2)


def test_a_head_pays_the_norm_of_what_it_writes_over_the_norm_of_the_row(model):
    heads, rows = list[torch.Tensor](), list[torch.Tensor]()
    for layer in model.model.layers:
        layer.register_forward_pre_hook(lambda _module, inputs: rows.append(inputs[0]))
        layer.self_attn.o_proj.register_forward_pre_hook(lambda _module, inputs: heads.append(inputs[0]))
    price = Price(model)
    model(input_ids=TOKENS)
    wanted = 0.0
    for layer, held, row in zip(model.model.layers, heads, rows, strict=True):
        for head in range(SHAPE.heads):
            part = slice(head * SHAPE.depth, (head + 1) * SHAPE.depth)
            written = held[..., part] @ layer.self_attn.o_proj.weight[:, part].T
            ratio = written.norm(dim=-1) / row.norm(dim=-1)
            wanted += (ratio**2 + 1e-6).sqrt().mean().item()
    assert price.take().item() == pytest.approx(wanted, rel=1e-4)


def test_nothing_is_paid_outside_training(model):
    price = Price(model)
    model.eval()
    model(input_ids=TOKENS)
    model.train()
    with torch.no_grad():
        model(input_ids=TOKENS)
    assert not price.paid

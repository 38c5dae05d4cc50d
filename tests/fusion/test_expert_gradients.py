"""Gradients in place: the values of plain autograd in every situation, and memory that is truly used again."""

import threading
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from remind.fusion.expert_gradients import _Memory, gradients_in_place, perceptrons
from remind.fusion.experts import Experts

NAMES = ("w1_EDH", "b1_EH", "w2_EHD", "b2_ED")


def make_experts(experts=3, width=4, hidden=6, dtype=torch.float64, seed=0):
    torch.manual_seed(seed)
    made = Experts(experts, width, hidden).to(dtype)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_()
    return made


def make_slots(experts=3, width=4, batch=5, slots=2, dtype=torch.float64, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, experts, slots, width, dtype=dtype, generator=generator)


def backward(experts, slots_BESD):
    (experts(slots_BESD).sin() * 3).sum().backward()


def plain_gradients(experts, slots_BESD):
    """Outside the context, on a copy."""
    copy = Experts(*experts.w1_EDH.shape).to(experts.w1_EDH.dtype)
    copy.load_state_dict(experts.state_dict())
    backward(copy, slots_BESD)
    return {name: parameter.grad for name, parameter in copy.named_parameters()}


def weight_memory(experts):
    return {experts.w1_EDH.grad.data_ptr(), experts.w2_EHD.grad.data_ptr()}


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(0, 4),
    slots=st.integers(1, 3),
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 20)),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_values_and_gradients_are_those_of_a_loop_over_experts(batch, slots, sizes, dtype):
    experts = make_experts(sizes[0], sizes[1], sizes[2], dtype=dtype)
    slots_BESD = make_slots(sizes[0], sizes[1], batch, slots, dtype).requires_grad_()
    with gradients_in_place():
        out_BESD = experts(slots_BESD)
        out_BESD.sin().sum().backward()
    found = [parameter.grad.clone() for parameter in experts.parameters()]
    rows = slots_BESD.detach().clone().requires_grad_()
    experts.zero_grad()
    looped = []
    for e in range(sizes[0]):
        hidden = functional.gelu(functional.linear(rows[:, e], experts.w1_EDH[e].T, experts.b1_EH[e]))
        looped.append(functional.linear(hidden, experts.w2_EHD[e].T, experts.b2_ED[e]))
    expected_BESD = torch.stack(looped, dim=1)
    expected_BESD.sin().sum().backward()
    near: dict[str, Any] = {"rtol": 0, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(out_BESD, expected_BESD, **near)
    torch.testing.assert_close(slots_BESD.grad, rows.grad, **near)
    for gradient, parameter in zip(found, experts.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, **near)


def test_gradcheck():
    experts = make_experts(2, 3, 4)
    slots_BESD = make_slots(2, 3, 2, 2).requires_grad_()
    with gradients_in_place():
        assert torch.autograd.gradcheck(
            lambda rows, *weights: perceptrons(rows.transpose(0, 1).flatten(1, 2), *weights),
            (slots_BESD, *experts.parameters()),
        )


def test_steps_use_the_same_memory_again():
    experts = make_experts()
    seen = []
    with gradients_in_place():
        for step in range(4):
            experts.zero_grad(set_to_none=True)
            slots_BESD = make_slots(seed=step)
            backward(experts, slots_BESD)
            for name, expected in plain_gradients(experts, slots_BESD).items():
                assert torch.equal(experts.get_parameter(name).grad, expected)
            seen.append(weight_memory(experts))
    assert len(seen[0]) == 2
    assert all(later == seen[0] for later in seen)


def test_what_lay_in_the_memory_before_does_not_matter():
    experts = make_experts()
    with gradients_in_place():
        backward(experts, torch.full_like(make_slots(), float("nan")))
        spoilt = weight_memory(experts)
        assert experts.w1_EDH.grad.isnan().all()
        experts.zero_grad(set_to_none=True)
        backward(experts, make_slots())
    assert weight_memory(experts) == spoilt
    for name, expected in plain_gradients(experts, make_slots()).items():
        assert torch.equal(experts.get_parameter(name).grad, expected)


def test_tensors_of_like_size_take_turns_in_the_same_memory():
    """Else every size of a batch would keep memory of its own."""
    memory, seen = _Memory(), set()
    for size in range(33, 65):
        tensor = memory.empty((size, 4), torch.float32)
        assert tensor.shape == (size, 4)
        assert tensor.data_ptr() % 64 == 0
        seen.add(tensor.data_ptr())
    first, second = memory.empty((40, 4), torch.float32), memory.empty((41, 4), torch.float32)
    assert first.data_ptr() != second.data_ptr()
    assert len(seen) == 2  # the loop's tensor is held until the next one is made


@pytest.mark.parametrize("hold", [lambda g: g, lambda g: g.view(-1)[1:], lambda g: g.detach(), lambda g: g.numpy()])
def test_a_gradient_that_somebody_keeps_is_left_alone(hold):
    experts = make_experts()
    with gradients_in_place():
        backward(experts, make_slots(seed=1))
        kept = hold(experts.w1_EDH.grad)
        values = torch.as_tensor(kept).clone()
        for step in range(3):
            experts.zero_grad(set_to_none=True)
            backward(experts, make_slots(seed=2 + step))
    assert torch.equal(torch.as_tensor(kept), values)


@pytest.mark.parametrize("zeroed", [False, True])
def test_backward_passes_add_up(zeroed):
    experts = make_experts()
    with gradients_in_place():
        if zeroed:
            backward(experts, make_slots(seed=9))
            experts.zero_grad(set_to_none=False)
        for seed in (1, 2, 3):
            backward(experts, make_slots(seed=seed))
    total = [plain_gradients(experts, make_slots(seed=seed)) for seed in (1, 2, 3)]
    for name in NAMES:
        expected = sum(gradients[name] for gradients in total)
        torch.testing.assert_close(experts.get_parameter(name).grad, expected, rtol=0, atol=1e-12)


def test_experts_used_twice_in_one_pass():
    experts = make_experts()
    slots_BESD = make_slots()
    experts(experts(slots_BESD)).sum().backward()
    expected = {name: parameter.grad for name, parameter in experts.named_parameters()}
    experts.zero_grad(set_to_none=True)
    with gradients_in_place():
        experts(experts(slots_BESD)).sum().backward()
    for name in NAMES:
        torch.testing.assert_close(experts.get_parameter(name).grad, expected[name], rtol=0, atol=1e-12)


@pytest.mark.parametrize("frozen", [*((name,) for name in NAMES), ("w1_EDH", "b1_EH"), ("w2_EHD", "b2_ED"), NAMES])
@pytest.mark.parametrize("from_input", [True, False])
def test_frozen_parameters_get_no_gradient_and_change_no_other(frozen, from_input):
    experts = make_experts()
    slots_BESD = make_slots().requires_grad_(from_input)
    expected = plain_gradients(experts, slots_BESD)
    expected_input, slots_BESD.grad = slots_BESD.grad, None
    for name in frozen:
        experts.get_parameter(name).requires_grad_(False)
    if set(frozen) == set(NAMES) and not from_input:
        with gradients_in_place():
            assert not experts(slots_BESD).requires_grad
        return
    with gradients_in_place():
        backward(experts, slots_BESD)
    for name in NAMES:
        gradient = experts.get_parameter(name).grad
        assert gradient is None if name in frozen else torch.equal(gradient, expected[name])
    assert torch.equal(slots_BESD.grad, expected_input) if from_input else slots_BESD.grad is None


@pytest.mark.parametrize(("frozen", "products"), [((), 4), (("w1_EDH",), 3), (("w1_EDH", "w2_EHD"), 2), (NAMES, 2)])
def test_frozen_weights_cost_no_products(frozen, products):
    experts = make_experts()
    for name in frozen:
        experts.get_parameter(name).requires_grad_(False)
    with gradients_in_place():
        loss = experts(make_slots().requires_grad_()).sum()
        with FlopCounterMode(display=False) as counter:
            loss.backward()
    one = 2 * 5 * 2 * experts.w1_EDH.numel()
    assert counter.get_total_flops() == products * one


def test_hooks_are_called():
    experts = make_experts()
    after = []
    experts.w1_EDH.register_hook(lambda gradient: 2 * gradient)
    experts.w2_EHD.register_post_accumulate_grad_hook(lambda parameter: after.append(parameter.grad.clone()))
    with gradients_in_place():
        backward(experts, make_slots())
    expected = plain_gradients(experts, make_slots())
    assert torch.equal(experts.w1_EDH.grad, 2 * expected["w1_EDH"])
    assert len(after) == 1
    assert torch.equal(after[0], expected["w2_EHD"])


def test_autograd_grad_leaves_grad_alone_and_results_do_not_share_memory():
    experts = make_experts()
    with gradients_in_place():
        first, second = (
            torch.autograd.grad(experts(make_slots(seed=seed)).sin().mul(3).sum(), experts.w1_EDH)[0] for seed in (1, 2)
        )
    assert experts.w1_EDH.grad is None
    assert torch.equal(first, plain_gradients(experts, make_slots(seed=1))["w1_EDH"])
    assert torch.equal(second, plain_gradients(experts, make_slots(seed=2))["w1_EDH"])


def test_graph_may_outlive_the_context_or_begin_before_it():
    experts = make_experts()
    expected = plain_gradients(experts, make_slots())
    before = (experts(make_slots()).sin() * 3).sum()
    with gradients_in_place():
        before.backward()
        inside = (experts(make_slots()).sin() * 3).sum()
    inside.backward()
    for name in NAMES:
        torch.testing.assert_close(experts.get_parameter(name).grad, 2 * expected[name], rtol=0, atol=1e-12)


def second_derivative(experts):
    slots_BESD = make_slots().requires_grad_()
    (first,) = torch.autograd.grad(experts(slots_BESD).sin().sum(), slots_BESD, create_graph=True)
    first.square().sum().backward()
    return slots_BESD.grad


def test_double_backward_is_refused_inside_and_works_again_after_an_exception():
    experts = make_experts()
    expected = second_derivative(experts)
    with gradients_in_place(), pytest.raises(RuntimeError, match="once_differentiable"):
        second_derivative(experts)
    with pytest.raises(ZeroDivisionError), gradients_in_place():
        raise ZeroDivisionError
    torch.testing.assert_close(second_derivative(experts), expected)


def test_nested_contexts_are_one():
    experts = make_experts()
    with gradients_in_place():
        backward(experts, make_slots())
        memory = weight_memory(experts)
        experts.zero_grad(set_to_none=True)
        with gradients_in_place():
            backward(experts, make_slots())
        assert weight_memory(experts) == memory
        experts.zero_grad(set_to_none=True)
        backward(experts, make_slots())
        assert weight_memory(experts) == memory


def test_other_threads_are_outside():
    experts, found = make_experts(), []
    with gradients_in_place():
        thread = threading.Thread(target=lambda: found.append(second_derivative(experts)))
        thread.start()
        thread.join()
    assert torch.equal(found[0], second_derivative(experts))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_autocast_rounds_as_plain_autograd_does(dtype):
    experts = make_experts(2, 32, 64, dtype)
    slots_BESD = make_slots(2, 32, 8, 1, dtype)

    def step():
        with torch.autocast("cpu", torch.bfloat16):
            out_BESD = experts(slots_BESD)
        out_BESD.float().square().sum().backward()
        found = {name: parameter.grad for name, parameter in experts.named_parameters()}
        experts.zero_grad(set_to_none=True)
        return out_BESD.detach(), found

    expected_BESD, expected = step()
    with gradients_in_place():
        for _ in range(2):
            out_BESD, found = step()
            assert torch.equal(out_BESD, expected_BESD)
            assert out_BESD.dtype == (torch.bfloat16 if dtype == torch.float32 else dtype)
            for name, gradient in found.items():
                assert gradient.dtype == dtype
                assert torch.equal(gradient, expected[name])
            # Storage lent by another object, as gradients in place have, cannot be resized.
            assert not any(found[name].untyped_storage().resizable() for name in ("w1_EDH", "w2_EHD"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_of_low_precision(dtype):
    experts = make_experts(2, 32, 64, dtype)
    slots_BESD = make_slots(2, 32, 8, 1, dtype)
    expected = plain_gradients(experts, slots_BESD)
    with gradients_in_place():
        backward(experts, slots_BESD)
    for name in NAMES:
        assert torch.equal(experts.get_parameter(name).grad, expected[name])


def test_parameters_moved_and_replaced_inside():
    experts = make_experts(dtype=torch.float32)
    with gradients_in_place():
        backward(experts, make_slots(dtype=torch.float32))
        experts.zero_grad(set_to_none=True)
        experts.to(torch.float64)
        experts.w1_EDH = nn.Parameter(experts.w1_EDH.detach() * 2)
        backward(experts, make_slots())
    for name, expected in plain_gradients(experts, make_slots()).items():
        assert torch.equal(experts.get_parameter(name).grad, expected)


def test_optimiser_steps_are_those_of_plain_autograd():
    def train(experts):
        optimizer = torch.optim.AdamW(experts.parameters(), lr=0.01)
        for step in range(5):
            optimizer.zero_grad(set_to_none=True)
            backward(experts, make_slots(seed=step))
            optimizer.step()
        return experts.state_dict()

    expected = train(make_experts())
    with gradients_in_place():
        found = train(make_experts())
    assert all(torch.equal(found[name], expected[name]) for name in NAMES)

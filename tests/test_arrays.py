"""Reading arguments as torch tensors: digits are kept, values that are not real numbers are refused."""

from typing import NamedTuple

import numpy as np
import pytest
import torch

from joma.arrays import as_real, as_real_in, check_broadcast, numpy_in_numpy_out, on_one_device
from joma.domains import POSITIVE
from joma.errors import InvalidArgument


@pytest.mark.parametrize(
    "value",
    [0.1, [0.1], (0.1,), [[0.1]], np.float64(0.1), np.array(0.1), torch.tensor(0.1, dtype=torch.float64)],
    ids=lambda value: type(value).__name__,
)
def test_doubles_keep_every_digit(value):
    assert as_real(value, "f", "x").dtype is torch.float64
    assert as_real(value, "f", "x").flatten().tolist() == [0.1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_lower_precision_is_raised_without_changing_the_number(dtype):
    value = torch.tensor([0.1, 3.0], dtype=dtype)
    assert as_real(value, "f", "x").tolist() == value.tolist()


def test_python_integers_are_accepted():
    assert as_real([1, 2], "f", "x").tolist() == [1.0, 2.0]
    assert as_real(3, "f", "x").item() == 3.0


def test_gradients_pass_through():
    leaf = torch.tensor([1.0, 2.0], dtype=torch.float32, requires_grad=True)
    as_real(leaf, "f", "x").square().sum().backward()
    assert leaf.grad.tolist() == [2.0, 4.0]


def test_a_double_is_not_copied():
    tensor = torch.zeros(3, dtype=torch.float64)
    assert as_real(tensor, "f", "x") is tensor


@pytest.mark.parametrize(
    ("value", "received"),
    [
        (torch.tensor([1, 2]), "a tensor of dtype int64"),
        (np.array([1, 2]), "a tensor of dtype int64"),
        (torch.tensor([True]), "a tensor of dtype bool"),
        (True, "a tensor of dtype bool"),
        (torch.tensor([1j]), "a tensor of dtype complex64"),
        ([1j], "a tensor of dtype complex128"),
        ("1.0", "of type str"),
        (["a"], "of type list"),
        (None, "of type NoneType"),
        ([[1.0], [1.0, 2.0]], "of type list"),
        ({"x": 1.0}, "of type dict"),
        (object(), "of type object"),
        (2**80, "of type int"),
        ([None, 1.0], "of type list"),
        (np.array(["a"]), "of type ndarray"),
        (np.array([1.0], dtype=np.longdouble), "of type ndarray"),
        (torch.ones(3).to_sparse(), "a sparse tensor"),
        (torch.ones(3, 3).to_sparse_csr(), "a sparse tensor"),
        (torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged), "a nested tensor"),
        (torch.ones(3, device="meta"), "a meta tensor"),
        (torch.ones((1,) * 70), "a tensor of 70 axes"),
        (np.ones((1,) * 40), "a tensor of 40 axes"),
    ],
)
def test_values_that_are_not_real_numbers_are_refused(value, received):
    with pytest.raises(InvalidArgument, match=f"f: `x` is {received}"):
        as_real(value, "f", "x")


@pytest.mark.parametrize("value", [np.arange(6.0)[::-2], np.arange(3.0).astype(">f8"), np.float16([1, 2]), np.ones(0)])
def test_arrays_of_any_strides_byte_order_and_precision_are_read(value):
    assert as_real(value, "f", "x").tolist() == value.tolist()


def test_a_list_that_contains_itself_is_refused():
    endless = [1.0]
    endless.append(endless)
    with pytest.raises(InvalidArgument, match="f: `x` is of type list"):
        as_real(endless, "f", "x")


def test_an_array_that_cannot_be_written_is_read_and_left_alone():
    array = np.ones(3)
    array.flags.writeable = False
    as_real(array, "f", "x").add_(1)
    assert array.tolist() == [1, 1, 1]


def test_shapes_that_do_not_broadcast_are_refused_by_the_first_that_does_not_fit():
    check_broadcast("f", a=torch.ones(3, 1), b=torch.ones(4), c=torch.ones(()))
    with pytest.raises(InvalidArgument, match=r"f: `b` is of shape \(4,\); expected of a shape that .* \(2, 3\)"):
        check_broadcast("f", a=torch.ones(2, 3), b=torch.ones(4), c=torch.ones(5))


def test_nan_is_refused_with_its_number():
    with pytest.raises(InvalidArgument, match="NaN in 2 of 3 entries"):
        as_real([np.nan, 1.0, np.nan], "f", "x")


def test_infinity_is_accepted_unless_the_domain_excludes_it():
    assert as_real([np.inf], "f", "x").tolist() == [np.inf]
    with pytest.raises(InvalidArgument, match="is inf; expected a finite number above 0"):
        as_real_in(POSITIVE, [1.0, np.inf], "f", "x")


@pytest.mark.parametrize("place", range(3))
def test_one_entry_outside_the_domain_is_refused_at_any_position(place):
    values = [1.0, 2.0, 3.0]
    values[place] = -4.0
    with pytest.raises(InvalidArgument, match="`x` is -4"):
        as_real_in(POSITIVE, values, "f", "x")


def test_no_entries_lie_in_every_domain():
    assert as_real_in(POSITIVE, [], "f", "x").shape == (0,)


class Pair(NamedTuple):
    total: torch.Tensor
    rest: tuple[torch.Tensor, str]


@numpy_in_numpy_out
def summed(x, scale=1.0):
    """Sum."""
    total = as_real(x, "summed", "x").sum() * as_real(scale, "summed", "scale")
    return Pair(total, (total, "word"))


def test_array_arguments_give_arrays_also_in_nested_results():
    for result in (summed(np.array([1.0, 2.0])), summed([1.0, 2.0], scale=np.array(1.0))):
        assert isinstance(result, Pair)
        assert isinstance(result.total, np.ndarray)
        assert isinstance(result.rest[0], np.ndarray)
        assert result.total == 3.0
        assert result.rest[1] == "word"


@pytest.mark.parametrize("given", [[1.0, 2.0], torch.tensor([1.0, 2.0])], ids=["list", "tensor"])
def test_arguments_without_arrays_give_tensors(given):
    assert isinstance(summed(given).total, torch.Tensor)


def test_a_tensor_and_an_array_give_tensors():
    result = summed(np.array([1.0]), scale=torch.tensor(2.0, dtype=torch.float64, requires_grad=True)).total
    assert result.requires_grad


def test_the_wrapped_function_keeps_its_name_and_text():
    assert (summed.__name__, summed.__doc__) == ("summed", "Sum.")


def test_plain_numbers_are_moved_to_the_device_of_the_tensor():
    here, there = torch.zeros(2), torch.zeros(2, device="meta")
    assert [tensor.device.type for tensor in on_one_device(here, there)] == ["meta", "meta"]
    assert [tensor.device.type for tensor in on_one_device(here, here)] == ["cpu", "cpu"]

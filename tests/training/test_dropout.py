"""Dropout that draws places: the same as torch's in what counts."""

from __future__ import annotations

import pytest
import torch

from training.dropout import PoissonDropout

ONES = torch.ones(1000, 1000)


def dropped(seed: int, input: torch.Tensor = ONES) -> torch.Tensor:
    torch.manual_seed(seed)
    return PoissonDropout(0.05)(input) == 0


@pytest.mark.parametrize("p", [0.05, 0.5])
def test_the_share_that_goes_is_p_and_the_rest_makes_up_for_it(p):
    torch.manual_seed(0)
    out = PoissonDropout(p)(ONES)
    assert (out == 0).double().mean() == pytest.approx(p, abs=0.0025)
    assert out.unique().tolist() == pytest.approx([0, 1 / (1 - p)])


def test_the_number_that_goes_varies_as_if_each_element_were_asked():
    counts = torch.tensor([dropped(seed, ONES[:20]).sum().item() for seed in range(200)])
    assert counts.float().mean() == pytest.approx(20_000 * 0.05, abs=10)
    assert counts.float().std() == pytest.approx((20_000 * 0.05 * 0.95) ** 0.5, rel=0.2)


def test_an_element_tells_nothing_of_the_next():
    out = dropped(0)
    assert (out[:, :-1] & out[:, 1:]).double().mean() == pytest.approx(0.05**2, abs=0.0003)


def test_the_gradient_passes_where_the_input_did():
    for dtype in (torch.float32, torch.bfloat16):
        row = torch.ones(64, 64, dtype=dtype, requires_grad=True)
        out = PoissonDropout(0.3)(row.t())  # strides that are not the usual ones
        out.sum().backward()
        assert out.dtype is dtype and row.grad is not None and torch.equal(row.grad.t(), out.detach())


def test_the_seed_decides_and_evaluation_drops_nothing():
    assert torch.equal(dropped(1), dropped(1)) and not torch.equal(dropped(1), dropped(2))
    assert PoissonDropout(0.05).eval()(ONES) is ONES

"""Addressing plan: the blocks of pod addresses that nodes own."""

import pytest

from analysis.addressing import judge_block_sizes, judge_blocks_in_own_range, judge_blocks_owned_once


@pytest.mark.requirement("NET-ADDR-009")
def test_blocks_come_from_the_own_range(plan, facts, require):
    """No cluster hands out addresses from a range that belongs to another cluster."""
    require(judge_blocks_in_own_range(plan, facts.addressing))


@pytest.mark.requirement("NET-ADDR-010")
def test_blocks_have_one_owner(plan, facts, require):
    """Every block of pod addresses has one owner in the whole mesh."""
    require(judge_blocks_owned_once(plan, facts.addressing))


@pytest.mark.requirement("NET-ADDR-011")
def test_blocks_have_the_planned_size(plan, facts, require):
    """Every block of pod addresses has the planned size."""
    require(judge_block_sizes(plan, facts.addressing))
